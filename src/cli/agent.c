#include <cli/agent.h>

#include <stdio.h>
#include <unistd.h>

#include <base/net.h>

#define HEAD_MAX 8192
/* The list of as many states as the daemon lists at all, of the longest names. */
#define ANSWER_MAX ((size_t)32 * 1024 * 1024)

/* Everything but the unreserved characters of RFC 3986 section 2.3, as %XX. */
static clv_status append_escaped(clv_buf *out, const char *text, clv_error *err)
{
    static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789-._~";
    for (const char *c = text; *c != '\0'; c++) {
        if (strchr(unreserved, *c) != NULL)
            CLV_TRY(clv_buf_u8(out, (uint8_t)*c, err));
        else
            CLV_TRY(clv_buf_printf(out, err, "%%%02X", (unsigned char)*c));
    }
    return CLV_OK;
}

clv_status clv_agent_query(clv_buf *path, const char *name, const char *text, clv_error *err)
{
    if (text == NULL)
        return CLV_OK;
    bool first = memchr(path->p, '?', path->n) == NULL;
    CLV_TRY(clv_buf_printf(path, err, "%c%s=", first ? '?' : '&', name));
    return append_escaped(path, text, err);
}

static clv_status send_request(int fd, const char *method, clv_bytes path, const char *headers,
                               clv_bytes body, clv_error *err)
{
    clv_auto(clv_buf) request = CLV_BUF_LIMITED(HEAD_MAX);
    CLV_TRY(clv_buf_printf(&request, err, "%s ", method));
    CLV_TRY(clv_buf_append(&request, path, err));
    CLV_TRY(clv_buf_printf(&request, err,
                           " HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n", headers,
                           body.n));
    CLV_TRY(clv_write_full(fd, clv_buf_bytes(&request), err));
    return clv_write_full(fd, body, err);
}

/* Byte by byte, so that nothing behind the head is taken from the stream. */
static clv_status read_head(int fd, clv_buf *head, clv_error *err)
{
    uint8_t byte;
    while (head->n < 4 || memcmp(head->p + head->n - 4, "\r\n\r\n", 4) != 0) {
        CLV_TRY(clv_read_full(fd, &byte, 1, err));
        CLV_TRY(clv_buf_u8(head, byte, err));
    }
    return CLV_OK;
}

static clv_status body_length(const char *head, size_t *out, clv_error *err)
{
    unsigned long length = 0;
    const char *at = strcasestr(head, "\r\nContent-Length:");
    if (at == NULL || sscanf(at + 2, "%*[^:]: %lu", &length) != 1 || length > ANSWER_MAX)
        return clv_fail(err, CLV_FRAME_FORMAT,
                        "expected an answer of at most %zu bytes from the daemon, found another",
                        ANSWER_MAX);
    *out = length;
    return CLV_OK;
}

static clv_status read_body(int fd, const char *head, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_LIMITED(ANSWER_MAX);
    size_t length;
    uint8_t *room;
    CLV_TRY(body_length(head, &length, err));
    CLV_TRY(clv_buf_reserve(&text, length, &room, err));
    CLV_TRY(clv_read_full(fd, room, length, err));
    text.n = length;
    return clv_json_parse(clv_buf_bytes(&text), ANSWER_MAX, out, err);
}

/* docs/openapi.yaml, "Problem": its code is our slug, its detail our sentence. */
static clv_status fail_as_problem(int fd, const char *head, clv_error *err)
{
    clv_auto(clv_json) problem = NULL;
    CLV_TRY(read_body(fd, head, &problem, err));
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    clv_status status = code != NULL ? clv_status_of_slug(code) : CLV_STATUS_COUNT;
    if (status == CLV_STATUS_COUNT || status == CLV_OK || detail == NULL)
        return clv_fail(err, CLV_FRAME_FORMAT, "the daemon's refusal cannot be read");
    return clv_fail(err, status, "%s", detail);
}

static clv_status exchange(const char *address, const char *method, clv_bytes path,
                           const char *headers, clv_bytes body, int *fd, clv_buf *head,
                           clv_error *err)
{
    clv_address to;
    CLV_TRY(clv_address_parse(address, &to, err));
    CLV_TRY(clv_dial(&to, CLV_AGENT_TIMEOUT_MS, fd, err));
    CLV_TRY(send_request(*fd, method, path, headers, body, err));
    return read_head(*fd, head, err);
}

clv_status clv_agent_call(const char *address, const char *method, const char *path, json_t **out,
                          clv_error *err)
{
    return clv_agent_send(address, method, path, CLV_BYTES(NULL, 0), out, err);
}

clv_status clv_agent_send(const char *address, const char *method, const char *path, clv_bytes body,
                          json_t **out, clv_error *err)
{
    clv_auto(clv_fd) fd = -1;
    clv_auto(clv_buf) head = CLV_BUF_LIMITED(HEAD_MAX);
    const char *text;
    CLV_TRY(exchange(address, method, clv_bytes_of(path), "Connection: close\r\n", body, &fd, &head,
                     err));
    CLV_TRY(clv_buf_text(&head, &text, err));
    if (strncmp(text, "HTTP/1.1 2", 10) != 0)
        return fail_as_problem(fd, text, err);
    return read_body(fd, text, out, err);
}

clv_status clv_agent_stream(const char *address, const char *verb, const char *key,
                            const char *name, int *fd, clv_error *err)
{
    clv_auto(clv_fd) dialed = -1;
    clv_auto(clv_buf) path = CLV_BUF_LIMITED(HEAD_MAX);
    clv_auto(clv_buf) head = CLV_BUF_LIMITED(HEAD_MAX);
    const char *text;
    CLV_TRY(clv_buf_printf(&path, err, "/v1/stream/%s", verb));
    CLV_TRY(clv_agent_query(&path, "name", name, err));
    CLV_TRY(clv_agent_query(&path, "key", key, err));
    CLV_TRY(exchange(address, "POST", clv_buf_bytes(&path),
                     "Connection: Upgrade\r\nUpgrade: claviger-stream\r\n", CLV_BYTES(NULL, 0),
                     &dialed, &head, err));
    CLV_TRY(clv_buf_text(&head, &text, err));
    if (strncmp(text, "HTTP/1.1 101 ", 13) != 0)
        return fail_as_problem(dialed, text, err);
    *fd = dialed;
    dialed = -1;
    return CLV_OK;
}

/* The canonical request of Signature Version 4: steps 1 of "Create a signed AWS API request". */
#include <sim/kms/sigv4.h>

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include <base/crypto.h>

const char *clv_http_header_get(const clv_http_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->header[i].name, name) == 0)
            return request->header[i].value;
    }
    return NULL;
}

static bool unreserved(uint8_t c)
{
    return isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

/* UriEncode() of the guide: everything but A-Z a-z 0-9 - . _ ~, and '/' where it is kept. */
static clv_status uri_encode(clv_buf *out, clv_bytes text, bool keep_slash, clv_error *err)
{
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (unreserved(c) || (keep_slash && c == '/'))
            CLV_TRY(clv_buf_u8(out, c, err));
        else
            CLV_TRY(clv_buf_printf(out, err, "%%%02X", c));
    }
    return CLV_OK;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (uint8_t)tolower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX decoded; a '%' that starts no such triple stands for itself. */
static clv_status uri_decode(clv_buf *out, clv_bytes text, clv_error *err)
{
    for (size_t i = 0; i < text.n; i++) {
        int high = -1, low = -1;
        if (text.p[i] == '%' && i + 2 < text.n) {
            high = hex_digit(text.p[i + 1]);
            low = hex_digit(text.p[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            CLV_TRY(clv_buf_u8(out, (uint8_t)(high * 16 + low), err));
            i += 2;
        } else {
            CLV_TRY(clv_buf_u8(out, text.p[i], err));
        }
    }
    return CLV_OK;
}

/* Split at the first separator; the rest is empty when there is none. */
static bool split(clv_bytes text, char separator, clv_bytes *head, clv_bytes *rest)
{
    const uint8_t *at = text.n > 0 ? memchr(text.p, separator, text.n) : NULL;
    if (at == NULL) {
        *head = text;
        *rest = CLV_BYTES(NULL, 0);
        return false;
    }
    size_t n = (size_t)(at - text.p);
    *head = CLV_BYTES(text.p, n);
    *rest = CLV_BYTES(at + 1, text.n - n - 1);
    return true;
}

#define SEGMENTS_MAX 128

/* RFC 3986 section 5.2.4, empty segments dropped too: for every service but S3. */
static clv_status normalise_path(clv_buf *out, clv_bytes path, clv_error *err)
{
    clv_bytes segment[SEGMENTS_MAX];
    size_t count = 0;
    bool directory = path.n > 0 && path.p[path.n - 1] == '/';
    bool more = path.n > 0;
    while (more) {
        clv_bytes head;
        more = split(path, '/', &head, &path);
        directory = !more ? head.n == 0 || clv_bytes_equal(head, clv_bytes_of(".")) ||
                                clv_bytes_equal(head, clv_bytes_of(".."))
                          : directory;
        if (head.n == 0 || clv_bytes_equal(head, clv_bytes_of(".")))
            continue;
        if (clv_bytes_equal(head, clv_bytes_of(".."))) {
            count -= count > 0 ? 1 : 0;
            continue;
        }
        if (count == SEGMENTS_MAX)
            return clv_fail(err, CLV_KMS_INVALID_SIGNATURE, "expected at most %d path segments",
                            SEGMENTS_MAX);
        segment[count++] = head;
    }
    for (size_t i = 0; i < count; i++) {
        CLV_TRY(clv_buf_u8(out, '/', err));
        CLV_TRY(clv_buf_append(out, segment[i], err));
    }
    return count == 0 || directory ? clv_buf_u8(out, '/', err) : CLV_OK;
}

#define PARAMETERS_MAX 256

typedef struct parameter_list {
    char *pair[PARAMETERS_MAX]; /* name, '\1' in place of '=', value: sorts by name, then value */
    size_t count;
} parameter_list;

static void parameter_list_drop(parameter_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->pair[i]);
    list->count = 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static clv_status add_parameter(parameter_list *list, clv_bytes text, clv_error *err)
{
    clv_bytes name, value;
    split(text, '=', &name, &value);
    clv_auto(clv_buf) plain_name = CLV_BUF_INIT;
    clv_auto(clv_buf) plain_value = CLV_BUF_INIT;
    clv_auto(clv_buf) pair = CLV_BUF_INIT;
    CLV_TRY(uri_decode(&plain_name, name, err));
    CLV_TRY(uri_decode(&plain_value, value, err));
    CLV_TRY(uri_encode(&pair, clv_buf_bytes(&plain_name), false, err));
    CLV_TRY(clv_buf_u8(&pair, '\1', err));
    CLV_TRY(uri_encode(&pair, clv_buf_bytes(&plain_value), false, err));
    if (list->count == PARAMETERS_MAX)
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE, "expected at most %d query parameters",
                        PARAMETERS_MAX);
    CLV_TRY(clv_text_dup(clv_buf_bytes(&pair), &list->pair[list->count], err));
    list->count++;
    return CLV_OK;
}

static clv_status append_query(clv_buf *out, clv_bytes query, clv_error *err)
{
    clv_auto(parameter_list) list = {.count = 0};
    bool more = query.n > 0;
    while (more) {
        clv_bytes text;
        more = split(query, '&', &text, &query);
        if (text.n > 0)
            CLV_TRY(add_parameter(&list, text, err));
    }
    if (list.count > 0)
        qsort(list.pair, list.count, sizeof list.pair[0], by_bytes);
    for (size_t i = 0; i < list.count; i++) {
        *strchr(list.pair[i], '\1') = '=';
        CLV_TRY(clv_buf_printf(out, err, "%s%s", i > 0 ? "&" : "", list.pair[i]));
    }
    return CLV_OK;
}

/* Trim(): no white space around, single spaces inside. */
static clv_status append_trimmed(clv_buf *out, const char *value, clv_error *err)
{
    bool space = false, started = false;
    for (const char *c = value; *c != '\0'; c++) {
        if (isspace((unsigned char)*c)) {
            space = true;
            continue;
        }
        if (space && started)
            CLV_TRY(clv_buf_u8(out, ' ', err));
        CLV_TRY(clv_buf_u8(out, (uint8_t)*c, err));
        space = false;
        started = true;
    }
    return CLV_OK;
}

static bool same_name(const char *name, clv_bytes wanted)
{
    return strlen(name) == wanted.n && strncasecmp(name, (const char *)wanted.p, wanted.n) == 0;
}

static clv_status append_header(clv_buf *out, const clv_http_request *request, clv_bytes name,
                                clv_error *err)
{
    CLV_TRY(clv_buf_append(out, name, err));
    bool found = false;
    for (size_t i = 0; i < request->header_count; i++) {
        if (!same_name(request->header[i].name, name))
            continue;
        CLV_TRY(clv_buf_u8(out, found ? ',' : ':', err));
        CLV_TRY(append_trimmed(out, request->header[i].value, err));
        found = true;
    }
    if (!found)
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "The signed header '%.*s' is not in the request.", (int)name.n,
                        (const char *)name.p);
    return clv_buf_u8(out, '\n', err);
}

clv_status clv_sigv4_canonical_request(const clv_http_request *request,
                                       const clv_sigv4_claim *claim, clv_buf *out, clv_error *err)
{
    clv_bytes path, query;
    split(clv_bytes_of(request->target), '?', &path, &query);
    clv_auto(clv_buf) normal = CLV_BUF_INIT;
    CLV_TRY(normalise_path(&normal, path, err));

    CLV_TRY(clv_buf_printf(out, err, "%s\n", request->method));
    CLV_TRY(uri_encode(out, clv_buf_bytes(&normal), true, err));
    CLV_TRY(clv_buf_u8(out, '\n', err));
    CLV_TRY(append_query(out, query, err));
    CLV_TRY(clv_buf_u8(out, '\n', err));
    clv_bytes rest = claim->signed_headers;
    bool more = rest.n > 0;
    while (more) {
        clv_bytes name;
        more = split(rest, ';', &name, &rest);
        CLV_TRY(append_header(out, request, name, err));
    }
    CLV_TRY(clv_buf_u8(out, '\n', err));
    CLV_TRY(clv_buf_append(out, claim->signed_headers, err));
    CLV_TRY(clv_buf_u8(out, '\n', err));
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(request->body, digest, err));
    return clv_hex_append(out, CLV_BYTES(digest, sizeof digest), err);
}

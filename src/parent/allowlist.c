#include <parent/allowlist.h>

#include <stdlib.h>
#include <strings.h>

#include <yaml.h>

#include <base/file.h>
#include <parent/upstream.h>

#define FILE_MAX ((size_t)256 * 1024)

struct clv_allowlist {
    size_t count;
    struct entry {
        char host[CLV_HOST_MAX + 1];
        uint16_t port;
    } entry[CLV_ALLOWLIST_MAX];
};

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool held; /* event is to be deleted */
} reader;

static void reader_drop(reader *r)
{
    if (r->held)
        yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
}

static clv_status refuse(const reader *r, const char *expected, clv_error *err)
{
    return clv_fail(err, CLV_ALLOWLIST_FORMAT, "line %zu, column %zu: expected %s",
                    r->event.start_mark.line + 1, r->event.start_mark.column + 1, expected);
}

static clv_status next(reader *r, clv_error *err)
{
    if (r->held)
        yaml_event_delete(&r->event);
    r->held = yaml_parser_parse(&r->parser, &r->event) != 0;
    if (r->held)
        return CLV_OK;
    return clv_fail(err, CLV_ALLOWLIST_FORMAT, "line %zu, column %zu: expected YAML: %s",
                    r->parser.problem_mark.line + 1, r->parser.problem_mark.column + 1,
                    r->parser.problem != NULL ? r->parser.problem : "no memory");
}

static clv_status need(reader *r, yaml_event_type_t type, const char *expected, clv_error *err)
{
    CLV_TRY(next(r, err));
    return r->event.type == type ? CLV_OK : refuse(r, expected, err);
}

static const char *scalar(const reader *r)
{
    return (const char *)r->event.data.scalar.value;
}

static clv_status take_host(reader *r, struct entry *e, clv_error *err)
{
    CLV_TRY(need(r, YAML_SCALAR_EVENT, "a host name", err));
    size_t n = r->event.data.scalar.length;
    if (e->host[0] != '\0' || n == 0 || n > CLV_HOST_MAX || strlen(scalar(r)) != n)
        return refuse(r, "one host name of 1 to 253 bytes", err);
    memcpy(e->host, scalar(r), n + 1);
    return CLV_OK;
}

static clv_status take_port(reader *r, struct entry *e, clv_error *err)
{
    CLV_TRY(need(r, YAML_SCALAR_EVENT, "a port", err));
    size_t digits = strspn(scalar(r), "0123456789");
    int port = digits > 0 && digits <= 5 && scalar(r)[digits] == '\0' ? atoi(scalar(r)) : 0;
    if (e->port != 0 || port < 1 || port > UINT16_MAX)
        return refuse(r, "one port from 1 to 65535", err);
    e->port = (uint16_t)port;
    return CLV_OK;
}

/* The mapping has begun. */
static clv_status take_entry(reader *r, struct entry *e, clv_error *err)
{
    for (;;) {
        CLV_TRY(next(r, err));
        if (r->event.type == YAML_MAPPING_END_EVENT)
            break;
        bool key = r->event.type == YAML_SCALAR_EVENT;
        if (key && strcmp(scalar(r), "address") == 0)
            CLV_TRY(take_host(r, e, err));
        else if (key && strcmp(scalar(r), "port") == 0)
            CLV_TRY(take_port(r, e, err));
        else
            return refuse(r, "address or port", err);
    }
    return e->host[0] != '\0' && e->port != 0 ? CLV_OK : refuse(r, "both address and port", err);
}

static clv_status take_entries(reader *r, clv_allowlist *list, clv_error *err)
{
    CLV_TRY(need(r, YAML_SEQUENCE_START_EVENT, "a list of {address, port}", err));
    for (;;) {
        CLV_TRY(next(r, err));
        if (r->event.type == YAML_SEQUENCE_END_EVENT)
            return CLV_OK;
        if (r->event.type != YAML_MAPPING_START_EVENT)
            return refuse(r, "{address, port}", err);
        if (list->count == CLV_ALLOWLIST_MAX)
            return refuse(r, "at most 1024 entries", err);
        CLV_TRY(take_entry(r, &list->entry[list->count], err));
        list->count++;
    }
}

static clv_status take_document(reader *r, clv_allowlist *list, clv_error *err)
{
    CLV_TRY(need(r, YAML_STREAM_START_EVENT, "YAML", err));
    CLV_TRY(need(r, YAML_DOCUMENT_START_EVENT, "a document", err));
    CLV_TRY(need(r, YAML_MAPPING_START_EVENT, "allowlist:", err));
    CLV_TRY(need(r, YAML_SCALAR_EVENT, "allowlist:", err));
    if (strcmp(scalar(r), "allowlist") != 0)
        return refuse(r, "allowlist:", err);
    CLV_TRY(take_entries(r, list, err));
    CLV_TRY(need(r, YAML_MAPPING_END_EVENT, "nothing beside allowlist", err));
    CLV_TRY(need(r, YAML_DOCUMENT_END_EVENT, "the end of the document", err));
    return need(r, YAML_STREAM_END_EVENT, "one document", err);
}

clv_status clv_allowlist_read(const char *path, clv_allowlist **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, FILE_MAX, &text, err));
    clv_auto_ptr(clv_allowlist) list = calloc(1, sizeof *list);
    clv_auto(reader) r = {.held = false};
    if (list == NULL || !yaml_parser_initialize(&r.parser))
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an allowlist");
    yaml_parser_set_input_string(&r.parser, text.p, text.n);
    clv_status status = take_document(&r, list, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s", path);
    *out = list;
    list = NULL;
    return CLV_OK;
}

void clv_allowlist_free(clv_allowlist **list)
{
    free(*list);
    *list = NULL;
}

bool clv_allowlist_has(const clv_allowlist *list, const char *host, uint16_t port)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->entry[i].port == port && strcasecmp(list->entry[i].host, host) == 0)
            return true;
    }
    return false;
}

#include <sim/kms/admin.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/json.h>
#include <sim/kms/audit.h>
#include <sim/kms/caller.h>
#include <sim/kms/faults.h>

#define OFFSET_MAX_MS (INT64_C(20) * 366 * 86400 * 1000)
#define SESSION_MAX_S 129600

/* body: the request's JSON, or NULL. *out: the answer's, or NULL for {}. */
typedef clv_status (*route_function)(clv_kms_server *server, const char *query, const json_t *body,
                                     json_t **out, clv_error *err);

static clv_status get_health(clv_kms_server *server, const char *query, const json_t *body,
                             json_t **out, clv_error *err)
{
    (void)query, (void)body, (void)err;
    *out = json_pack("{s:s, s:s}", "status", "ok", "region", server->region);
    return CLV_OK;
}

static clv_status get_audit(clv_kms_server *server, const char *query, const json_t *body,
                            json_t **out, clv_error *err)
{
    (void)body;
    long long after = 0;
    if (query[0] != '\0' && sscanf(query, "after=%18lld", &after) != 1)
        return clv_fail(err, CLV_USAGE, "expected after=NUMBER, found \"%.64s\"", query);
    return clv_audit_read(server->db, after, out, err);
}

static clv_status get_rules(clv_kms_server *server, const char *query, const json_t *body,
                            json_t **out, clv_error *err)
{
    (void)query, (void)body, (void)err;
    *out = clv_faults_list(server->faults);
    return CLV_OK;
}

static clv_status add_rules(clv_kms_server *server, const char *query, const json_t *body,
                            json_t **out, clv_error *err)
{
    (void)query, (void)out;
    if (!json_is_array(body))
        return clv_faults_add(server->faults, body, err);
    for (size_t i = 0; i < json_array_size(body); i++)
        CLV_TRY(clv_faults_add(server->faults, json_array_get(body, i), err));
    return CLV_OK;
}

static clv_status clear_rules(clv_kms_server *server, const char *query, const json_t *body,
                              json_t **out, clv_error *err)
{
    (void)query, (void)body, (void)out, (void)err;
    clv_faults_clear(server->faults);
    return CLV_OK;
}

static clv_status set_shape(clv_kms_server *server, const char *query, const json_t *body,
                            json_t **out, clv_error *err)
{
    (void)query, (void)out;
    clv_json_reader r;
    const char *name;
    clv_cms_shape shape;
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_text(&r, "shape", &name, err));
    CLV_TRY(clv_json_done(&r, err));
    if (!clv_cms_shape_of(name, &shape))
        return clv_fail(err, CLV_JSON_VALUE, "shape: expected one, many or primitive");
    atomic_store(&server->cms_shape, (int)shape);
    return CLV_OK;
}

static clv_status set_clock(clv_kms_server *server, const char *query, const json_t *body,
                            json_t **out, clv_error *err)
{
    (void)query, (void)out;
    clv_json_reader r;
    int64_t offset;
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_integer(&r, "offset_ms", -OFFSET_MAX_MS, OFFSET_MAX_MS, &offset, err));
    CLV_TRY(clv_json_done(&r, err));
    atomic_store(&server->clock_offset_ms, offset);
    return CLV_OK;
}

static clv_status add_credentials(clv_kms_server *server, const char *query, const json_t *body,
                                  json_t **out, clv_error *err)
{
    (void)query;
    clv_json_reader r;
    clv_new_principal principal = {NULL, NULL, 0};
    int64_t seconds = 0;
    json_t *policy = NULL;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_text(&r, "arn", &principal.arn, err));
    CLV_TRY(clv_json_value(&r, "policy", &policy, err));
    CLV_TRY(clv_json_integer(&r, "session_seconds", 1, SESSION_MAX_S, &seconds, err));
    CLV_TRY(clv_json_done(&r, err));
    if (seconds != 0)
        principal.expires_ms = clv_kms_now(server) + (uint64_t)seconds * 1000;
    if (policy != NULL) {
        CLV_TRY(clv_json_append(&text, policy, err));
        CLV_TRY(clv_buf_text(&text, &principal.policy, err));
    }
    return clv_caller_create(server->db, &principal, out, err);
}

static const struct {
    const char *method, *path;
    route_function run;
} ROUTES[] = {
    {"GET", "/health", get_health},    {"GET", "/audit", get_audit},
    {"GET", "/rules", get_rules},      {"POST", "/rules", add_rules},
    {"DELETE", "/rules", clear_rules}, {"PUT", "/cms", set_shape},
    {"PUT", "/clock", set_clock},      {"POST", "/credentials", add_credentials},
};

static clv_status route(clv_kms_server *server, const clv_http_request *request, json_t **out,
                        clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    size_t n = strcspn(request->target, "?");
    const char *query = request->target[n] == '?' ? request->target + n + 1 : "";
    if (request->body.n > 0)
        CLV_TRY(clv_json_parse(request->body, CLV_REQUEST_BODY_MAX, &body, err));
    for (size_t i = 0; i < sizeof ROUTES / sizeof ROUTES[0]; i++) {
        bool needs_body =
            strcmp(ROUTES[i].method, "GET") != 0 && strcmp(ROUTES[i].method, "DELETE") != 0;
        if (strcmp(ROUTES[i].method, request->method) != 0 || strlen(ROUTES[i].path) != n ||
            strncmp(ROUTES[i].path, request->target, n) != 0)
            continue;
        if (needs_body && body == NULL)
            return clv_fail(err, CLV_JSON_MISSING, "expected a JSON body, found none");
        return ROUTES[i].run(server, query, body, out, err);
    }
    return clv_fail(err, CLV_API_ROUTE, "%.16s %.64s is not a route", request->method,
                    request->target);
}

static unsigned status_of(clv_status code)
{
    if (code == CLV_OK)
        return 200;
    if (code == CLV_API_ROUTE)
        return 404;
    return clv_status_exit(code) == CLV_EXIT_INTERNAL || clv_status_exit(code) == CLV_EXIT_STATE
               ? 500
               : 400;
}

void clv_admin_handle(void *with, const clv_http_request *request, const char *source_ip,
                      clv_reply *reply)
{
    (void)source_ip;
    clv_error found = {0};
    clv_auto(clv_json) answer = NULL;
    clv_status status = route(with, request, &answer, &found);
    if (status != CLV_OK) {
        clv_json_drop(&answer);
        answer = json_pack("{s:s, s:s}", "error", clv_status_slug(status), "message", found.text);
    } else if (answer == NULL) {
        answer = json_object();
    }
    reply->status = status_of(status);
    if (answer == NULL || clv_json_append(&reply->body, answer, NULL) != CLV_OK)
        reply->status = 500;
}

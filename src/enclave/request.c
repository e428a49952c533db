#include <enclave/request.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include <enclave/problem.h>
#include <enclave/stream.h>

void clv_request_drop(clv_request *request)
{
    clv_agents_give_bytes(&request->enclave->agents, request->agent.uid, request->held);
    request->held = 0;
    clv_buf_drop(&request->presented);
    clv_buf_drop(&request->receipt);
    clv_buf_drop(&request->body);
}

void clv_response_drop(clv_response *response)
{
    clv_buf_drop(&response->body);
    clv_stream_free(&response->stream);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clv_request_age_ms(const clv_request *request)
{
    return (now_us() - request->started_us) / 1000;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

clv_status clv_percent_decode(const char *text, char *out, size_t size, clv_error *err)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        int c = (unsigned char)*text;
        if (c == '%') {
            int high = hex_value(text[1]);
            int low = high < 0 ? -1 : hex_value(text[2]);
            c = high * 16 + low;
            if (low < 0 || c == 0)
                return clv_fail(err, CLV_BAD_ENCODING,
                                "expected two hex digits, not 00, after each %%, found \"%.3s\"",
                                text);
            text += 2;
        }
        if (n + 1 >= size)
            return clv_fail(err, CLV_TOO_LARGE, "expected at most %zu bytes, found more", size - 1);
        out[n++] = (char)c;
    }
    out[n] = '\0';
    if (!clv_utf8_valid(CLV_BYTES(out, n)))
        return clv_fail(err, CLV_BAD_ENCODING, "expected UTF-8, found other bytes");
    return CLV_OK;
}

/* The rest of the path where the route ends in "{name}", "" where it fits whole, NULL where not. */
static const char *match_path(const clv_route *route, const char *path)
{
    const char *brace = strchr(route->path, '{');
    if (brace == NULL)
        return strcmp(route->path, path) == 0 ? "" : NULL;
    size_t n = (size_t)(brace - route->path);
    return strncmp(route->path, path, n) == 0 && path[n] != '\0' ? path + n : NULL;
}

static clv_status find_route(clv_request *request, const clv_http_head *head, const char **rest,
                             clv_error *err)
{
    for (const clv_route *route = clv_routes; route->method != NULL; route++) {
        *rest = route->front == head->front ? match_path(route, head->path) : NULL;
        if (*rest == NULL)
            continue;
        if (strcmp(route->method, head->method) == 0) {
            request->route = route;
            request->allow[0] = '\0';
            return CLV_OK;
        }
        size_t n = strlen(request->allow);
        snprintf(request->allow + n, sizeof request->allow - n, "%s%s", n > 0 ? ", " : "",
                 route->method);
    }
    if (request->allow[0] != '\0')
        return clv_fail(err, CLV_API_METHOD, "expected %s, found %.20s", request->allow,
                        head->method);
    return clv_fail(err, CLV_API_ROUTE, "expected a route of docs/openapi.yaml, found %.100s",
                    head->path);
}

static const char *const parameter_name[CLV_PARAMETER_COUNT] = {
    [CLV_PARAMETER_KEY] = "key",
    [CLV_PARAMETER_NAME] = "name",
    [CLV_PARAMETER_PREFIX] = "prefix",
    [CLV_PARAMETER_WAIT] = "wait",
};

static clv_status parameter_of(const clv_route *route, const char *name, clv_parameter *out,
                               clv_error *err)
{
    for (clv_parameter p = 0; p < CLV_PARAMETER_COUNT; p++) {
        if ((route->takes & CLV_TAKES(p)) != 0 && strcmp(parameter_name[p], name) == 0) {
            *out = p;
            return CLV_OK;
        }
    }
    return clv_fail(err, CLV_API_PARAMETER, "the route takes no query parameter \"%.60s\"", name);
}

static clv_status read_wait(clv_request *request, const char *text, clv_error *err)
{
    size_t digits = strspn(text, "0123456789");
    int seconds = digits > 0 && digits <= 2 && text[digits] == '\0' ? atoi(text) : 0;
    if (seconds < 1 || seconds > CLV_WAIT_MAX_S)
        return clv_fail(err, CLV_API_PARAMETER, "wait: expected 1 to %d seconds, found \"%s\"",
                        CLV_WAIT_MAX_S, text);
    request->wait_ms = seconds * 1000;
    return CLV_OK;
}

static clv_status read_query(clv_request *request, const clv_http_head *head, char *key_name,
                             size_t key_size, clv_error *err)
{
    char wait[16] = "";
    char *const to[] = {key_name, request->name, request->prefix, wait};
    const size_t size[] = {key_size, sizeof request->name, sizeof request->prefix, sizeof wait};
    unsigned seen = 0;
    if (head->query_count > CLV_QUERY_MAX)
        return clv_fail(err, CLV_API_PARAMETER, "expected at most %d query parameters, found %zu",
                        CLV_QUERY_MAX, head->query_count);
    for (size_t i = 0; i < head->query_count; i++) {
        clv_parameter p = CLV_PARAMETER_COUNT;
        CLV_TRY(parameter_of(request->route, head->query[i].name, &p, err));
        if ((seen & CLV_TAKES(p)) != 0 || head->query[i].value == NULL)
            return clv_fail(err, CLV_API_PARAMETER, "%s: expected one value, found %s",
                            parameter_name[p], head->query[i].value == NULL ? "none" : "two");
        seen |= CLV_TAKES(p);
        clv_status status = clv_percent_decode(head->query[i].value, to[p], size[p], err);
        if (status != CLV_OK)
            return clv_blame(err, status, "%s", parameter_name[p]);
    }
    for (clv_parameter p = 0; p < CLV_PARAMETER_COUNT; p++) {
        if ((request->route->needs & ~seen & CLV_TAKES(p)) != 0)
            return clv_fail(err, CLV_API_PARAMETER, "%s: expected a value, found nothing",
                            parameter_name[p]);
    }
    return (seen & CLV_TAKES(CLV_PARAMETER_WAIT)) != 0 ? read_wait(request, wait, err) : CLV_OK;
}

/* The key that is named, or the policy's only one. */
static clv_status choose_key(clv_request *request, const char *name, clv_error *err)
{
    const clv_policy *policy = request->enclave->policy;
    if (name[0] == '\0' && request->front != CLV_FRONT_AGENT && request->enclave->front_key != NULL)
        name = request->enclave->front_key;
    if (name[0] == '\0') {
        if (policy->key_count != 1)
            return clv_fail(err, CLV_API_PARAMETER,
                            "key: expected one of the policy's %zu keys, found nothing",
                            policy->key_count);
        request->key = &policy->key[0];
        return CLV_OK;
    }
    request->key = clv_policy_find_key(policy, name);
    if (request->key == NULL)
        return clv_fail(err, CLV_POLICY_NO_KEY, "key: expected a key of the policy, found \"%s\"",
                        name);
    return CLV_OK;
}

static clv_status check_name(clv_request *request, clv_error *err)
{
    if (request->name[0] == '\0')
        return CLV_OK;
    CLV_TRY(clv_state_name_check(request->name, err));
    snprintf(request->full_name, sizeof request->full_name, "%s/%s", request->key->name,
             request->name);
    clv_status status = clv_state_name_check(request->full_name, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "with its key in front");
}

/* An ETag of ours: a generation in double quotes. */
static clv_status read_etag(const char *header, const char *text, uint64_t *out, clv_error *err)
{
    char digits[20];
    unsigned long long generation = 0;
    int used = 0;
    if (sscanf(text, "\"%19[0-9]\"%n", digits, &used) == 1 && used > 0 && text[used] == '\0')
        sscanf(digits, "%llu", &generation);
    if (generation == 0 || generation > CLV_GENERATION_MAX)
        return clv_fail(err, CLV_API_PARAMETER,
                        "%s: expected an ETag such as \"7\" in quotes, found %.40s", header, text);
    *out = generation;
    return CLV_OK;
}

static clv_status read_conditions(clv_request *request, const clv_http_head *head, clv_error *err)
{
    const struct {
        const char *name, *value;
        unsigned bit;
    } given[] = {{"If-Match", head->if_match, CLV_IF_MATCH},
                 {"If-None-Match", head->if_none_match, CLV_IF_NONE_MATCH}};
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        if (given[i].value != NULL && (request->route->conditions & given[i].bit) == 0)
            return clv_fail(err, CLV_API_PARAMETER, "the route takes no header %s", given[i].name);
    }
    if (head->if_match != NULL) {
        request->if_match = true;
        CLV_TRY(read_etag("If-Match", head->if_match, &request->match_generation, err));
    }
    if (head->if_none_match == NULL)
        return CLV_OK;
    if ((request->route->takes & CLV_TAKES(CLV_PARAMETER_WAIT)) != 0) {
        if (head->if_match != NULL)
            return clv_fail(err, CLV_API_PARAMETER,
                            "expected If-Match or If-None-Match, found both");
        request->if_none_match = true;
        return read_etag("If-None-Match", head->if_none_match, &request->match_generation, err);
    }
    if (strcmp(head->if_none_match, "*") != 0 || head->if_match != NULL)
        return clv_fail(err, CLV_API_PARAMETER,
                        "If-None-Match: expected * and no If-Match, found %.40s",
                        head->if_none_match);
    request->create_only = true;
    return CLV_OK;
}

/* The media type, whatever parameters follow it (RFC 9110 section 8.3.1). */
static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return strncasecmp(content_type, json, n) == 0 && strchr("; \t", content_type[n]) != NULL;
}

static clv_status check_body_head(const clv_route *route, const clv_http_head *head, clv_error *err)
{
    /* The library has refused a Content-Length that is not a number. */
    unsigned long long length = 0;
    if (head->content_length != NULL &&
        (sscanf(head->content_length, "%llu", &length) != 1 || length > route->body_max))
        return clv_fail(err, CLV_TOO_LARGE, "expected a body of at most %zu bytes, found %.24s",
                        route->body_max, head->content_length);
    if (route->stream &&
        (head->upgrade == NULL || strcasecmp(head->upgrade, CLV_STREAM_PROTOCOL) != 0))
        return clv_fail(err, CLV_API_PARAMETER, "Upgrade: expected %s, found %.40s",
                        CLV_STREAM_PROTOCOL, head->upgrade != NULL ? head->upgrade : "nothing");
    if (route->json && head->content_type != NULL && !is_json(head->content_type))
        return clv_fail(err, CLV_API_MEDIA_TYPE, "expected application/json, found %.60s",
                        head->content_type);
    return CLV_OK;
}

/* Only where the policy's table cannot judge this agent without. What cannot be measured is not
 * what a row names: the denial says so. */
static void measure_executable(clv_request *request)
{
    clv_enclave *enclave = request->enclave;
    clv_agent *agent = &request->agent;
    const clv_policy_agent *row = clv_policy_exe_row(enclave->policy, agent->uid, agent->gid);
    clv_error problem = {.code = CLV_OK};
    if (row == NULL)
        return;
    agent->exe_measured =
        clv_executables_measure(&enclave->executables, (size_t)(row - enclave->policy->agent),
                                agent->socket, agent->exe_sha256, &problem) == CLV_OK;
    if (!agent->exe_measured)
        clv_log_failure(CLV_LOG_WARNING, "api.not_measured", request->operation, &problem);
}

/*
 * Where the body has the path, the route judges (keys.c), and its denial names the path. What is
 * decided here is whether the body is kept: a large one not for an agent that lacks the verb for
 * every path.
 */
static clv_status check_capability(const clv_request *request, clv_error *err)
{
    const clv_route *route = request->route;
    clv_caller caller = clv_agent_caller(&request->agent);
    const clv_policy *policy = request->enclave->policy;
    const char *on = request->name[0] != '\0' ? request->name : request->prefix;
    if (route->verb != NULL)
        return clv_policy_allow(policy, &caller, route->verb, request->key->name, on, err);
    if (route->verb_in_body == NULL || route->body_max <= CLV_BODY_SMALL)
        return CLV_OK;
    return clv_policy_allow(policy, &caller, route->verb_in_body, request->key->name, NULL, err);
}

clv_status clv_request_begin(clv_request *request, clv_enclave *enclave, const clv_agent *agent,
                             const clv_http_head *head, clv_error *err)
{
    *request = (clv_request){
        .enclave = enclave, .front = head->front, .agent = *agent, .started_us = now_us()};
    clv_operation_id(request->operation);
    const char *rest = NULL;
    char key_name[CLV_POLICY_NAME_MAX + 1] = "";
    CLV_TRY(find_route(request, head, &rest, err));
    if (request->route->metered) {
        CLV_TRY(clv_agents_take_request(&enclave->agents, agent->uid, err));
        measure_executable(request);
    }
    CLV_TRY(read_query(request, head, key_name, sizeof key_name, err));
    if (rest[0] != '\0') {
        clv_status status = clv_percent_decode(rest, request->name, sizeof request->name, err);
        if (status != CLV_OK)
            return clv_blame(err, status, "name");
    }
    CLV_TRY(read_conditions(request, head, err));
    if (head->receipts != NULL)
        CLV_TRY(clv_buf_append_text(&request->presented, head->receipts, err));
    CLV_TRY(check_body_head(request->route, head, err));
    if ((request->route->takes & CLV_TAKES(CLV_PARAMETER_KEY)) != 0)
        CLV_TRY(choose_key(request, key_name, err));
    CLV_TRY(check_name(request, err));
    return check_capability(request, err);
}

static size_t size_for_body(const clv_request *request)
{
    unsigned copies = request->route->copies;
    return request->body.capacity * (copies > 1 ? copies : 1);
}

/* A request that waits holds nothing yet: see clv_agents_await_bytes(). */
clv_status clv_request_hold(clv_request *request, size_t n, clv_error *err)
{
    clv_agents *agents = &request->enclave->agents;
    CLV_TRY(request->held == 0 ? clv_agents_await_bytes(agents, request->agent.uid, n, err)
                               : clv_agents_take_bytes(agents, request->agent.uid, n, err));
    request->held += n;
    return CLV_OK;
}

void clv_request_hold_only(clv_request *request, size_t n)
{
    if (n >= request->held)
        return;
    clv_agents_give_bytes(&request->enclave->agents, request->agent.uid, request->held - n);
    request->held = n;
}

clv_status clv_request_body(clv_request *request, clv_bytes piece, clv_error *err)
{
    size_t max = request->route->body_max;
    if (piece.n > max - request->body.n)
        return clv_fail(err, CLV_TOO_LARGE, "expected a body of at most %zu bytes, found more",
                        max);
    request->body.limit = max;
    CLV_TRY(clv_buf_append(&request->body, piece, err));
    size_t needed = size_for_body(request);
    if (needed <= request->held)
        return CLV_OK;
    CLV_TRY(clv_agents_take_bytes(&request->enclave->agents, request->agent.uid,
                                  needed - request->held, err));
    request->held = needed;
    return CLV_OK;
}

/* Count and log an answer; problem is NULL when it is not one. */
static void finish(clv_request *request, const clv_response *response, const clv_error *problem)
{
    static const clv_route none = {.method = "?", .path = "?"};
    clv_metrics *metrics = &request->enclave->metrics;
    const clv_route *route = request->route != NULL ? request->route : &none;
    unsigned long us = (unsigned long)(now_us() - request->started_us);
    clv_metrics_answer(route == &none ? &metrics->unrouted : &metrics->route[route - clv_routes],
                       response->status, us);

    char answer[256];
    snprintf(answer, sizeof answer, "%s %s name \"%s\" uid %u pid %d: %u in %lu us", route->method,
             route->path, request->name, request->agent.uid, request->agent.pid, response->status,
             us);
    if (problem == NULL) {
        clv_log(route->works ? CLV_LOG_INFO : CLV_LOG_DEBUG, "api.answered", request->operation,
                "%s", answer);
        return;
    }
    if (problem->code == CLV_CAPABILITY_MISSING || problem->code == CLV_AGENT_UNKNOWN)
        atomic_fetch_add(&metrics->denied, 1);
    clv_log(CLV_LOG_WARNING, "api.refused", request->operation, "%s, %s: %s", answer,
            clv_status_slug(problem->code), problem->text);
}

void clv_request_refuse(clv_request *request, clv_response *response, const clv_error *problem)
{
    clv_buf_drop(&response->body);
    *response = (clv_response)CLV_RESPONSE_INIT;
    response->status = clv_http_status(problem->code);
    response->media_type = CLV_PROBLEM_MEDIA_TYPE;
    memcpy(response->allow, request->allow, sizeof response->allow);
    if (clv_problem_append(&response->body, response->status, problem, request->operation,
                           request->front == CLV_FRONT_DSTACK, NULL) != CLV_OK)
        response->status = 500;
    finish(request, response, problem);
}

static clv_status serve_once(clv_request *request, clv_response *response, clv_error *err)
{
    clv_buf_drop(&response->body);
    *response = (clv_response)CLV_RESPONSE_INIT;
    clv_request_hold_only(request, size_for_body(request));
    request->receipt.n = 0;
    return request->route->serve(request, response, err);
}

static clv_status serve(clv_request *request, clv_response *response, clv_error *err)
{
    clv_status status = serve_once(request, response, err);
    /* Nothing was stored or answered yet: with new credentials the whole route runs again. */
    if (clv_keeper_can_help(status) && clv_keeper_refresh(request->enclave->keeper, NULL) == CLV_OK)
        status = serve_once(request, response, err);
    return status;
}

clv_status clv_request_begin_turn(clv_request *request, clv_error *err)
{
    if (request->at_work)
        return CLV_OK;
    CLV_TRY(clv_agents_begin_work(&request->enclave->agents, request->agent.uid, err));
    request->at_work = true;
    return CLV_OK;
}

void clv_request_end_turn(clv_request *request)
{
    if (request->at_work)
        clv_agents_end_work(&request->enclave->agents, request->agent.uid);
    request->at_work = false;
}

static clv_status serve_in_turn(clv_request *request, clv_response *response, clv_error *err)
{
    if (request->route->works)
        CLV_TRY(clv_request_begin_turn(request, err));
    clv_status status = serve(request, response, err);
    clv_request_end_turn(request);
    return status;
}

void clv_request_serve(clv_request *request, clv_response *response)
{
    clv_error err = {0};
    clv_status status = serve_in_turn(request, response, &err);
    /* What is held from here on is the answer, until the agent has taken it. */
    clv_buf_drop(&request->body);
    clv_request_hold_only(request, response->body.capacity);
    if (status != CLV_OK)
        clv_request_refuse(request, response, &err);
    else
        finish(request, response, NULL);
}

clv_status clv_response_json(clv_response *response, json_t *json, clv_error *err)
{
    clv_auto(clv_json) owned = json;
    if (owned == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an answer");
    response->media_type = "application/json";
    return clv_json_append(&response->body, owned, err);
}

clv_status clv_response_member(json_t *object, const char *name, json_t *value, clv_error *err)
{
    if (json_object_set_new(object, name, value) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an answer");
    return CLV_OK;
}

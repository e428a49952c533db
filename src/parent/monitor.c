#include <parent/monitor.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include <microhttpd.h>

#include <base/clock.h>

#define CONNECTIONS 32
#define TIMEOUT_S   10
#define HEAD_MEMORY ((size_t)8 * 1024)

struct clv_monitor {
    clv_watched watched;
    struct MHD_Daemon *daemon;
};

/* -- Prometheus -------------------------------------------------------------------------------- */

static clv_status heading(clv_buf *out, const char *name, const char *type, const char *help,
                          clv_error *err)
{
    return clv_buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static clv_status single(clv_buf *out, const char *name, const char *type, const char *help,
                         uint64_t value, clv_error *err)
{
    CLV_TRY(heading(out, name, type, help, err));
    return clv_buf_printf(out, err, "%s %" PRIu64 "\n", name, value);
}

typedef struct labelled {
    const char *label;
    uint64_t value;
} labelled;

static clv_status family(clv_buf *out, const char *name, const char *help, const char *label,
                         const labelled *row, size_t rows, clv_error *err)
{
    CLV_TRY(heading(out, name, "counter", help, err));
    for (size_t i = 0; i < rows; i++)
        CLV_TRY(clv_buf_printf(out, err, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, row[i].label,
                               row[i].value));
    return CLV_OK;
}

static clv_status relay_text(clv_relay *relay, clv_buf *out, clv_error *err)
{
    clv_relay_counts n;
    clv_relay_count(relay, &n);
    const labelled closed[] = {{"ended", n.ended}, {"broken", n.broken}, {"idle", n.idle}};
    const labelled refused[] = {{"limit", n.refused_limit},
                                {"allowlist", n.refused_allowlist},
                                {"upstream", n.refused_upstream}};
    const labelled bytes[] = {{"up", n.bytes_up}, {"down", n.bytes_down}};
    CLV_TRY(single(out, "claviger_relay_connections", "gauge", "Relayed connections that are open.",
                   n.active, err));
    CLV_TRY(single(out, "claviger_relay_accepted_total", "counter",
                   "Connections that the relay took.", n.accepted, err));
    CLV_TRY(family(out, "claviger_relay_closed_total", "Connections that are over, by how.", "how",
                   closed, 3, err));
    CLV_TRY(family(out, "claviger_relay_refused_total", "Connections refused, by why.", "why",
                   refused, 3, err));
    return family(out, "claviger_relay_bytes_total", "Bytes to and from upstreams.", "direction",
                  bytes, 2, err);
}

static clv_status services_text(const clv_parent *parent, clv_buf *out, clv_error *err)
{
    labelled calls[CLV_SERVICES + 1], faults[CLV_SERVICES + 1];
    for (size_t i = 0; i <= CLV_SERVICES; i++) {
        const clv_service_count *count = i < CLV_SERVICES ? &parent->count[i] : &parent->unknown;
        const char *name = i < CLV_SERVICES ? clv_service_name(i) : "unknown";
        calls[i] = (labelled){name, count->calls};
        faults[i] = (labelled){name, count->faults};
    }
    CLV_TRY(family(out, "claviger_service_calls_total", "Calls of the enclave.", "call", calls,
                   CLV_SERVICES + 1, err));
    return family(out, "claviger_service_faults_total",
                  "Calls of the enclave that were answered with a fault.", "call", faults,
                  CLV_SERVICES + 1, err);
}

static clv_status credentials_text(clv_provider *provider, clv_buf *out, clv_error *err)
{
    clv_provider_report r;
    clv_provider_tell(provider, &r);
    CLV_TRY(single(out, "claviger_credentials_valid", "gauge",
                   "Whether there are credentials that have not expired.", r.valid, err));
    CLV_TRY(single(out, "claviger_credentials_expire_seconds", "gauge",
                   "When they expire, in seconds since 1970; 0: never, or not known.",
                   r.expires_ms / 1000, err));
    CLV_TRY(single(out, "claviger_credentials_fetches_total", "counter",
                   "Times the source was asked.", r.fetches, err));
    return single(out, "claviger_credentials_failures_total", "counter",
                  "Times it gave no credentials.", r.failures, err);
}

static clv_status metrics(const clv_watched *w, clv_buf *out, const char **type, clv_error *err)
{
    *type = "text/plain; version=0.0.4; charset=utf-8";
    CLV_TRY(relay_text(w->relay, out, err));
    CLV_TRY(services_text(w->parent, out, err));
    return credentials_text(w->parent->credentials, out, err);
}

/* -- JSON -------------------------------------------------------------------------------------- */

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* Absent where there is none. */
static void set_time(json_t *object, const char *name, uint64_t ms)
{
    char text[CLV_TIME_TEXT_SIZE];
    if (ms == 0)
        return;
    clv_time_text(ms, text);
    json_object_set_new(object, name, json_string(text));
}

static json_t *relay_json(clv_relay *relay)
{
    clv_relay_counts n;
    clv_relay_count(relay, &n);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "rules",
                     clv_relay_rules_json(relay), "active", integer(n.active), "accepted",
                     integer(n.accepted), "ended", integer(n.ended), "broken", integer(n.broken),
                     "idle", integer(n.idle), "refused_limit", integer(n.refused_limit),
                     "refused_allowlist", integer(n.refused_allowlist), "refused_upstream",
                     integer(n.refused_upstream), "bytes_up", integer(n.bytes_up), "bytes_down",
                     integer(n.bytes_down));
}

static json_t *credentials_json(clv_provider *provider)
{
    clv_provider_report r;
    clv_provider_tell(provider, &r);
    json_t *object = json_pack("{s:s, s:b, s:o, s:o}", "source", r.source, "valid", r.valid,
                               "fetches", integer(r.fetches), "failures", integer(r.failures));
    set_time(object, "expires", r.expires_ms);
    set_time(object, "failed", r.failed_ms);
    if (r.failure[0] != '\0')
        json_object_set_new(object, "failure", json_string(r.failure));
    return object;
}

static json_t *services_json(const clv_parent *parent)
{
    json_t *object = json_object();
    for (size_t i = 0; i < CLV_SERVICES; i++)
        json_object_set_new(object, clv_service_name(i),
                            json_pack("{s:o, s:o}", "calls", integer(parent->count[i].calls),
                                      "faults", integer(parent->count[i].faults)));
    return object;
}

static json_t *store_json(const clv_watched *w)
{
    pthread_mutex_lock(&w->parent->lock);
    int64_t generation = w->parent->stored_generation;
    uint64_t stored_ms = w->parent->stored_ms;
    pthread_mutex_unlock(&w->parent->lock);
    json_t *object =
        json_pack("{s:s, s:I}", "engine", w->engine, "generation", (json_int_t)generation);
    set_time(object, "stored", stored_ms);
    return object;
}

static clv_status status(const clv_watched *w, clv_buf *out, const char **type, clv_error *err)
{
    *type = "application/json";
    clv_auto(clv_json) json =
        json_pack("{s:s, s:s, s:i, s:o, s:o, s:o, s:o, s:o}", "program", "claviger-parent",
                  "version", w->version, "pid", (int)getpid(), "uptime_s",
                  integer((clv_monotonic_ms() - w->started_ms) / 1000), "credentials",
                  credentials_json(w->parent->credentials), "relay", relay_json(w->relay),
                  "services", services_json(w->parent), "store", store_json(w));
    if (json == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the status");
    return clv_json_append(out, json, err);
}

static clv_status health(const clv_watched *w, clv_buf *out, const char **type, clv_error *err)
{
    (void)w;
    *type = "text/plain";
    return clv_buf_append_text(out, "alive\n", err);
}

/* -- HTTP -------------------------------------------------------------------------------------- */

static const struct {
    const char *path;
    clv_status (*answer)(const clv_watched *w, clv_buf *out, const char **type, clv_error *err);
} page_table[] = {{"/metrics", metrics}, {"/status", status}, {"/healthz", health}};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned code, const char *type,
                              const clv_buf *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->n, body->p, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    enum MHD_Result result = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    if (result == MHD_YES)
        result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

/* A body that is sent with a question is left unread: the connection ends behind the answer. */
static enum MHD_Result on_request(void *with, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *http, const char *data, size_t *n,
                                  void **context)
{
    (void)http, (void)data, (void)n, (void)context;
    const clv_monitor *monitor = with;
    clv_auto(clv_buf) body = CLV_BUF_INIT;
    const char *type = "text/plain";
    if (strcmp(method, "GET") != 0)
        return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, type, &body);
    for (size_t i = 0; i < sizeof page_table / sizeof page_table[0]; i++) {
        if (strcmp(page_table[i].path, path) != 0)
            continue;
        if (page_table[i].answer(&monitor->watched, &body, &type, NULL) != CLV_OK)
            return answer(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, type, &body);
        return answer(connection, MHD_HTTP_OK, type, &body);
    }
    return answer(connection, MHD_HTTP_NOT_FOUND, type, &body);
}

clv_status clv_monitor_start(const char *text, const clv_watched *watched, clv_monitor **out,
                             clv_address *bound, clv_error *err)
{
    clv_address address;
    clv_auto(clv_fd) fd = -1;
    CLV_TRY(clv_address_parse(text, &address, err));
    CLV_TRY(clv_listen(&address, 0660, &fd, bound, err));
    clv_monitor *monitor = calloc(1, sizeof *monitor);
    if (monitor == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the metrics");
    monitor->watched = *watched;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC;
    monitor->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, monitor, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_MEMORY, MHD_OPTION_END);
    if (monitor->daemon == NULL) {
        free(monitor);
        return clv_fail(err, CLV_SYSTEM, "%s: the metrics cannot be served: %m", text);
    }
    fd = -1;
    *out = monitor;
    return CLV_OK;
}

void clv_monitor_free(clv_monitor **monitor)
{
    if (*monitor == NULL)
        return;
    MHD_stop_daemon((*monitor)->daemon);
    free(*monitor);
    *monitor = NULL;
}

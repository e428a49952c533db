#include <enclave/api.h>

#include <stdlib.h>
#include <sys/socket.h>

#include <microhttpd.h>

#include <enclave/stream.h>

#define HEAD_MEMORY    ((size_t)32 * 1024) /* request line and headers of one connection */
#define RECEIPT_HEADER "Claviger-Receipt"
#define STACK_BYTES    ((size_t)512 * 1024)

struct clv_api {
    clv_enclave *enclave;
    clv_front front;
    struct MHD_Daemon *daemon;
};

/* What is known of a connection from the moment it is accepted. */
typedef struct peer {
    clv_agent agent;
} peer;

/* One request and its answer. */
typedef struct exchange {
    clv_request request;
    clv_error refusal;  /* answered once the body has come */
    clv_stream *stream; /* what the connection becomes, until it is that */
} exchange;

__attribute__((format(printf, 2, 0))) static void log_library(void *with, const char *format,
                                                              va_list args)
{
    (void)with;
    char line[256];
    vsnprintf(line, sizeof line, format, args);
    clv_log(CLV_LOG_DEBUG, "api.library", NULL, "%s", line);
}

/* Escapes are decoded, strictly, by the request's reader. */
static size_t leave_escaped(void *with, struct MHD_Connection *connection, char *text)
{
    (void)with;
    (void)connection;
    return strlen(text);
}

static int socket_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL ? info->connect_fd : -1;
}

static peer *greet(clv_api *api, int fd)
{
    clv_error err = {0};
    clv_agent agent;
    if (clv_agent_of_socket(fd, &agent, &err) != CLV_OK) {
        clv_log_failure(CLV_LOG_WARNING, "api.peer", NULL, &err);
        return NULL;
    }
    if (!clv_agents_connect(&api->enclave->agents, agent.uid)) {
        atomic_fetch_add(&api->enclave->metrics.turned_away, 1);
        return NULL;
    }
    peer *at = malloc(sizeof *at);
    if (at == NULL) {
        clv_agents_disconnect(&api->enclave->agents, agent.uid);
        return NULL;
    }
    at->agent = agent;
    return at;
}

static void on_connection(void *with, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    clv_api *api = with;
    peer *at = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = at = greet(api, socket_of(connection));
        if (at == NULL)
            shutdown(socket_of(connection), SHUT_RDWR);
        else
            atomic_fetch_add(&api->enclave->metrics.connections, 1);
        return;
    }
    if (at != NULL) {
        clv_agents_disconnect(&api->enclave->agents, at->agent.uid);
        atomic_fetch_sub(&api->enclave->metrics.connections, 1);
        free(at);
        *context = NULL;
    }
}

static void on_completed(void *with, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode how)
{
    (void)with;
    (void)connection;
    (void)how;
    exchange *x = *context;
    if (x == NULL)
        return;
    clv_request_drop(&x->request);
    clv_stream_free(&x->stream);
    free(x);
    *context = NULL;
}

static enum MHD_Result take_parameter(void *to, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    (void)kind;
    clv_http_head *head = to;
    if (head->query_count < CLV_QUERY_MAX)
        head->query[head->query_count] = (struct clv_http_parameter){name, value};
    head->query_count++;
    return MHD_YES;
}

static void read_head(struct MHD_Connection *connection, const char *path, const char *method,
                      clv_http_head *out)
{
    *out = (clv_http_head){.method = method, .path = path};
    MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, take_parameter, out);
    const struct {
        const char *name, **to;
    } wanted[] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, &out->content_type},
        {MHD_HTTP_HEADER_CONTENT_LENGTH, &out->content_length},
        {MHD_HTTP_HEADER_IF_MATCH, &out->if_match},
        {MHD_HTTP_HEADER_IF_NONE_MATCH, &out->if_none_match},
        {MHD_HTTP_HEADER_UPGRADE, &out->upgrade},
        {RECEIPT_HEADER, &out->receipts},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        *wanted[i].to = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, wanted[i].name);
}

static void drop_moved(void *moved)
{
    clv_buf_drop(moved);
    free(moved);
}

/* A response of the library that owns the body and wipes it when it is sent. */
static struct MHD_Response *wrap_body(clv_response *response)
{
    clv_buf *moved = malloc(sizeof *moved);
    if (moved == NULL)
        return NULL;
    *moved = response->body;
    response->body = (clv_buf)CLV_BUF_INIT;
    struct MHD_Response *wrapped = MHD_create_response_from_buffer_with_free_callback_cls(
        moved->n, moved->p, drop_moved, moved);
    if (wrapped == NULL)
        drop_moved(moved);
    return wrapped;
}

static enum MHD_Result send_answer(struct MHD_Connection *connection, clv_request *request,
                                   clv_response *response)
{
    char etag[24];
    const char *receipt = NULL;
    if (clv_buf_text(&request->receipt, &receipt, NULL) != CLV_OK)
        return MHD_NO;
    struct MHD_Response *wrapped = wrap_body(response);
    if (wrapped == NULL)
        return MHD_NO;
    snprintf(etag, sizeof etag, "\"%llu\"", (unsigned long long)response->generation);
    const struct {
        const char *name, *value;
        bool when;
    } header[] = {
        {MHD_HTTP_HEADER_CONTENT_TYPE, response->media_type, response->media_type != NULL},
        {MHD_HTTP_HEADER_ETAG, etag, response->generation != 0},
        {MHD_HTTP_HEADER_ALLOW, response->allow, response->allow[0] != '\0'},
        {MHD_HTTP_HEADER_CACHE_CONTROL, "no-store", true},
        {"Claviger-Operation", request->operation, true},
        {RECEIPT_HEADER, receipt, receipt[0] != '\0'},
    };
    enum MHD_Result result = MHD_YES;
    for (size_t i = 0; i < sizeof header / sizeof header[0] && result == MHD_YES; i++) {
        if (header[i].when)
            result = MHD_add_response_header(wrapped, header[i].name, header[i].value);
    }
    if (result == MHD_YES)
        result = MHD_queue_response(connection, response->status, wrapped);
    MHD_destroy_response(wrapped);
    return result;
}

/* On the connection's own thread; an agent waits for the 101 before it sends more. */
static void on_upgrade(void *with, struct MHD_Connection *connection, void *context,
                       const char *early, size_t early_n, MHD_socket fd,
                       struct MHD_UpgradeResponseHandle *handle)
{
    (void)with;
    (void)connection;
    (void)early;
    exchange *x = context;
    if (early_n == 0)
        clv_stream_run(x->stream, fd);
    clv_stream_free(&x->stream);
    MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
}

static enum MHD_Result upgrade(struct MHD_Connection *connection, exchange *x,
                               clv_response *response)
{
    struct MHD_Response *wrapped = MHD_create_response_for_upgrade(on_upgrade, NULL);
    if (wrapped == NULL)
        return MHD_NO;
    x->stream = response->stream;
    response->stream = NULL;
    enum MHD_Result result =
        MHD_add_response_header(wrapped, MHD_HTTP_HEADER_UPGRADE, CLV_STREAM_PROTOCOL);
    if (result == MHD_YES)
        result = MHD_queue_response(connection, response->status, wrapped);
    MHD_destroy_response(wrapped);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, exchange *x,
                              const clv_error *problem)
{
    clv_auto(clv_response) response = CLV_RESPONSE_INIT;
    clv_request_refuse(&x->request, &response, problem);
    return send_answer(connection, &x->request, &response);
}

static enum MHD_Result begin(clv_api *api, struct MHD_Connection *connection, const char *path,
                             const char *method, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    const peer *at = info != NULL ? info->socket_context : NULL;
    exchange *x = at != NULL ? calloc(1, sizeof *x) : NULL;
    if (x == NULL)
        return MHD_NO;
    *context = x;
    clv_http_head head;
    clv_error err = {0};
    read_head(connection, path, method, &head);
    head.front = api->front;
    if (clv_request_begin(&x->request, api->enclave, &at->agent, &head, &err) == CLV_OK)
        return MHD_YES;
    /* A client that waits for "100 Continue" is told at once. One that is sending already would
     * lose the answer to a connection reset: it is answered when its body has been thrown away. */
    if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT) != NULL)
        return refuse(connection, x, &err);
    x->refusal = err;
    return MHD_YES;
}

/* Too slow: the connection is closed. Refused: the rest is thrown away as it comes. */
static enum MHD_Result take_body(exchange *x, const char *data, size_t n)
{
    if (clv_request_age_ms(&x->request) > CLV_API_BODY_MS)
        return MHD_NO;
    if (x->refusal.code == CLV_OK &&
        clv_request_body(&x->request, CLV_BYTES(data, n), &x->refusal) != CLV_OK)
        clv_request_drop(&x->request);
    return MHD_YES;
}

static enum MHD_Result on_request(void *with, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *n, void **context)
{
    (void)version;
    exchange *x = *context;
    if (x == NULL)
        return begin(with, connection, path, method, context);
    if (*n > 0) {
        size_t taken = *n;
        *n = 0;
        return take_body(x, data, taken);
    }
    if (x->refusal.code != CLV_OK)
        return refuse(connection, x, &x->refusal);
    clv_auto(clv_response) response = CLV_RESPONSE_INIT;
    clv_request_serve(&x->request, &response);
    if (response.stream != NULL)
        return upgrade(connection, x, &response);
    return send_answer(connection, &x->request, &response);
}

clv_status clv_api_start(clv_enclave *enclave, clv_front front, int listen_fd, clv_api **out,
                         clv_error *err)
{
    clv_api *api = calloc(1, sizeof *api);
    if (api == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the agents' API");
    api->enclave = enclave;
    api->front = front;
    /* No Date header: the wall clock in an enclave drifts, and nobody needs it. */
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                     MHD_USE_POLL | MHD_USE_ITC | MHD_USE_ERROR_LOG |
                     MHD_USE_SUPPRESS_DATE_NO_CLOCK | MHD_ALLOW_UPGRADE;
    api->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, api, MHD_OPTION_EXTERNAL_LOGGER, log_library, NULL,
        MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CLV_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CLV_API_IDLE_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEAD_MEMORY, MHD_OPTION_THREAD_STACK_SIZE, STACK_BYTES,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, api, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        api, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
    if (api->daemon == NULL) {
        free(api);
        return clv_fail(err, CLV_SYSTEM, "the agents' API cannot start: %m");
    }
    *out = api;
    return CLV_OK;
}

void clv_api_free(clv_api **api)
{
    if (*api == NULL)
        return;
    clv_streams_end(&(*api)->enclave->streams);
    MHD_stop_daemon((*api)->daemon);
    free(*api);
    *api = NULL;
}

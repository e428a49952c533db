#include <sim/kms/server.h>

#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256
#define IDLE_SECONDS    60
#define HEADER_MEMORY   (64 * 1024)
#define TLS_PRIORITIES  "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

struct clv_listener {
    struct MHD_Daemon *daemon;
    clv_listener_options options;
    gnutls_datum_t ticket_key; /* of session tickets: KMS resumes sessions too */
};

/* A request that is arriving. */
typedef struct exchange {
    char *target;
    clv_buf body;
    bool started;
    bool too_large;
} exchange;

/* The request line as it came: signatures are over the bytes that the client sent. */
static void *note_target(void *with, const char *uri, struct MHD_Connection *connection)
{
    (void)with, (void)connection;
    exchange *e = calloc(1, sizeof *e);
    if (e == NULL)
        return NULL;
    e->body = (clv_buf)CLV_BUF_LIMITED(CLV_REQUEST_BODY_MAX);
    if (clv_text_dup(clv_bytes_of(uri), &e->target, NULL) != CLV_OK) {
        free(e);
        return NULL;
    }
    return e;
}

static void forget(void *with, struct MHD_Connection *connection, void **state,
                   enum MHD_RequestTerminationCode why)
{
    (void)with, (void)connection, (void)why;
    exchange *e = *state;
    if (e == NULL)
        return;
    free(e->target);
    clv_buf_drop(&e->body);
    free(e);
    *state = NULL;
}

static enum MHD_Result note_header(void *with, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    (void)kind;
    clv_http_request *request = with;
    if (request->header_count == CLV_HEADERS_MAX)
        return MHD_NO;
    request->header[request->header_count++] = (clv_http_header){name, value != NULL ? value : ""};
    return MHD_YES;
}

static void source_of(struct MHD_Connection *connection, char out[NI_MAXHOST])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    out[0] = '\0';
    if (info == NULL || info->client_addr == NULL || info->client_addr->sa_family == AF_UNIX)
        return;
    socklen_t n = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                           : sizeof(struct sockaddr_in);
    if (getnameinfo(info->client_addr, n, out, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) != 0)
        out[0] = '\0';
}

static enum MHD_Result answer(struct MHD_Connection *connection, const clv_listener *listener,
                              clv_reply *reply)
{
    if (reply->status == 0)
        return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(reply->body.n, reply->body.p, MHD_RESPMEM_MUST_COPY);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", listener->options.media_type);
    MHD_add_response_header(response, "Cache-Control", "no-cache, no-store, must-revalidate");
    if (reply->request_id[0] != '\0')
        MHD_add_response_header(response, "x-amzn-RequestId", reply->request_id);
    enum MHD_Result result = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result finish(struct MHD_Connection *connection, clv_listener *listener,
                              const char *method, const exchange *e)
{
    clv_http_request request = {
        .method = method, .target = e->target, .body = clv_buf_bytes(&e->body)};
    clv_auto(clv_reply) reply = CLV_REPLY_INIT;
    char source[NI_MAXHOST];
    int headers = MHD_get_connection_values(connection, MHD_HEADER_KIND, note_header, &request);
    source_of(connection, source);
    /* A header that is left out would be one that no signature has to cover. */
    if (headers < 0 || (size_t)headers > CLV_HEADERS_MAX)
        reply.status = MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    else if (e->too_large)
        reply.status = MHD_HTTP_CONTENT_TOO_LARGE;
    else
        listener->options.handle(listener->options.with, &request, source, &reply);
    return answer(connection, listener, &reply);
}

static enum MHD_Result receive(void *with, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *data,
                               size_t *size, void **state)
{
    (void)url, (void)version;
    exchange *e = *state;
    if (e == NULL)
        return MHD_NO;
    if (!e->started) {
        e->started = true;
        return MHD_YES;
    }
    if (*size > 0) {
        e->too_large =
            e->too_large || clv_buf_append(&e->body, CLV_BYTES(data, *size), NULL) != CLV_OK;
        *size = 0;
        return MHD_YES;
    }
    return finish(connection, with, method, e);
}

/* The request line is kept as it came: nothing is unescaped. */
static size_t keep_escapes(void *with, struct MHD_Connection *connection, char *text)
{
    (void)with, (void)connection;
    return strlen(text);
}

/* libmicrohttpd has no option for session tickets: each TLS session gets them as it starts. */
static void offer_tickets(void *with, struct MHD_Connection *connection, void **state,
                          enum MHD_ConnectionNotificationCode code)
{
    (void)state;
    const clv_listener *listener = with;
    if (code != MHD_CONNECTION_NOTIFY_STARTED || listener->ticket_key.data == NULL)
        return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    if (info != NULL && info->tls_session != NULL)
        gnutls_session_ticket_enable_server(info->tls_session, &listener->ticket_key);
}

static struct MHD_Daemon *start_daemon(clv_listener *listener, int fd)
{
    const clv_listener_options *options = &listener->options;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION |
                     MHD_USE_POLL | (options->certificate != NULL ? MHD_USE_TLS : 0);
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)options->certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)options->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITIES},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon(
        flags, 0, NULL, NULL, receive, listener, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_URI_LOG_CALLBACK, note_target, NULL, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        NULL, MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_NOTIFY_CONNECTION,
        offer_tickets, listener, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HEADER_MEMORY, MHD_OPTION_ARRAY, options->certificate != NULL ? tls : none,
        MHD_OPTION_END);
}

clv_status clv_listener_start(const clv_listener_options *options, clv_listener **out,
                              clv_address *bound, clv_error *err)
{
    clv_auto(clv_fd) fd = -1;
    CLV_TRY(clv_listen(options->address, 0600, &fd, bound, err));
    clv_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a listener, found none");
    listener->options = *options;
    if (options->certificate == NULL ||
        gnutls_session_ticket_key_generate(&listener->ticket_key) == GNUTLS_E_SUCCESS)
        listener->daemon = start_daemon(listener, fd);
    if (listener->daemon == NULL) {
        gnutls_free(listener->ticket_key.data);
        free(listener);
        return clv_fail(err, CLV_INTERNAL, "the HTTP server cannot be started on %s", bound->text);
    }
    fd = -1;
    *out = listener;
    return CLV_OK;
}

void clv_listener_free(clv_listener **listener)
{
    if (*listener == NULL)
        return;
    MHD_stop_daemon((*listener)->daemon);
    gnutls_memset((*listener)->ticket_key.data, 0, (*listener)->ticket_key.size);
    gnutls_free((*listener)->ticket_key.data);
    free(*listener);
    *listener = NULL;
}

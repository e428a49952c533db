#include <kms/transport.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <linux/vm_sockets.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <base/clock.h>
#include <base/net.h>
#include <base/wipe.h>
#include <kms/slots.h>
#include <kms/trust.h>

#define HOST_MAX     253 /* RFC 1035 section 2.3.4 */
#define DEFAULT_PORT 443
#define HEADERS_MAX  16384 /* of an answer, all together */
#define IDLE_MAX_S   50L   /* AWS closes idle connections after about a minute */
#define LIFETIME_MS  3600000

/* X25519 with ML-KEM-768 first where this OpenSSL has it; the rest is what AWS KMS and OpenSSL
 * agree on anyway. The first form (OpenSSL 3.5) sends a share of the classic group too, so that a
 * server without the hybrid one needs no second round; the other is for providers under older
 * versions. */
static const char *const hybrid_groups[] = {"*X25519MLKEM768/*X25519:P-256:P-384",
                                            "X25519MLKEM768:X25519:P-256:P-384"};

struct clv_https {
    char url[HOST_MAX + 32];
    char authority[HOST_MAX + 8]; /* host[:port] */
    char host[HOST_MAX + 1];
    unsigned port;
    bool relayed, fresh;
    clv_address relay;
    X509_STORE *store; /* the CA file, as it was when it was read */
    X509 *certificate; /* NULL: none */
    EVP_PKEY *key;
    struct curl_slist *connect_to; /* a relay over TCP */
    struct curl_slist *resolve;    /* a relay over vsock: the name, without a resolver */
    clv_slots slots;
};

/* One request under way: what the callbacks see. */
typedef struct exchange {
    clv_https *https;
    const clv_https_request *request;
    clv_https_answer *answer;
    uint64_t deadline_ms;
    struct curl_sockaddr *peer; /* of the connection being made: see open_vsock() */
    unsigned sent;
    size_t header_size;
    bool too_large;
    long verify; /* OpenSSL's verdict on the certificate */
    char curl_error[CURL_ERROR_SIZE];
} exchange;

static pthread_once_t started = PTHREAD_ONCE_INIT;
static CURLcode start_result;

/* libcurl keeps copies of headers and bodies: it wipes what it frees. */
static void start_curl(void)
{
    start_result = curl_global_init_mem(CURL_GLOBAL_DEFAULT, clv_wiping_malloc, clv_wiping_free,
                                        clv_wiping_realloc, clv_wiping_strdup, clv_wiping_calloc);
}

static clv_status bad_endpoint(const char *endpoint, clv_error *err)
{
    return clv_fail(err, CLV_USAGE, "expected an endpoint https://host[:port], found \"%.100s\"",
                    endpoint);
}

static clv_status parse_endpoint(const char *endpoint, clv_https *https, clv_error *err)
{
    static const char scheme[] = "https://";
    if (strncmp(endpoint, scheme, strlen(scheme)) != 0)
        return bad_endpoint(endpoint, err);
    const char *host = endpoint + strlen(scheme);
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-");
    if (n == 0 || n > HOST_MAX || host[0] == '.' || host[0] == '-')
        return bad_endpoint(endpoint, err);
    memcpy(https->host, host, n);
    https->port = DEFAULT_PORT;
    if (host[n] == ':') {
        char *end;
        unsigned long port = strtoul(host + n + 1, &end, 10);
        if (host[n + 1] < '1' || host[n + 1] > '9' || *end != '\0' || port > UINT16_MAX)
            return bad_endpoint(endpoint, err);
        https->port = (unsigned)port;
    } else if (host[n] != '\0') {
        return bad_endpoint(endpoint, err);
    }
    if (https->port == DEFAULT_PORT)
        snprintf(https->authority, sizeof https->authority, "%s", https->host);
    else
        snprintf(https->authority, sizeof https->authority, "%s:%u", https->host, https->port);
    snprintf(https->url, sizeof https->url, "https://%s", https->authority);
    return CLV_OK;
}

static clv_status take_trust(const clv_https_options *options, clv_https *https, clv_error *err)
{
    if (options->ca_file != NULL)
        return clv_trust_load(options->ca_file, &https->store, err);
    if (X509_STORE_up_ref(options->trust) != 1)
        return clv_fail(err, CLV_INTERNAL, "the CA certificates cannot be kept");
    https->store = options->trust;
    return CLV_OK;
}

static clv_status take_identity(const clv_https_options *options, clv_https *https, clv_error *err)
{
    if (options->certificate == NULL)
        return CLV_OK;
    if (X509_up_ref(options->certificate) != 1)
        return clv_fail(err, CLV_INTERNAL, "a certificate cannot be kept");
    https->certificate = options->certificate;
    if (EVP_PKEY_up_ref(options->key) != 1)
        return clv_fail(err, CLV_INTERNAL, "a private key cannot be kept");
    https->key = options->key;
    return CLV_OK;
}

static clv_status make_list(const char *entry, struct curl_slist **out, clv_error *err)
{
    *out = curl_slist_append(NULL, entry);
    return *out != NULL ? CLV_OK : clv_fail(err, CLV_NO_MEMORY, "no memory for an HTTPS client");
}

static clv_status open_relay(clv_https *https, const char *relay, clv_error *err)
{
    char entry[HOST_MAX + 200];
    CLV_TRY(clv_address_parse(relay, &https->relay, err));
    https->relayed = true;
    switch (https->relay.sa.ss_family) {
    case AF_UNIX:
        return CLV_OK;
    case AF_VSOCK:
        /* An address that is never connected to. */
        snprintf(entry, sizeof entry, "%s:%u:127.0.0.1", https->host, https->port);
        return make_list(entry, &https->resolve, err);
    default:
        snprintf(entry, sizeof entry, "::%s", https->relay.text + strlen("tcp:"));
        return make_list(entry, &https->connect_to, err);
    }
}

clv_status clv_https_open(const clv_https_options *options, clv_https **out, clv_error *err)
{
    pthread_once(&started, start_curl);
    if (start_result != CURLE_OK)
        return clv_fail(err, CLV_INTERNAL, "libcurl cannot start: %s",
                        curl_easy_strerror(start_result));
    clv_auto_ptr(clv_https) https = calloc(1, sizeof *https);
    if (https == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an HTTPS client");
    clv_slots_init(&https->slots, options->lifetime_ms != 0 ? options->lifetime_ms : LIFETIME_MS);
    https->fresh = options->fresh;
    CLV_TRY(parse_endpoint(options->endpoint, https, err));
    CLV_TRY(take_trust(options, https, err));
    CLV_TRY(take_identity(options, https, err));
    if (options->relay != NULL)
        CLV_TRY(open_relay(https, options->relay, err));
    *out = https;
    https = NULL;
    return CLV_OK;
}

void clv_https_free(clv_https **pointer)
{
    clv_https *https = *pointer;
    if (https == NULL)
        return;
    clv_slots_drop(&https->slots);
    curl_slist_free_all(https->resolve);
    curl_slist_free_all(https->connect_to);
    X509_STORE_free(https->store);
    X509_free(https->certificate);
    EVP_PKEY_free(https->key);
    free(https);
    *pointer = NULL;
}

const char *clv_https_name(const clv_https *https)
{
    return https->host;
}

const char *clv_https_host(const clv_https *https)
{
    return https->authority;
}

void clv_https_disconnect(clv_https *https)
{
    clv_slots_renew(&https->slots);
}

void clv_https_answer_drop(clv_https_answer *answer)
{
    clv_buf_drop(&answer->body);
}

static int remaining_ms(uint64_t deadline_ms)
{
    uint64_t now = clv_monotonic_ms();
    return now < deadline_ms ? (int)(deadline_ms - now) : 0;
}

/* -- callbacks ---------------------------------------------------------------------------- */

/*
 * libcurl knows no AF_VSOCK. It lets us make the socket, but 7.88 connects even one that is
 * connected already (curl issue 10626), and prints the peer's address between making and
 * connecting, which it can for the internet's families only. So the socket is ours, and the
 * address is put in its place in the last callback before connect().
 */
static curl_socket_t open_vsock(void *with, curlsocktype purpose, struct curl_sockaddr *peer)
{
    exchange *x = with;
    (void)purpose;
    x->peer = peer;
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 ? fd : CURL_SOCKET_BAD;
}

static int aim_vsock(void *with, curl_socket_t fd, curlsocktype purpose)
{
    exchange *x = with;
    (void)fd;
    (void)purpose;
    _Static_assert(sizeof(struct sockaddr_vm) <= sizeof x->peer->addr,
                   "a vsock address fits where libcurl keeps its own");
    memcpy(&x->peer->addr, &x->https->relay.sa, sizeof(struct sockaddr_vm));
    x->peer->addrlen = sizeof(struct sockaddr_vm);
    return CURL_SOCKOPT_OK;
}

/* Called once for each time that the request is about to be sent. libcurl would send it again on
 * another connection when a kept one turns out dead: a voucher is good for one request. */
static int before_sending(void *with, char *remote_ip, char *local_ip, int remote_port,
                          int local_port)
{
    exchange *x = with;
    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    return x->sent++ == 0 ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static CURLcode prepare_tls(CURL *easy, void *ssl_ctx, void *with)
{
    const exchange *x = with;
    (void)easy;
    SSL_CTX_set1_cert_store(ssl_ctx, x->https->store);
    /* libcurl writes every session's secrets to the file that SSLKEYLOGFILE names. */
    SSL_CTX_set_keylog_callback(ssl_ctx, NULL);
    if (x->https->certificate != NULL &&
        (SSL_CTX_use_certificate(ssl_ctx, x->https->certificate) != 1 ||
         SSL_CTX_use_PrivateKey(ssl_ctx, x->https->key) != 1))
        return CURLE_SSL_CERTPROBLEM;
    X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(ssl_ctx), (time_t)(x->request->now_ms / 1000));
    bool hybrid = false;
    for (size_t i = 0; i < sizeof hybrid_groups / sizeof hybrid_groups[0] && !hybrid; i++)
        hybrid = SSL_CTX_set1_groups_list(ssl_ctx, hybrid_groups[i]) == 1;
    ERR_clear_error(); /* where OpenSSL has no such group its own list stands */
    return CURLE_OK;
}

static size_t take_body(char *data, size_t size, size_t count, void *with)
{
    exchange *x = with;
    clv_bytes piece = CLV_BYTES(data, size * count);
    x->too_large = clv_buf_append(&x->answer->body, piece, NULL) != CLV_OK;
    return x->too_large ? 0 : piece.n;
}

/* The value of the header when the line is of that name. */
static void take_header(clv_bytes line, const char *name, char *to, size_t size)
{
    size_t n = strlen(name);
    if (line.n <= n || line.p[n] != ':' || strncasecmp((const char *)line.p, name, n) != 0)
        return;
    clv_cursor c = clv_cursor_of(line);
    clv_bytes value;
    if (clv_cursor_take(&c, n + 1, &value, NULL) != CLV_OK)
        return;
    while (c.rest.n > 0 && c.rest.p[0] == ' ' && clv_cursor_take(&c, 1, &value, NULL) == CLV_OK)
        ;
    size_t length = 0;
    while (length < c.rest.n && length < size - 1 && c.rest.p[length] > ' ' &&
           c.rest.p[length] <= '~')
        length++;
    memcpy(to, c.rest.p, length);
    to[length] = '\0';
}

static size_t take_headers(char *data, size_t size, size_t count, void *with)
{
    exchange *x = with;
    clv_bytes line = CLV_BYTES(data, size * count);
    x->header_size += line.n;
    x->too_large = x->header_size > HEADERS_MAX;
    if (x->too_large)
        return 0;
    take_header(line, "x-amzn-requestid", x->answer->request_id, sizeof x->answer->request_id);
    take_header(line, "x-amzn-errortype", x->answer->error_type, sizeof x->answer->error_type);
    return line.n;
}

/* -- the request -------------------------------------------------------------------------- */

typedef struct curl_slist *header_list;
static void header_list_drop(header_list *list)
{
    curl_slist_free_all(*list);
    *list = NULL;
}

static clv_status add_line(header_list *list, const char *line, clv_error *err)
{
    struct curl_slist *longer = curl_slist_append(*list, line);
    if (longer == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a header");
    *list = longer;
    return CLV_OK;
}

static clv_status make_headers(const clv_https_request *request, header_list *out, clv_error *err)
{
    for (size_t i = 0; i < request->header_count; i++) {
        clv_auto(clv_buf) line = CLV_BUF_INIT;
        const char *text;
        CLV_TRY(clv_buf_printf(&line, err, "%s: ", request->header[i].name));
        CLV_TRY(clv_buf_append(&line, request->header[i].value, err));
        CLV_TRY(clv_buf_text(&line, &text, err));
        CLV_TRY(add_line(out, text, err));
    }
    /* Not signed, so not sent. */
    CLV_TRY(add_line(out, "Accept:", err));
    return add_line(out, "Expect:", err);
}

/* One row an option, so that none of them can be forgotten when one fails. */
#define SET(option, value) \
    if (code == CURLE_OK)  \
    code = curl_easy_setopt(easy, option, value)

static CURLcode set_tls(CURL *easy, exchange *x)
{
    CURLcode code = CURLE_OK;
    /* No CA of libcurl's own: prepare_tls() brings the store. */
    SET(CURLOPT_CAINFO, NULL);
    SET(CURLOPT_CAPATH, NULL);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_CTX_FUNCTION, prepare_tls);
    SET(CURLOPT_SSL_CTX_DATA, x);
    SET(CURLOPT_SSL_SESSIONID_CACHE, x->https->fresh ? 0L : 1L);
    return code;
}

static CURLcode set_connection(CURL *easy, exchange *x, const char *url)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_MAXAGE_CONN, IDLE_MAX_S);
    SET(CURLOPT_MAXCONNECTS, 1L);
    SET(CURLOPT_FRESH_CONNECT, x->https->fresh ? 1L : 0L);
    SET(CURLOPT_FORBID_REUSE, x->https->fresh ? 1L : 0L);
    if (!x->https->relayed)
        return code;
    const struct sockaddr_un *path = (const struct sockaddr_un *)&x->https->relay.sa;
    SET(CURLOPT_CONNECT_TO, x->https->connect_to);
    SET(CURLOPT_RESOLVE, x->https->resolve);
    if (x->https->relay.sa.ss_family == AF_UNIX) {
        SET(CURLOPT_UNIX_SOCKET_PATH, path->sun_path);
    } else if (x->https->relay.sa.ss_family == AF_VSOCK) {
        SET(CURLOPT_OPENSOCKETFUNCTION, open_vsock);
        SET(CURLOPT_OPENSOCKETDATA, x);
        SET(CURLOPT_SOCKOPTFUNCTION, aim_vsock);
        SET(CURLOPT_SOCKOPTDATA, x);
    }
    return code;
}

static CURLcode set_exchange(CURL *easy, exchange *x, struct curl_slist *headers)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_ERRORBUFFER, x->curl_error);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_POST, 1L);
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->request->body.n);
    SET(CURLOPT_POSTFIELDS, x->request->body.p);
    SET(CURLOPT_TIMEOUT_MS, (long)remaining_ms(x->deadline_ms) + 1);
    SET(CURLOPT_PREREQFUNCTION, before_sending);
    SET(CURLOPT_PREREQDATA, x);
    SET(CURLOPT_WRITEFUNCTION, take_body);
    SET(CURLOPT_WRITEDATA, x);
    SET(CURLOPT_HEADERFUNCTION, take_headers);
    SET(CURLOPT_HEADERDATA, x);
    return code;
}

/* What libcurl's codes mean here. Every other is CLV_INTERNAL. */
static const struct {
    CURLcode curl;
    clv_status code;
} curl_codes[] = {
    {CURLE_OPERATION_TIMEDOUT, CLV_KMS_TIMEOUT},
    {CURLE_COULDNT_RESOLVE_HOST, CLV_KMS_CONNECT},
    {CURLE_COULDNT_CONNECT, CLV_KMS_CONNECT},
    {CURLE_GOT_NOTHING, CLV_KMS_CONNECT},
    {CURLE_RECV_ERROR, CLV_KMS_CONNECT},
    {CURLE_SEND_ERROR, CLV_KMS_CONNECT},
    {CURLE_PARTIAL_FILE, CLV_KMS_CONNECT},
    {CURLE_ABORTED_BY_CALLBACK, CLV_KMS_CONNECT},
    {CURLE_PEER_FAILED_VERIFICATION, CLV_KMS_TLS},
    {CURLE_SSL_CONNECT_ERROR, CLV_KMS_TLS},
    {CURLE_SSL_CACERT_BADFILE, CLV_KMS_TLS},
    {CURLE_SSL_CIPHER, CLV_KMS_TLS},
    {CURLE_SSL_CERTPROBLEM, CLV_KMS_TLS},
    {CURLE_SSL_ISSUER_ERROR, CLV_KMS_TLS},
    {CURLE_WEIRD_SERVER_REPLY, CLV_KMS_RESPONSE},
    {CURLE_UNSUPPORTED_PROTOCOL, CLV_KMS_RESPONSE},
    {CURLE_BAD_CONTENT_ENCODING, CLV_KMS_RESPONSE},
    {CURLE_WRITE_ERROR, CLV_KMS_RESPONSE},
};

/* A connection that ended within the handshake was lost, and says nothing about certificates. */
static bool lost_in_handshake(const char *reason)
{
    static const char *const words[] = {"SSL_ERROR_SYSCALL", "reset by peer", "unexpected eof",
                                        "Broken pipe"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(reason, words[i]) != NULL)
            return true;
    }
    return false;
}

static clv_status report(CURLcode curl, const exchange *x, clv_error *err)
{
    clv_status code = CLV_INTERNAL;
    for (size_t i = 0; i < sizeof curl_codes / sizeof curl_codes[0]; i++) {
        if (curl_codes[i].curl == curl)
            code = curl_codes[i].code;
    }
    const char *reason = x->curl_error[0] != '\0' ? x->curl_error : curl_easy_strerror(curl);
    if (x->too_large)
        return clv_fail(err, CLV_KMS_RESPONSE,
                        "%.100s: expected an answer of at most %zu bytes and %d of headers, "
                        "found more",
                        x->https->authority, x->request->body_max, HEADERS_MAX);
    if (curl == CURLE_ABORTED_BY_CALLBACK)
        reason = "the kept connection was closed before it answered";
    /* libcurl keeps the first sentence, which may be about a kept connection that had ended. */
    if (curl == CURLE_PEER_FAILED_VERIFICATION && x->verify != X509_V_OK)
        reason = X509_verify_cert_error_string(x->verify);
    if (curl == CURLE_SSL_CONNECT_ERROR && lost_in_handshake(reason))
        code = CLV_KMS_CONNECT;
    return clv_fail(err, code, "%.100s%s%.100s: %.250s", x->https->authority,
                    x->https->relayed ? " through " : "",
                    x->https->relayed ? x->https->relay.text : "", reason);
}

static clv_status post_on(CURL *easy, exchange *x, clv_error *err)
{
    clv_auto(header_list) headers = NULL;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    const char *url;
    CLV_TRY(make_headers(x->request, &headers, err));
    CLV_TRY(clv_buf_printf(&text, err, "%s%s", x->https->url,
                           x->request->path != NULL ? x->request->path : "/"));
    CLV_TRY(clv_buf_text(&text, &url, err));
    CURLcode code = set_tls(easy, x);
    if (code == CURLE_OK)
        code = set_connection(easy, x, url);
    if (code == CURLE_OK)
        code = set_exchange(easy, x, headers);
    if (code != CURLE_OK)
        return clv_fail(err, CLV_INTERNAL, "libcurl refuses an option: %s",
                        curl_easy_strerror(code));

    code = curl_easy_perform(easy);
    curl_easy_getinfo(easy, CURLINFO_SSL_VERIFYRESULT, &x->verify);
    ERR_clear_error();
    if (code != CURLE_OK)
        return report(code, x, err);
    long status = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    x->answer->status = (int)status;
    return CLV_OK;
}

clv_status clv_https_post(clv_https *https, const clv_https_request *request,
                          clv_https_answer *answer, clv_error *err)
{
    int timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : 1;
    exchange x = {.https = https,
                  .request = request,
                  .answer = answer,
                  .deadline_ms = clv_monotonic_ms() + (uint64_t)timeout_ms};
    answer->body.limit = request->body_max;
    clv_slot slot;
    CLV_TRY(clv_slots_take(&https->slots, x.deadline_ms, &slot, err));
    clv_status status = post_on(slot.easy, &x, err);
    clv_slots_give(&https->slots, slot);
    return status;
}

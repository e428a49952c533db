#include "tls_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <base/net.h>

#define REQUEST_MAX ((size_t)256 * 1024)

static void must(bool held, const char *what, int line)
{
    if (held)
        return;
    fprintf(stderr, "tls_server: %s (line %d)\n", what, line);
    abort();
}
#define MUST(expression) must((expression), #expression, __LINE__)

/* -- certificates ------------------------------------------------------------------------- */

static void add_extension(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    MUST(e != NULL && X509_add_ext(x, e, -1) == 1);
    X509_EXTENSION_free(e);
}

static X509 *make_certificate(EVP_PKEY *key, const char *name, int64_t from, int64_t until,
                              const tls_ca *issuer)
{
    X509 *x = X509_new();
    MUST(X509_set_version(x, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(x), rand());
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)from);
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)until);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const uint8_t *)name,
                               -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer != NULL ? issuer->certificate : x));
    X509_set_pubkey(x, key);
    if (issuer == NULL) {
        add_extension(x, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(x, NID_key_usage, "critical,keyCertSign");
    } else {
        char san[300];
        snprintf(san, sizeof san, "DNS:%s", name);
        add_extension(x, NID_subject_alt_name, san);
    }
    MUST(X509_sign(x, issuer != NULL ? issuer->key : key, EVP_sha256()) > 0);
    return x;
}

void tls_ca_make(tls_ca *ca, const char *name, const char *pem_file)
{
    ca->key = EVP_EC_gen("P-256");
    ca->certificate = make_certificate(ca->key, name, 0, INT64_C(4102444800), NULL);
    if (pem_file == NULL)
        return;
    FILE *f = fopen(pem_file, "w");
    MUST(f != NULL && PEM_write_X509(f, ca->certificate) == 1);
    fclose(f);
}

void tls_ca_drop(tls_ca *ca)
{
    X509_free(ca->certificate);
    EVP_PKEY_free(ca->key);
}

/* -- one connection ----------------------------------------------------------------------- */

/* The request's head and body into the server's record. False at the end of the connection. */
static bool read_request(SSL *ssl, clv_buf *head, clv_buf *body)
{
    clv_auto(clv_buf) all = CLV_BUF_LIMITED(REQUEST_MAX);
    const char *text, *end = NULL;
    while (end == NULL) {
        char piece[4096];
        int n = SSL_read(ssl, piece, sizeof piece);
        if (n <= 0)
            return false;
        MUST(clv_buf_append(&all, CLV_BYTES(piece, n), NULL) == CLV_OK);
        MUST(clv_buf_text(&all, &text, NULL) == CLV_OK);
        end = strstr(text, "\r\n\r\n");
    }
    size_t head_length = (size_t)(end - text) + 4;
    const char *length = strcasestr(text, "\r\nContent-Length:");
    size_t wanted = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
    MUST(wanted < REQUEST_MAX / 2);
    while (all.n < head_length + wanted) {
        char piece[4096];
        int n = SSL_read(ssl, piece, sizeof piece);
        if (n <= 0)
            return false;
        MUST(clv_buf_append(&all, CLV_BYTES(piece, n), NULL) == CLV_OK);
    }
    MUST(clv_buf_append(head, CLV_BYTES(all.p, head_length), NULL) == CLV_OK);
    MUST(clv_buf_append(body, CLV_BYTES(all.p + head_length, wanted), NULL) == CLV_OK);
    return true;
}

static bool send_bytes(SSL *ssl, clv_bytes bytes)
{
    return bytes.n == 0 || SSL_write(ssl, bytes.p, (int)bytes.n) == (int)bytes.n;
}

/* Until the client goes away. */
static void wait_for_end(SSL *ssl)
{
    char c;
    while (SSL_read(ssl, &c, 1) > 0)
        ;
}

static bool send_reply(SSL *ssl, const reply *r, clv_bytes body)
{
    static const char garbage[] = "SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n";
    clv_auto(clv_buf) head = CLV_BUF_INIT;
    size_t length = r->kind == REPLY_ENDLESS ? (size_t)1 << 30 : body.n;
    if (r->kind == REPLY_CLOSE)
        return false;
    if (r->kind == REPLY_NOT_HTTP) {
        send_bytes(ssl, clv_bytes_of(garbage));
        return false;
    }
    MUST(clv_buf_printf(&head, NULL,
                        "HTTP/1.1 %d X\r\nContent-Type: application/x-amz-json-1.1\r\n"
                        "x-amzn-RequestId: 6f1a4e0c-test\r\n%sContent-Length: %zu\r\n\r\n",
                        r->status != 0 ? r->status : 200, r->header != NULL ? r->header : "",
                        length) == CLV_OK);
    if (!send_bytes(ssl, clv_buf_bytes(&head)))
        return false;
    switch (r->kind) {
    case REPLY_STALL:
        wait_for_end(ssl);
        return false;
    case REPLY_CUT:
        send_bytes(ssl, CLV_BYTES(body.p, body.n / 2));
        return false;
    case REPLY_ENDLESS:
        while (send_bytes(ssl, clv_bytes_of("                                            ")))
            ;
        return false;
    default:
        return send_bytes(ssl, body) && !r->last;
    }
}

typedef struct connection {
    tls_server *server;
    int fd;
    size_t index;
} connection;

/* What the script has next, and the record of this request. */
static reply next_reply(tls_server *server, const clv_buf *head, const clv_buf *body)
{
    pthread_mutex_lock(&server->lock);
    size_t at = server->requests++;
    if (at >= server->options.script_length)
        at = server->options.script_length - 1;
    reply r = server->options.script[at];
    clv_buf_drop(&server->head);
    clv_buf_drop(&server->body);
    MUST(clv_buf_append(&server->head, clv_buf_bytes(head), NULL) == CLV_OK);
    MUST(clv_buf_append(&server->body, clv_buf_bytes(body), NULL) == CLV_OK);
    pthread_mutex_unlock(&server->lock);
    return r;
}

static bool serve_request(tls_server *server, SSL *ssl)
{
    clv_auto(clv_buf) head = CLV_BUF_INIT;
    clv_auto(clv_buf) body = CLV_BUF_INIT;
    clv_auto(clv_buf) made = CLV_BUF_INIT;
    if (!read_request(ssl, &head, &body))
        return false;
    reply r = next_reply(server, &head, &body);
    if (r.body == NULL && server->options.make_body != NULL)
        server->options.make_body(server->options.with, clv_buf_bytes(&body), &made);
    return send_reply(ssl, &r, r.body != NULL ? clv_bytes_of(r.body) : clv_buf_bytes(&made));
}

static void record_connection(tls_server *server, SSL *ssl)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    pthread_mutex_lock(&server->lock);
    if (SSL_session_reused(ssl))
        server->resumed++;
    snprintf(server->sni, sizeof server->sni, "%s", name != NULL ? name : "");
    snprintf(server->group, sizeof server->group, "%s",
             SSL_group_to_name(ssl, (int)SSL_get_negotiated_group(ssl)));
    pthread_mutex_unlock(&server->lock);
}

static void *serve_connection(void *with)
{
    connection c = *(connection *)with;
    free(with);
    SSL *ssl = SSL_new(c.server->ctx);
    MUST(ssl != NULL && SSL_set_fd(ssl, c.fd) == 1);
    if (SSL_accept(ssl) == 1) {
        record_connection(c.server, ssl);
        while (serve_request(c.server, ssl))
            ;
    }
    SSL_free(ssl);
    pthread_mutex_lock(&c.server->lock);
    c.server->open_fd[c.index] = -1;
    pthread_mutex_unlock(&c.server->lock);
    close(c.fd);
    return NULL;
}

static void *serve(void *with)
{
    tls_server *server = with;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        connection *c = malloc(sizeof *c);
        MUST(c != NULL);
        pthread_mutex_lock(&server->lock);
        MUST(server->connections < TLS_CONNECTIONS_MAX);
        size_t at = server->connections++;
        *c = (connection){server, fd, at};
        server->open_fd[at] = fd;
        MUST(pthread_create(&server->connection[at], NULL, serve_connection, c) == 0);
        pthread_mutex_unlock(&server->lock);
    }
}

void tls_server_start(tls_server *server, const tls_server_options *options)
{
    *server = (tls_server){.options = *options};
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate =
        make_certificate(key, options->host, options->not_before, options->not_after, options->ca);
    server->ctx = SSL_CTX_new(TLS_server_method());
    MUST(SSL_CTX_use_certificate(server->ctx, certificate) == 1);
    MUST(SSL_CTX_use_PrivateKey(server->ctx, key) == 1);
    if (options->max_version != 0) {
        /* Versions below 1.2 need SHA-1 in the handshake, which is below the default level. */
        SSL_CTX_set_security_level(server->ctx, 0);
        MUST(SSL_CTX_set_min_proto_version(server->ctx, TLS1_VERSION) == 1);
        MUST(SSL_CTX_set_max_proto_version(server->ctx, options->max_version) == 1);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    pthread_mutex_init(&server->lock, NULL);
    clv_address address, bound;
    MUST(clv_address_parse("tcp:127.0.0.1:0", &address, NULL) == CLV_OK);
    MUST(clv_listen(&address, 0, &server->listener, &bound, NULL) == CLV_OK);
    snprintf(server->address, sizeof server->address, "%.60s", bound.text);
    MUST(pthread_create(&server->thread, NULL, serve, server) == 0);
}

void tls_server_stop(tls_server *server)
{
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->connections; i++) {
        if (server->open_fd[i] >= 0)
            shutdown(server->open_fd[i], SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
    for (size_t i = 0; i < server->connections; i++)
        pthread_join(server->connection[i], NULL);
    SSL_CTX_free(server->ctx);
    clv_buf_drop(&server->head);
    clv_buf_drop(&server->body);
    pthread_mutex_destroy(&server->lock);
}

void tls_server_script(tls_server *server, const reply *script, size_t length)
{
    pthread_mutex_lock(&server->lock);
    server->options.script = script;
    server->options.script_length = length;
    server->requests = 0;
    server->resumed = 0;
    pthread_mutex_unlock(&server->lock);
}

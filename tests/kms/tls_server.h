/*
 * An HTTPS server within the test that answers by script: what KMS says, what it must never say,
 * and what a relay that lies does to it. Threads of its own; one for each connection.
 */
#ifndef CLV_TESTS_TLS_SERVER_H
#define CLV_TESTS_TLS_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include <openssl/ssl.h>

#include <claviger/bytes.h>

/* A CA and what it signs. Ends the process when OpenSSL fails. */
typedef struct tls_ca {
    EVP_PKEY *key;
    X509 *certificate;
} tls_ca;
void tls_ca_make(tls_ca *ca, const char *name, const char *pem_file); /* NULL: no file */
void tls_ca_drop(tls_ca *ca);

typedef enum reply_kind {
    REPLY_ANSWER,  /* status and body */
    REPLY_CLOSE,   /* the request is read, and the connection closed */
    REPLY_CUT,     /* half the body, then closed */
    REPLY_STALL,   /* the head, then nothing */
    REPLY_ENDLESS, /* a body without end */
    REPLY_NOT_HTTP,
} reply_kind;

/* One answer of the script. */
typedef struct reply {
    reply_kind kind;
    int status;         /* 0: 200 */
    const char *body;   /* NULL: made by make_body */
    const char *header; /* more lines, each with \r\n; NULL: none */
    bool last;          /* close the connection after it */
} reply;

typedef struct tls_server_options {
    const tls_ca *ca;
    const char *host;              /* of the certificate */
    int64_t not_before, not_after; /* seconds since 1970 */
    int max_version;               /* 0: whatever OpenSSL has */
    const reply *script;           /* one for each request; the last one repeats */
    size_t script_length;
    /* For replies without a body: made from the request's. */
    void (*make_body)(void *with, clv_bytes request, clv_buf *body);
    void *with;
} tls_server_options;

#define TLS_CONNECTIONS_MAX 128
typedef struct tls_server {
    tls_server_options options;
    SSL_CTX *ctx;
    int listener;
    char address[64]; /* tcp:127.0.0.1:PORT */
    pthread_t thread;
    pthread_mutex_t lock; /* protects the members below */
    pthread_t connection[TLS_CONNECTIONS_MAX];
    int open_fd[TLS_CONNECTIONS_MAX];
    size_t connections;
    size_t requests;
    size_t resumed;     /* connections whose TLS session was resumed */
    clv_buf head, body; /* of the last request */
    char sni[256];
    char group[64]; /* key exchange of the last connection */
} tls_server;

void tls_server_start(tls_server *server, const tls_server_options *options);
void tls_server_stop(tls_server *server);
/* A new script from the next request on, and the counters at zero. */
void tls_server_script(tls_server *server, const reply *script, size_t length);

#endif

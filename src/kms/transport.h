/*
 * HTTPS to one endpoint over libcurl, whose idioms end here (R11).
 *
 * TLS 1.2 or later, verified against one CA file read at the start, the endpoint's name and the
 * time given with each request. The connection leads through a relay address of base/net.h when
 * there is one; SNI and Host stay the endpoint's, and nothing is resolved. No proxy, no redirect,
 * no other protocol. Connections are kept alive and TLS sessions resumed. Thread-safe.
 */
#ifndef CLV_KMS_TRANSPORT_H
#define CLV_KMS_TRANSPORT_H

#include <openssl/x509_vfy.h>

#include <kms/sigv4.h>

/* Requests under way at a time; more wait for their turn. */
#define CLV_HTTPS_SLOTS 8

typedef struct clv_https clv_https;

typedef struct clv_https_options {
    const char *endpoint; /* https://host[:port] */
    const char *ca_file;  /* PEM */
    X509_STORE *trust;    /* the same, read before (kms/trust.h): where ca_file is NULL */
    const char *relay;    /* NULL: resolve and connect directly */
    bool fresh;           /* a new connection and handshake for each request: for measuring */
    /* How long a connection and its TLS session serve; then certificates are looked at again. 0: an
     * hour. */
    uint64_t lifetime_ms;
    X509 *certificate; /* the client's, shown to who asks for one; NULL: none. This, its private */
    EVP_PKEY *key;     /* key and the trust are kept by reference */
} clv_https_options;

/* CLV_USAGE names what is wrong with the endpoint; CLV_KMS_TLS a CA file without certificates or
 * with a malformed one. */
CLV_NODISCARD clv_status clv_https_open(const clv_https_options *options, clv_https **out,
                                        clv_error *err);
void clv_https_free(clv_https **https);

/* Close the connections that are kept for later; those in use stay. */
void clv_https_disconnect(clv_https *https);

/* The endpoint's name, and what the Host header says: the name, and the port where it is not 443.
 */
const char *clv_https_name(const clv_https *https);
const char *clv_https_host(const clv_https *https);

typedef struct clv_https_request {
    const char *path; /* NULL: "/" */
    const clv_header *header;
    size_t header_count;
    clv_bytes body;
    uint64_t now_ms; /* the time at which certificates must be valid */
    int timeout_ms;  /* for everything: turn, connection, handshake, answer */
    size_t body_max; /* of the answer */
} clv_https_request;

typedef struct clv_https_answer {
    int status;
    clv_buf body;
    char request_id[64]; /* x-amzn-RequestId */
    char error_type[96]; /* x-amzn-ErrorType */
} clv_https_answer;

#define CLV_HTTPS_ANSWER_INIT \
    {                         \
        0, CLV_BUF_INIT, {0}, \
        {                     \
            0                 \
        }                     \
    }
void clv_https_answer_drop(clv_https_answer *answer);

/*
 * POST once: the request is never sent twice, not even when a kept connection turns out dead.
 * CLV_KMS_CONNECT: no connection, or it was lost. CLV_KMS_TLS. CLV_KMS_TIMEOUT. CLV_KMS_RESPONSE:
 * what came is not HTTP, or its body or headers are too large.
 */
CLV_NODISCARD clv_status clv_https_post(clv_https *https, const clv_https_request *request,
                                        clv_https_answer *answer, clv_error *err);

#endif

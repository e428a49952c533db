/*
 * One HTTP request to a local or AWS endpoint, over libcurl, whose idioms end here. Nothing is
 * followed or proxied, and kept only in a pool of the caller's; answers are bounded in size and
 * time. A request is sent once: where a kept connection ends before the answer, the request fails,
 * because nobody can tell whether it took effect. Bodies are secrets: they are held in a clv_buf,
 * which wipes, and never stand in an error's sentence.
 */
#ifndef CLV_PARENT_HTTP_H
#define CLV_PARENT_HTTP_H

#include <claviger/bytes.h>

#define CLV_HTTP_HEADERS_MAX 4

/* Connections between requests, TLS sessions included. May be shared by threads; all requests of
 * one pool have the same TLS files. */
typedef struct clv_http_pool clv_http_pool;
CLV_NODISCARD clv_status clv_http_pool_new(clv_http_pool **out, clv_error *err);
void clv_http_pool_free(clv_http_pool **pool);

/* One more piece of an answer that is read as it comes; true: it is enough. */
typedef bool (*clv_http_take)(void *with, clv_bytes piece);

typedef struct clv_http_request {
    const char *method; /* "GET", "PUT", "POST" */
    const char *url;
    const char *header[CLV_HTTP_HEADERS_MAX]; /* "Name: value"; NULL: no more */
    clv_bytes body;
    size_t answer_max;
    int timeout_ms;         /* of the whole exchange */
    int connect_timeout_ms; /* of connecting, TLS included; 0: as the exchange */
    clv_http_pool *pool;    /* NULL: a connection of its own */
    /* NULL: the answer is collected. Otherwise its pieces go here until it is enough, which ends
     * the request as a success, and answer_max bounds nothing. */
    clv_http_take take;
    void *take_with;
    /* TLS: PEM files; NULL: the system's roots, no client certificate. */
    const char *ca_file, *cert_file, *key_file;
} clv_http_request;

/* CLV_UNREACHABLE, CLV_DEADLINE, CLV_TOO_LARGE; any answer that came is a success with its status.
 */
CLV_NODISCARD clv_status clv_http(const clv_http_request *request, long *status, clv_buf *answer,
                                  clv_error *err);

/* Scheme and host of a URL, as libcurl will read it, in lower case, IPv6 in brackets. False where
 * it is none, names a user, or does not fit. */
bool clv_http_parts(const char *url, char *scheme, size_t scheme_size, char *host,
                    size_t host_size);

#endif

/*
 * One HTTP request to a local or AWS endpoint, over libcurl, whose idioms end here. Nothing is
 * followed, kept or proxied; answers are bounded in size and time. Bodies are secrets: they are
 * held in a clv_buf, which wipes, and never stand in an error's sentence.
 */
#ifndef CLV_PARENT_HTTP_H
#define CLV_PARENT_HTTP_H

#include <claviger/bytes.h>

#define CLV_HTTP_HEADERS_MAX 4

typedef struct clv_http_request {
    const char *method; /* "GET", "PUT", "POST" */
    const char *url;
    const char *header[CLV_HTTP_HEADERS_MAX]; /* "Name: value"; NULL: no more */
    clv_bytes body;
    size_t answer_max;
    int timeout_ms; /* of the whole exchange */
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

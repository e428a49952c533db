/*
 * The agents' API: HTTP/1.1 over a Unix socket, with libmicrohttpd, whose idioms end in api.c.
 *
 * One thread a connection: a request waits for KMS, and in a pool of a few threads a few slow
 * calls would hold up everybody's. Connections are bounded in all, and for each uid (agents.h).
 */
#ifndef CLV_ENCLAVE_API_H
#define CLV_ENCLAVE_API_H

#include <enclave/request.h>

#define CLV_API_IDLE_S  30    /* a silent connection is closed */
#define CLV_API_BODY_MS 60000 /* a body must have come whole by then */

typedef struct clv_api clv_api;

/* Takes over listen_fd, a listening Unix socket. The enclave must outlive the API. */
CLV_NODISCARD clv_status clv_api_start(clv_enclave *enclave, clv_front front, int listen_fd,
                                       clv_api **out, clv_error *err);
/* Lets requests under way end, ends streams, closes every connection, joins every thread. */
void clv_api_free(clv_api **api);

#endif

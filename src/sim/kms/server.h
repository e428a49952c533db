/* The HTTPS listener: libmicrohttpd with GnuTLS, whose idioms end in server.c. */
#ifndef CLV_SIM_KMS_SERVER_H
#define CLV_SIM_KMS_SERVER_H

#include <base/net.h>
#include <sim/kms/dispatch.h>

typedef struct clv_listener clv_listener;

/* Answers one request; runs in a thread of its connection. */
typedef void (*clv_request_handler)(void *with, const clv_http_request *request,
                                    const char *source_ip, clv_reply *reply);

typedef struct clv_listener_options {
    const clv_address *address;
    const char *certificate; /* PEM; NULL for plain HTTP */
    const char *key;         /* PEM */
    const char *media_type;  /* of the answers */
    clv_request_handler handle;
    void *with;
} clv_listener_options;

/* TLS 1.2 and 1.3 only. *bound gets the address with the port that was chosen. */
CLV_NODISCARD clv_status clv_listener_start(const clv_listener_options *options, clv_listener **out,
                                            clv_address *bound, clv_error *err);
/* Ends connections and threads. */
void clv_listener_free(clv_listener **listener);

#endif

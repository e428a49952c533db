/*
 * From an HTTP request to its answer: target, signature, parameters, operation, audit record.
 * Knows nothing of sockets.
 */
#ifndef CLV_SIM_KMS_DISPATCH_H
#define CLV_SIM_KMS_DISPATCH_H

#include <sim/kms/call.h>
#include <sim/kms/sigv4.h>

#define CLV_REQUEST_BODY_MAX (1024 * 1024)

typedef struct clv_reply {
    unsigned status; /* 0: close the connection without an answer (an outage asked for) */
    char request_id[CLV_REQUEST_ID_SIZE];
    clv_buf body;
} clv_reply;

#define CLV_REPLY_INIT      \
    {                       \
        0, "", CLV_BUF_INIT \
    }
void clv_reply_drop(clv_reply *reply);

/* Always fills the reply; what fails is in it. */
void clv_kms_handle(clv_kms_server *server, const clv_http_request *request, const char *source_ip,
                    clv_reply *reply);

#endif

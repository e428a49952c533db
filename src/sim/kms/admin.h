/*
 * The admin route: HTTP over a Unix socket, for tests and people at the same machine. docs/kms.md
 * lists its routes.
 */
#ifndef CLV_SIM_KMS_ADMIN_H
#define CLV_SIM_KMS_ADMIN_H

#include <sim/kms/dispatch.h>

/* A clv_request_handler; `with` is the clv_kms_server. */
void clv_admin_handle(void *with, const clv_http_request *request, const char *source_ip,
                      clv_reply *reply);

#endif

/*
 * The relay's allowlist, in the form of AWS's vsock-proxy.yaml (aws-nitro-enclaves-cli,
 * vsock_proxy/configs/vsock-proxy.yaml):
 *
 *     allowlist:
 *     - {address: kms.us-east-1.amazonaws.com, port: 443}
 *
 * Names are compared without regard to case, and not resolved: what is written is what is allowed.
 */
#ifndef CLV_PARENT_ALLOWLIST_H
#define CLV_PARENT_ALLOWLIST_H

#include <claviger/bytes.h>

#define CLV_ALLOWLIST_MAX 1024

typedef struct clv_allowlist clv_allowlist;

/* CLV_ALLOWLIST_FORMAT names line and column. An allowlist without an entry allows nothing. */
CLV_NODISCARD clv_status clv_allowlist_read(const char *path, clv_allowlist **out, clv_error *err);
void clv_allowlist_free(clv_allowlist **list);
bool clv_allowlist_has(const clv_allowlist *list, const char *host, uint16_t port);

#endif

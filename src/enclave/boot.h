/*
 * The order in which the enclave comes up: measure the policy, prove what this is, learn the
 * credentials; nothing listens before all of it held. See docs/agent-api.md, "Starting".
 */
#ifndef CLV_ENCLAVE_BOOT_H
#define CLV_ENCLAVE_BOOT_H

#include <enclave/enclave.h>

/* How long a parent that does not answer yet is waited for. */
#define CLV_BOOT_PATIENCE_MS 30000

/*
 * Bring everything up but the listeners. The opener has been started, and outlives the enclave; it
 * is stopped here when the policy names no executable. SIGTERM and SIGINT must be blocked; one that
 * arrives while the parent is waited for ends the boot with CLV_CLOSED. The enclave is dropped by
 * the caller whatever this returns.
 */
CLV_NODISCARD clv_status clv_boot(clv_enclave *enclave, const clv_options *options,
                                  clv_opener *opener, clv_error *err);

void clv_enclave_drop(clv_enclave *enclave);

#endif

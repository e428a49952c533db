/*
 * The parent's calls to the enclave (docs/protocol.md, "Control"): key setup, status and reload.
 * The parent may start an operation that the policy allows; it never receives a key.
 */
#ifndef CLV_ENCLAVE_CONTROL_H
#define CLV_ENCLAVE_CONTROL_H

#include <channel/server.h>
#include <enclave/enclave.h>

/* A clv_call_handler; `enclave` is a clv_enclave. */
clv_status clv_control_answer(void *enclave, const clv_message *call, clv_message *answer,
                              clv_error *err);

#endif

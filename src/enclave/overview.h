/*
 * What an operator wants to know at a glance: `claviger status` shows it. Names of the policy's
 * keys, of states and of agents are not in it, nor any message of KMS, so that each local process
 * may have it, as it may have the metrics.
 */
#ifndef CLV_ENCLAVE_OVERVIEW_H
#define CLV_ENCLAVE_OVERVIEW_H

#include <enclave/enclave.h>

/* A new reference, or NULL when memory ran out. docs/openapi.yaml, "Overview", has its form. */
json_t *clv_overview_json(clv_enclave *enclave);

#endif

/* Key setup: the parent's one request that concerns keys. It gets wrapped bytes and evidence. */
#ifndef CLV_PARENT_SETUP_H
#define CLV_PARENT_SETUP_H

#include <parent/store.h>

typedef struct clv_setup_options {
    const char *enclave;  /* address of the enclave's control */
    const char *store;    /* sqlite:FILE */
    const char *request;  /* path of the request, "-": standard input */
    const char *document; /* path for the evidence; NULL: none */
} clv_setup_options;

/*
 * Send the request's bytes as they are, store the CiphertextBlob under the policy's name for the
 * key, print the answer as JSON on standard output. The store never loses a key it holds:
 * CLV_STATE_CONFLICT.
 */
CLV_NODISCARD clv_status clv_setup_run(const clv_setup_options *options, clv_error *err);

#endif

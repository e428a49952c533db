/* The services that the parent offers its enclave: docs/protocol.md. */
#ifndef CLV_PARENT_SERVICES_H
#define CLV_PARENT_SERVICES_H

#include <channel/frame.h>
#include <parent/credentials.h>
#include <parent/store.h>

typedef struct clv_parent {
    clv_store *store;
    clv_provider *credentials;
    const char *baseline, *baseline_sig; /* paths; NULL: none. Read again at each call. */
} clv_parent;

/* A clv_call_handler; context is a clv_parent. */
clv_status clv_services_answer(void *context, const clv_message *call, clv_message *answer,
                               clv_error *err);

#endif

/*
 * The daemon's parts, in the order in which boot.c brings them up and takes them down. Everything
 * is set before the first listener starts, and does not change while one runs.
 */
#ifndef CLV_ENCLAVE_ENCLAVE_H
#define CLV_ENCLAVE_ENCLAVE_H

#include <base/clock.h>
#include <enclave/agents.h>
#include <enclave/evidence.h>
#include <enclave/executable.h>
#include <enclave/keeper.h>
#include <enclave/metrics.h>
#include <enclave/options.h>
#include <enclave/reload.h>
#include <enclave/roots.h>
#include <enclave/services.h>
#include <vault/vault.h>
#include <witness/witness.h>

/* The streams that run (stream.h): the end of the daemon ends them. */
typedef struct clv_streams {
    pthread_mutex_t lock; /* protects the rest */
    bool ended;
    struct clv_stream *first;
} clv_streams;

typedef struct clv_enclave {
    clv_nsm *nsm;
    clv_policy *policy;
    clv_clock clock;
    clv_services services;
    clv_gate *gate;
    clv_kms *kms;
    clv_vault *vault;
    clv_witness *witness; /* NULL: the policy has none */
    clv_keeper *keeper;
    clv_metrics metrics;
    clv_agents agents;
    clv_executables executables;
    clv_roots roots;
    clv_evidence evidence;
    clv_streams streams;
    clv_buf identity_text; /* clv_identity_json(), written out: it does not change */
    clv_review review;
    uint64_t started_ms;   /* monotonic */
    const char *front_key; /* the key of the front ends; NULL: the policy's only one */
} clv_enclave;

/* Who this enclave proved to be: enclave, module_id, release, debug, pcrs, policy_sha384. A new
 * reference, or NULL when memory ran out. */
json_t *clv_identity_json(const clv_enclave *enclave);

/* The pairs of a context as an object; a new reference, or NULL. */
json_t *clv_context_json(const clv_context *context);

/* CLV_OK when a call to KMS could be made now; otherwise what is missing. */
CLV_NODISCARD clv_status clv_enclave_ready(const clv_enclave *enclave, clv_error *err);

#endif

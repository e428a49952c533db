/*
 * The client of the parent's services (docs/protocol.md). The parent is not trusted: what it
 * answers is bounded and checked for shape here, and means nothing until a signature, a
 * certificate or a sealed message's own authentication says so.
 *
 * Each call dials anew, so that a parent that restarts costs nothing and calls of several agents
 * do not wait for one another.
 */
#ifndef CLV_ENCLAVE_SERVICES_H
#define CLV_ENCLAVE_SERVICES_H

#include <stdatomic.h>

#include <channel/frame.h>
#include <claviger/kms.h>

typedef struct clv_services {
    clv_address address;
    int timeout_ms;
    atomic_ulong calls, failures;    /* metrics */
    atomic_ulong stored, conflicts;  /* states that the parent stored, or has otherwise */
    atomic_ullong stored_generation; /* of the state that was stored last; 0: none yet */
    atomic_ullong stored_at_ms;      /* monotonic */
    atomic_bool stopping;            /* the daemon ends: calls that wait are not repeated */
} clv_services;

CLV_NODISCARD clv_status clv_services_init(clv_services *services, const char *address,
                                           int timeout_ms, clv_error *err);

/* The signed baseline and its .minisig text, both unverified. */
CLV_NODISCARD clv_status clv_services_baseline(clv_services *services, clv_buf *baseline,
                                               clv_buf *signature, clv_error *err);

CLV_NODISCARD clv_status clv_services_credentials(clv_services *services, clv_credentials *out,
                                                  clv_error *err);

/* Generations are 1 to CLV_GENERATION_MAX: integers that JSON carries exactly. */
#define CLV_GENERATION_MAX ((uint64_t)1 << 53)

/* *sealed becomes the state, of at most its limit. CLV_STATE_NOT_FOUND, CLV_STATE_CONFLICT,
 * CLV_STORE_FAILED, CLV_STORE_UNAVAILABLE (a put may or may not have happened) beside the channel's
 * own errors. */
CLV_NODISCARD clv_status clv_services_state_get(clv_services *services, const char *name,
                                                uint64_t *generation, clv_buf *sealed,
                                                clv_error *err);
CLV_NODISCARD clv_status clv_services_state_put(clv_services *services, const char *name,
                                                uint64_t generation, clv_bytes sealed,
                                                clv_error *err);
CLV_NODISCARD clv_status clv_services_state_delete(clv_services *services, const char *name,
                                                   uint64_t generation, clv_error *err);
/*
 * Wait until the parent says that it holds another generation than this one (0: none), at most
 * wait_ms, which is up to CLV_SERVICES_WAIT_MS; *found is what it says then. A hint, and no more:
 * what counts is what a get brings. CLV_STORE_BUSY.
 */
#define CLV_SERVICES_WAIT_MS 5000
CLV_NODISCARD clv_status clv_services_state_watch(clv_services *services, const char *name,
                                                  uint64_t generation, int wait_ms, uint64_t *found,
                                                  clv_error *err);
/* A new array of {"name","generation","size"}, each name beginning with the prefix, in order; at
 * most CLV_SERVICES_LIST_MAX, asked for page by page. */
#define CLV_SERVICES_LIST_MAX 100000
CLV_NODISCARD clv_status clv_services_state_list(clv_services *services, const char *prefix,
                                                 json_t **out, clv_error *err);

/* The CiphertextBlob kept for a key of the policy. */
CLV_NODISCARD clv_status clv_services_key_get(clv_services *services, const char *key,
                                              clv_buf *blob, clv_error *err);
CLV_NODISCARD clv_status clv_services_key_put(clv_services *services, const char *key,
                                              clv_bytes blob, clv_error *err);

#endif

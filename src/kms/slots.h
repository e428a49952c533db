/*
 * The connections of one client: libcurl handles, each with the connection that it keeps and the
 * TLS session that its next one resumes. Thread-safe.
 */
#ifndef CLV_KMS_SLOTS_H
#define CLV_KMS_SLOTS_H

#include <pthread.h>

#include <curl/curl.h>

#include <kms/transport.h>

typedef struct clv_slot {
    CURL *easy;
    uint64_t made_ms;
} clv_slot;

typedef struct clv_slots {
    uint64_t lifetime_ms;
    pthread_mutex_t lock;           /* protects the members below */
    pthread_cond_t freed;           /* a slot was given back */
    clv_slot idle[CLV_HTTPS_SLOTS]; /* the last is the one used most recently */
    size_t idle_count, made;
} clv_slots;

/* A slot older than this starts anew: a session that is resumed for ever would never look at a
 * certificate again. */
void clv_slots_init(clv_slots *slots, uint64_t lifetime_ms);
/* None may be taken any more. */
void clv_slots_drop(clv_slots *slots);

/* Wait for one until the deadline (clv_monotonic_ms): CLV_KMS_TIMEOUT. */
CLV_NODISCARD clv_status clv_slots_take(clv_slots *slots, uint64_t deadline_ms, clv_slot *out,
                                        clv_error *err);
void clv_slots_give(clv_slots *slots, clv_slot slot);

/* Close those that nobody has taken, and forget their sessions. */
void clv_slots_renew(clv_slots *slots);

#endif

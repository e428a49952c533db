/*
 * What the gate holds ready, so that no request waits for it: RSA keys and vouchers, each given out
 * once. Inside this room only.
 */
#ifndef CLV_GATE_AHEAD_H
#define CLV_GATE_AHEAD_H

#include <pthread.h>

#include <claviger/gate.h>

#define CLV_AHEAD_ID_SIZE 48
/* How many operations back one counts as asked for again. */
#define CLV_AHEAD_RECENT 16

typedef struct clv_ahead {
    pthread_mutex_t lock; /* protects every member below; the thread's id is its joiner's */
    pthread_cond_t wake;  /* something was taken, is wanted, or the thread has to end */
    pthread_t thread;
    bool running, stop;
    EVP_PKEY *key[CLV_AHEAD_KEYS_MAX];
    size_t key_count, key_target;
    struct clv_ahead_entry {
        uint8_t id[CLV_AHEAD_ID_SIZE];
        clv_voucher *voucher;
    } entry[CLV_AHEAD_VOUCHERS_MAX]; /* oldest first */
    size_t entry_count, entry_max;
    clv_operation wanted[CLV_AHEAD_VOUCHERS_MAX]; /* to be vouched for by the thread */
    size_t wanted_count;
    uint8_t recent[CLV_AHEAD_RECENT][CLV_AHEAD_ID_SIZE]; /* what was asked for last, a ring */
    size_t recent_next;
} clv_ahead;

void clv_ahead_init(clv_ahead *ahead);
/* Ends the thread, wipes keys and vouchers. */
void clv_ahead_drop(clv_ahead *ahead);

/* keys.c: a key nobody had before, from the pool or made on the spot. *out is the caller's. */
CLV_NODISCARD clv_status clv_key_make(EVP_PKEY **out, clv_error *err);
CLV_NODISCARD clv_status clv_key_take(clv_ahead *ahead, bool *pooled, EVP_PKEY **out,
                                      clv_error *err);

/* cache.c: SHA-384(verified PCRs || operation), both in deterministic CBOR (R9). */
CLV_NODISCARD clv_status clv_cache_id(const clv_identity *identity, const clv_operation *operation,
                                      uint8_t id[CLV_AHEAD_ID_SIZE], clv_error *err);
/* Moves a voucher out, or gives NULL: taking removes it, so nobody else can have it. */
clv_voucher *clv_cache_take(clv_ahead *ahead, const uint8_t id[CLV_AHEAD_ID_SIZE]);
/* Moves *voucher in; where there is no room the oldest goes. None is kept where none may be. */
void clv_cache_put(clv_ahead *ahead, const uint8_t id[CLV_AHEAD_ID_SIZE], clv_voucher **voucher);
/* Wipes those with too little life left to be worth giving out. How many remain. With the lock. */
size_t clv_cache_sweep(clv_ahead *ahead);

/*
 * Note that this operation was asked for. When it was before, not long ago, it will be again: the
 * thread prepares a voucher. Does nothing without a thread.
 */
void clv_ahead_note(clv_gate *gate, const uint8_t id[CLV_AHEAD_ID_SIZE],
                    const clv_operation *operation);

#endif

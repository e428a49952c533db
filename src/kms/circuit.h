/*
 * A circuit breaker: after CLV_CIRCUIT_FAILURES calls in a row that got no usable answer, calls
 * fail at once for a while; then one probe goes through, and its outcome closes the circuit or
 * doubles the wait. The time is an argument (clv_monotonic_ms). Thread-safe.
 */
#ifndef CLV_KMS_CIRCUIT_H
#define CLV_KMS_CIRCUIT_H

#include <pthread.h>

#include <claviger/bytes.h>

#define CLV_CIRCUIT_FAILURES    5
#define CLV_CIRCUIT_WAIT_MIN_MS 500
#define CLV_CIRCUIT_WAIT_MAX_MS 30000

typedef struct clv_circuit {
    pthread_mutex_t lock; /* protects the members below */
    unsigned failures;    /* in a row */
    uint64_t wait_ms;     /* how long it stays open; 0: closed */
    uint64_t open_until_ms;
    bool probing; /* one call is under way to find out */
} clv_circuit;

void clv_circuit_init(clv_circuit *circuit);
void clv_circuit_drop(clv_circuit *circuit);

/* Before a call: CLV_OK, and clv_circuit_leave() must follow; or CLV_KMS_CIRCUIT. *probe: the call
 * is the one that finds out. */
CLV_NODISCARD clv_status clv_circuit_enter(clv_circuit *circuit, uint64_t now_ms, bool *probe,
                                           clv_error *err);
/* After it: whether KMS answered at all, with whatever but a fault of its own. */
void clv_circuit_leave(clv_circuit *circuit, uint64_t now_ms, bool probe, bool answered);

typedef struct clv_circuit_state {
    unsigned failures;    /* in a row */
    uint64_t open_for_ms; /* 0: closed, or a probe may go through */
} clv_circuit_state;
void clv_circuit_read(clv_circuit *circuit, uint64_t now_ms, clv_circuit_state *out);

/* Whether clv_circuit_enter() would refuse: to spare work that would be thrown away. */
CLV_NODISCARD clv_status clv_circuit_check(clv_circuit *circuit, uint64_t now_ms, clv_error *err);

#endif

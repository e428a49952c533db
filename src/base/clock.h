/*
 * Time. The enclave has no NTP and its wall clock drifts; the attestation timestamp comes signed
 * from the hypervisor. An attested clock is that timestamp carried forward by CLOCK_MONOTONIC
 * (R25).
 */
#ifndef CLV_BASE_CLOCK_H
#define CLV_BASE_CLOCK_H

#include <pthread.h>

#include <base/time.h>
#include <claviger/bytes.h>

/* CLOCK_BOOTTIME, which never goes back and also counts while suspended, in milliseconds. */
uint64_t clv_monotonic_ms(void);

/* The machine's own wall clock; only for programs outside the enclave and for log lines. */
uint64_t clv_wall_ms(void);

typedef struct clv_clock {
    pthread_mutex_t lock; /* protects the members below */
    bool set;
    uint64_t attested_ms;       /* the newest attested timestamp */
    uint64_t at_monotonic_ms;   /* when it was taken */
    uint64_t backwards, jumped; /* how often each was refused: metrics */
} clv_clock;

void clv_clock_init(clv_clock *clock);
void clv_clock_drop(clv_clock *clock);

/*
 * Take an attested timestamp that belongs to the monotonic instant at_monotonic_ms. The carried
 * clock is the newest timestamp plus the monotonic time since.
 *
 * CLV_CLOCK_BACKWARDS: earlier than a timestamp taken before by more than CLV_CLOCK_SKEW_MS (two
 * threads' documents may cross on their way), or behind the carried clock by more than
 * CLV_CLOCK_JUMP_MS. CLV_CLOCK_JUMP: ahead of the carried clock by more than that. CLV_BAD_TIME:
 * not before the year 10000. A refused timestamp changes nothing but the counters.
 */
#define CLV_CLOCK_SKEW_MS 1000
#define CLV_CLOCK_JUMP_MS 60000
CLV_NODISCARD clv_status clv_clock_advance(clv_clock *clock, uint64_t attested_ms,
                                           uint64_t at_monotonic_ms, clv_error *err);

/* Now by the attested clock. CLV_CLOCK_UNSET before the first timestamp. */
CLV_NODISCARD clv_status clv_clock_now(clv_clock *clock, uint64_t *now_ms, clv_error *err);

#endif

#include <base/clock.h>

#include <inttypes.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clv_monotonic_ms(void)
{
    return read_clock(CLOCK_BOOTTIME);
}

uint64_t clv_wall_ms(void)
{
    return read_clock(CLOCK_REALTIME);
}

void clv_clock_init(clv_clock *clock)
{
    *clock = (clv_clock){.set = false};
    pthread_mutex_init(&clock->lock, NULL);
}

void clv_clock_drop(clv_clock *clock)
{
    pthread_mutex_destroy(&clock->lock);
}

static uint64_t carried(const clv_clock *clock, uint64_t monotonic_ms)
{
    uint64_t since =
        monotonic_ms > clock->at_monotonic_ms ? monotonic_ms - clock->at_monotonic_ms : 0;
    return clock->attested_ms + since;
}

static clv_status advance_locked(clv_clock *clock, uint64_t attested_ms, uint64_t at_monotonic_ms,
                                 clv_error *err)
{
    if (clock->set) {
        uint64_t expected = carried(clock, at_monotonic_ms);
        if (attested_ms + CLV_CLOCK_SKEW_MS < clock->attested_ms ||
            attested_ms + CLV_CLOCK_JUMP_MS < expected) {
            clock->backwards++;
            return clv_fail(err, CLV_CLOCK_BACKWARDS,
                            "expected attested time of about %" PRIu64 " ms, found %" PRIu64 " ms",
                            expected, attested_ms);
        }
        if (attested_ms > expected + CLV_CLOCK_JUMP_MS) {
            clock->jumped++;
            return clv_fail(err, CLV_CLOCK_JUMP,
                            "expected attested time of about %" PRIu64 " ms, found %" PRIu64 " ms",
                            expected, attested_ms);
        }
        if (attested_ms < clock->attested_ms)
            return CLV_OK;
    }
    clock->set = true;
    clock->attested_ms = attested_ms;
    clock->at_monotonic_ms = at_monotonic_ms;
    return CLV_OK;
}

clv_status clv_clock_advance(clv_clock *clock, uint64_t attested_ms, uint64_t at_monotonic_ms,
                             clv_error *err)
{
    if (attested_ms > CLV_TIME_MAX_MS)
        return clv_fail(err, CLV_BAD_TIME,
                        "expected a time before year 10000, found %" PRIu64 " ms", attested_ms);
    pthread_mutex_lock(&clock->lock);
    clv_status status = advance_locked(clock, attested_ms, at_monotonic_ms, err);
    pthread_mutex_unlock(&clock->lock);
    return status;
}

clv_status clv_clock_now(clv_clock *clock, uint64_t *now_ms, clv_error *err)
{
    pthread_mutex_lock(&clock->lock);
    bool set = clock->set;
    uint64_t now = carried(clock, clv_monotonic_ms());
    pthread_mutex_unlock(&clock->lock);
    if (!set)
        return clv_fail(err, CLV_CLOCK_UNSET, "no attestation document gave the time yet");
    *now_ms = now;
    return CLV_OK;
}

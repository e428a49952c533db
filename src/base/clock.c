#include <base/clock.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
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

void clv_time_text(uint64_t ms, char out[CLV_TIME_TEXT_SIZE])
{
    time_t seconds = (time_t)((ms <= CLV_TIME_MAX_MS ? ms : CLV_TIME_MAX_MS) / 1000);
    struct tm t;
    gmtime_r(&seconds, &t);
    strftime(out, CLV_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &t);
}

static clv_status bad_time(const char *text, clv_error *err)
{
    return clv_fail(err, CLV_BAD_TIME,
                    "expected a time such as 2026-01-31T12:00:00Z or seconds since 1970, found "
                    "\"%.40s\"",
                    text);
}

/* A fraction of a second such as ".526": milliseconds, and where it ends. */
static const char *parse_fraction(const char *text, uint64_t *ms)
{
    *ms = 0;
    if (*text != '.')
        return text;
    uint64_t weight = 100;
    for (text++; *text >= '0' && *text <= '9'; text++, weight /= 10)
        *ms += weight * (uint64_t)(*text - '0');
    return text;
}

clv_status clv_time_parse(const char *text, uint64_t *ms, clv_error *err)
{
    struct tm t = {0};
    uint64_t seconds, fraction;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &t);
    if (rest != NULL) {
        int day = t.tm_mday;
        time_t value = timegm(&t);
        /* timegm() turns a 31st of February into a day of March. */
        if (value < 0 || t.tm_mday != day)
            return bad_time(text, err);
        seconds = (uint64_t)value;
        rest = parse_fraction(rest, &fraction);
        if (strcmp(rest, "Z") != 0)
            return bad_time(text, err);
    } else {
        char *end;
        if (*text < '0' || *text > '9')
            return bad_time(text, err);
        seconds = strtoull(text, &end, 10);
        if (*parse_fraction(end, &fraction) != '\0')
            return bad_time(text, err);
    }
    if (seconds > CLV_TIME_MAX_MS / 1000)
        return bad_time(text, err);
    *ms = seconds * 1000 + fraction;
    return CLV_OK;
}

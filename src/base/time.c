#include <base/time.h>

#include <stdlib.h>
#include <time.h>

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

#include <kms/slots.h>

#include <time.h>

#include <base/clock.h>

void clv_slots_init(clv_slots *slots, uint64_t lifetime_ms)
{
    *slots = (clv_slots){.lifetime_ms = lifetime_ms};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&slots->freed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&slots->lock, NULL);
}

void clv_slots_drop(clv_slots *slots)
{
    for (size_t i = 0; i < slots->idle_count; i++)
        curl_easy_cleanup(slots->idle[i].easy);
    pthread_cond_destroy(&slots->freed);
    pthread_mutex_destroy(&slots->lock);
}

/* A condition cannot wait by the clock that deadlines are counted by. */
static struct timespec instant_of(uint64_t deadline_ms)
{
    uint64_t now = clv_monotonic_ms();
    uint64_t wait_ms = now < deadline_ms ? deadline_ms - now : 0;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000L;
    until.tv_sec += (time_t)(wait_ms / 1000) + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    return until;
}

/* The slot used last, or a place for one that is not made yet. */
static clv_status take_place(clv_slots *slots, uint64_t deadline_ms, clv_slot *out, clv_error *err)
{
    const struct timespec until = instant_of(deadline_ms);
    *out = (clv_slot){.easy = NULL};
    pthread_mutex_lock(&slots->lock);
    int waited = 0;
    while (slots->idle_count == 0 && slots->made == CLV_HTTPS_SLOTS && waited == 0)
        waited = pthread_cond_timedwait(&slots->freed, &slots->lock, &until);
    bool found = slots->idle_count > 0 || slots->made < CLV_HTTPS_SLOTS;
    if (slots->idle_count > 0)
        *out = slots->idle[--slots->idle_count];
    else if (found)
        slots->made++;
    pthread_mutex_unlock(&slots->lock);
    return found ? CLV_OK
                 : clv_fail(err, CLV_KMS_TIMEOUT, "all %d connections to KMS stayed busy",
                            CLV_HTTPS_SLOTS);
}

clv_status clv_slots_take(clv_slots *slots, uint64_t deadline_ms, clv_slot *out, clv_error *err)
{
    CLV_TRY(take_place(slots, deadline_ms, out, err));
    uint64_t now = clv_monotonic_ms();
    if (out->easy != NULL && now - out->made_ms >= slots->lifetime_ms) {
        curl_easy_cleanup(out->easy);
        out->easy = NULL;
    }
    if (out->easy == NULL)
        *out = (clv_slot){curl_easy_init(), now};
    if (out->easy != NULL)
        return CLV_OK;
    pthread_mutex_lock(&slots->lock);
    slots->made--;
    pthread_cond_signal(&slots->freed);
    pthread_mutex_unlock(&slots->lock);
    return clv_fail(err, CLV_NO_MEMORY, "no memory for a connection");
}

void clv_slots_give(clv_slots *slots, clv_slot slot)
{
    curl_easy_reset(slot.easy); /* keeps connection and session, forgets every pointer of ours */
    pthread_mutex_lock(&slots->lock);
    slots->idle[slots->idle_count++] = slot;
    pthread_cond_signal(&slots->freed);
    pthread_mutex_unlock(&slots->lock);
}

void clv_slots_renew(clv_slots *slots)
{
    clv_slot old[CLV_HTTPS_SLOTS];
    pthread_mutex_lock(&slots->lock);
    size_t count = slots->idle_count;
    memcpy(old, slots->idle, count * sizeof *old);
    slots->idle_count = 0;
    slots->made -= count;
    pthread_cond_broadcast(&slots->freed);
    pthread_mutex_unlock(&slots->lock);
    for (size_t i = 0; i < count; i++)
        curl_easy_cleanup(old[i].easy);
}

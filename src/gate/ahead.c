/* The gate's one thread: it makes keys and vouchers before they are asked for. */
#include <gate/ahead.h>

#include <errno.h>
#include <time.h>

#include <base/log.h>
#include <gate/gate.h>

/* How often vouchers that nobody took are looked at; also the pause after a failure. */
#define SWEEP_S 1

void clv_ahead_init(clv_ahead *ahead)
{
    pthread_condattr_t monotonic;
    *ahead = (clv_ahead){.entry_max = CLV_AHEAD_VOUCHERS_MAX};
    pthread_mutex_init(&ahead->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&ahead->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void clv_ahead_drop(clv_ahead *ahead)
{
    if (ahead->running) {
        pthread_mutex_lock(&ahead->lock);
        ahead->stop = true;
        pthread_cond_signal(&ahead->wake);
        pthread_mutex_unlock(&ahead->lock);
        pthread_join(ahead->thread, NULL);
    }
    for (size_t i = 0; i < ahead->key_count; i++)
        EVP_PKEY_free(ahead->key[i]);
    for (size_t i = 0; i < ahead->entry_count; i++)
        clv_voucher_free(&ahead->entry[i].voucher);
    for (size_t i = 0; i < ahead->wanted_count; i++)
        clv_operation_drop(&ahead->wanted[i]);
    pthread_cond_destroy(&ahead->wake);
    pthread_mutex_destroy(&ahead->lock);
    *ahead = (clv_ahead){.running = false};
}

static void pause_a_little(clv_ahead *ahead)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SWEEP_S;
    pthread_cond_timedwait(&ahead->wake, &ahead->lock, &until);
}

/* With the lock, which it gives up while it works. */
static bool add_key(clv_ahead *ahead)
{
    EVP_PKEY *key;
    clv_error err = {.code = CLV_OK};
    pthread_mutex_unlock(&ahead->lock);
    clv_status status = clv_key_make(&key, &err);
    pthread_mutex_lock(&ahead->lock);
    if (status == CLV_OK)
        ahead->key[ahead->key_count++] = key; /* only this thread adds: there is room */
    else
        clv_log_failure(CLV_LOG_WARNING, "gate.ahead", NULL, &err);
    return status == CLV_OK;
}

/* The same, for the operation that waits longest. */
static bool add_voucher(clv_gate *gate)
{
    clv_ahead *ahead = &gate->ahead;
    clv_error err = {.code = CLV_OK};
    clv_auto(clv_operation) operation = ahead->wanted[0];
    ahead->wanted_count--;
    memmove(&ahead->wanted[0], &ahead->wanted[1], ahead->wanted_count * sizeof ahead->wanted[0]);
    pthread_mutex_unlock(&ahead->lock);
    clv_status status = clv_gate_prepare(gate, &operation, &err);
    pthread_mutex_lock(&ahead->lock);
    if (status != CLV_OK)
        clv_log_failure(CLV_LOG_WARNING, "gate.ahead", NULL, &err);
    return status == CLV_OK;
}

static void *work(void *context)
{
    clv_gate *gate = context;
    clv_ahead *ahead = &gate->ahead;
    pthread_mutex_lock(&ahead->lock);
    while (!ahead->stop) {
        bool done = false;
        clv_cache_sweep(ahead);
        if (ahead->key_count < ahead->key_target)
            done = add_key(ahead);
        else if (ahead->wanted_count > 0)
            done = add_voucher(gate);
        if (!done && !ahead->stop)
            pause_a_little(ahead);
    }
    pthread_mutex_unlock(&ahead->lock);
    return NULL;
}

clv_status clv_gate_work_ahead(clv_gate *gate, size_t keys, size_t vouchers, clv_error *err)
{
    clv_ahead *ahead = &gate->ahead;
    clv_status status = CLV_OK;
    pthread_mutex_lock(&ahead->lock);
    if (keys > CLV_AHEAD_KEYS_MAX || vouchers > CLV_AHEAD_VOUCHERS_MAX || ahead->running) {
        status = clv_fail(err, CLV_INTERNAL,
                          "expected at most %d keys and %d vouchers ahead, and no thread before",
                          CLV_AHEAD_KEYS_MAX, CLV_AHEAD_VOUCHERS_MAX);
    } else {
        ahead->key_target = keys;
        ahead->entry_max = vouchers;
        ahead->running = pthread_create(&ahead->thread, NULL, work, gate) == 0;
        if (!ahead->running)
            status = clv_fail(err, CLV_SYSTEM, "the thread that works ahead cannot be started");
    }
    pthread_mutex_unlock(&ahead->lock);
    return status;
}

/* With the lock. Whether the id was among the recent ones, which it is from now on. */
static bool was_recent(clv_ahead *ahead, const uint8_t id[CLV_AHEAD_ID_SIZE])
{
    for (size_t i = 0; i < CLV_AHEAD_RECENT; i++) {
        if (memcmp(ahead->recent[i], id, CLV_AHEAD_ID_SIZE) == 0)
            return true;
    }
    memcpy(ahead->recent[ahead->recent_next], id, CLV_AHEAD_ID_SIZE);
    ahead->recent_next = (ahead->recent_next + 1) % CLV_AHEAD_RECENT;
    return false;
}

void clv_ahead_note(clv_gate *gate, const uint8_t id[CLV_AHEAD_ID_SIZE],
                    const clv_operation *operation)
{
    clv_ahead *ahead = &gate->ahead;
    clv_auto(clv_operation) copy = CLV_OPERATION_INIT;
    pthread_mutex_lock(&ahead->lock);
    /* One that is wanted twice is prepared twice: there may be two callers. */
    if (ahead->running && was_recent(ahead, id) &&
        ahead->wanted_count + ahead->entry_count < ahead->entry_max &&
        clv_operation_copy(operation, &copy, NULL) == CLV_OK) {
        ahead->wanted[ahead->wanted_count++] = copy;
        copy = (clv_operation)CLV_OPERATION_INIT;
        pthread_cond_signal(&ahead->wake);
    }
    pthread_mutex_unlock(&ahead->lock);
}

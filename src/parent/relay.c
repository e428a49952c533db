#include <parent/relay.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>
#include <parent/relay_connections.h>
#include <parent/relay_rules.h>

#define EVENTS        256
#define TICK_MS       250
#define DRAIN_IDLE_MS 500 /* while draining, silence that counts as the end */
/* An address that swallows packets leaves time for the next one. */
#define ATTEMPT_MS 2000

/* -- time -------------------------------------------------------------------------------------- */

static void retry_resolving(clv_relay *relay)
{
    connection *c, *later;
    for (c = TAILQ_FIRST(&relay->starting); c != NULL; c = later) {
        later = TAILQ_NEXT(c, link);
        if (c->phase == RESOLVING)
            clv_relay_connect(relay, c, true);
    }
}

static void try_next_addresses(clv_relay *relay, uint64_t now)
{
    connection *c, *later;
    for (c = TAILQ_FIRST(&relay->starting); c != NULL; c = later) {
        later = TAILQ_NEXT(c, link);
        if (c->phase == CONNECTING && c->tried < c->count && now - c->attempt_ms >= ATTEMPT_MS)
            clv_relay_next_address(relay, c, ETIMEDOUT);
    }
}

static void expire(clv_relay *relay, uint64_t now)
{
    connection *c;
    clv_error why = {.code = CLV_OK};
    while ((c = TAILQ_FIRST(&relay->starting)) != NULL &&
           now - c->since_ms >= (uint64_t)relay->limits.connect_ms) {
        clv_fail(&why, CLV_DEADLINE, "%s:%u was not %s in %d ms",
                 clv_upstream_host(c->from->upstream), clv_upstream_port(c->from->upstream),
                 c->phase == RESOLVING ? "resolved" : "connected", relay->limits.connect_ms);
        clv_relay_refuse(relay, c, &why);
    }
    uint64_t idle = (uint64_t)relay->limits.idle_ms;
    if (relay->stopping && idle > DRAIN_IDLE_MS)
        idle = DRAIN_IDLE_MS;
    while ((c = TAILQ_FIRST(&relay->carrying)) != NULL && now - c->since_ms >= idle) {
        relay->idle++;
        clv_relay_finish(relay, c);
    }
}

/* -- rules ------------------------------------------------------------------------------------- */

static bool has(const rules *r, const listener *l)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->listener[i] == l)
            return true;
    }
    return false;
}

/* An event of this round may still name it. */
static void retire(clv_relay *relay, listener *l)
{
    clv_relay_want(relay, &l->watch, l->fd, 0);
    clv_fd_drop(&l->fd);
    SLIST_INSERT_HEAD(&relay->retired, l, link);
}

/* In the thread that owns the loop, or before it runs. The caller holds the lock. */
static void apply(clv_relay *relay, const rules *next)
{
    for (size_t i = 0; i < next->count; i++) {
        listener *heir = next->listener[i], *old = next->heir_of[i];
        heir->allowed = next->allowed[i];
        if (old == NULL)
            continue;
        clv_relay_want(relay, &old->watch, old->fd, 0);
        heir->fd = old->fd;
        old->fd = -1;
    }
    for (size_t i = 0; i < relay->rules.count; i++) {
        if (!has(next, relay->rules.listener[i]))
            retire(relay, relay->rules.listener[i]);
    }
    relay->rules = *next;
    relay->limits = next->limits;
    clv_relay_watch_listeners(relay, true);
}

static void apply_next(clv_relay *relay)
{
    pthread_mutex_lock(&relay->lock);
    if (relay->next != NULL)
        apply(relay, relay->next);
    relay->next = NULL;
    pthread_cond_signal(&relay->applied);
    pthread_mutex_unlock(&relay->lock);
}

/* -- the loop ---------------------------------------------------------------------------------- */

/* What events of the round that has ended may have named. */
static void free_closed(clv_relay *relay)
{
    connection *c;
    listener *l, *later;
    while ((c = TAILQ_FIRST(&relay->closed)) != NULL) {
        TAILQ_REMOVE(&relay->closed, c, link);
        free(c);
    }
    for (l = SLIST_FIRST(&relay->retired); l != NULL; l = later) {
        later = SLIST_NEXT(l, link);
        if (l->connections > 0)
            continue;
        SLIST_REMOVE(&relay->retired, l, listener, link);
        clv_listener_free(&l);
    }
}

static void handle(clv_relay *relay, const watch *w)
{
    uint64_t count;
    connection *c = w->owner;
    if (w->kind == WATCH_LISTENER) {
        clv_relay_accept(relay, w->owner);
    } else if (w->kind == WATCH_WAKE) {
        if (read(relay->wake_fd, &count, sizeof count) > 0)
            retry_resolving(relay);
        apply_next(relay);
    } else if (c->phase == CONNECTING) {
        clv_relay_check_connect(relay, c);
    } else if (c->phase == CARRYING) {
        clv_relay_carry(relay, c);
    }
}

static void close_listeners(clv_relay *relay)
{
    pthread_mutex_lock(&relay->lock);
    for (size_t i = 0; i < relay->rules.count; i++)
        retire(relay, relay->rules.listener[i]);
    relay->rules.count = 0;
    pthread_mutex_unlock(&relay->lock);
}

static void close_list(clv_relay *relay, struct list *list)
{
    connection *c;
    while ((c = TAILQ_FIRST(list)) != NULL)
        clv_relay_finish(relay, c);
}

static void run_round(clv_relay *relay, int timeout_ms)
{
    struct epoll_event event[EVENTS];
    int n = epoll_wait(relay->epoll_fd, event, EVENTS, timeout_ms);
    for (int i = 0; i < n; i++)
        handle(relay, event[i].data.ptr);
    uint64_t now = clv_monotonic_ms();
    if (now - relay->looked_ms >= TICK_MS) {
        relay->looked_ms = now;
        try_next_addresses(relay, now);
    }
    expire(relay, now);
    free_closed(relay);
}

static void *run(void *argument)
{
    clv_relay *relay = argument;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* SIGPIPE too: splice has no MSG_NOSIGNAL */
    while (!relay->stopping) {
        run_round(relay, TICK_MS);
        if (relay->paused)
            clv_relay_watch_listeners(relay, true);
    }
    close_listeners(relay);
    uint64_t until = clv_monotonic_ms() + (uint64_t)relay->limits.drain_ms;
    while (relay->active > 0 && clv_monotonic_ms() < until)
        run_round(relay, TICK_MS / 5);
    close_list(relay, &relay->starting);
    close_list(relay, &relay->carrying);
    free_closed(relay);
    return NULL;
}

/* -- the door --------------------------------------------------------------------------------- */

static void wake(clv_relay *relay)
{
    const uint64_t one = 1;
    if (write(relay->wake_fd, &one, sizeof one) < 0)
        clv_log(CLV_LOG_ERROR, "relay.wake", NULL, "the relay cannot be woken: %m");
}

clv_status clv_relay_reload(clv_relay *relay, const clv_relay_options *options, clv_error *err)
{
    rules next;
    CLV_TRY(clv_rules_make(&relay->rules, options, relay->wake_fd, &next, err));
    pthread_mutex_lock(&relay->lock);
    relay->next = &next;
    wake(relay);
    while (relay->next != NULL)
        pthread_cond_wait(&relay->applied, &relay->lock);
    pthread_mutex_unlock(&relay->lock);
    return CLV_OK;
}

static clv_status open_relay(clv_relay *relay, const clv_relay_options *options, clv_address *bound,
                             clv_error *err)
{
    rules first;
    relay->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    relay->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (relay->epoll_fd < 0 || relay->wake_fd < 0)
        return clv_fail(err, CLV_SYSTEM, "no event loop for a relay: %m");
    CLV_TRY(clv_rules_make(&relay->rules, options, relay->wake_fd, &first, err));
    for (size_t i = 0; i < first.count; i++)
        bound[i] = first.listener[i]->bound;
    pthread_mutex_lock(&relay->lock);
    apply(relay, &first);
    pthread_mutex_unlock(&relay->lock);
    /* At the start a rule that the list lacks is a mistake of whoever wrote the two. */
    CLV_TRY(clv_rules_allowed(&relay->rules, options->allowlist, err));
    relay->wake = (watch){.kind = WATCH_WAKE};
    clv_relay_want(relay, &relay->wake, relay->wake_fd, EPOLLIN);
    if (pthread_create(&relay->thread, NULL, run, relay) != 0)
        return clv_fail(err, CLV_SYSTEM, "no thread for a relay: %m");
    relay->running = true;
    return CLV_OK;
}

clv_status clv_relay_start(const clv_relay_options *options, clv_relay **out,
                           clv_address bound[CLV_RELAY_RULES_MAX], clv_error *err)
{
    clv_auto_ptr(clv_relay) relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a relay");
    relay->epoll_fd = relay->wake_fd = -1;
    pthread_mutex_init(&relay->lock, NULL);
    pthread_cond_init(&relay->applied, NULL);
    SLIST_INIT(&relay->retired);
    TAILQ_INIT(&relay->starting);
    TAILQ_INIT(&relay->carrying);
    TAILQ_INIT(&relay->closed);
    CLV_TRY(open_relay(relay, options, bound, err));
    *out = relay;
    relay = NULL;
    return CLV_OK;
}

json_t *clv_relay_rules_json(clv_relay *relay)
{
    pthread_mutex_lock(&relay->lock);
    json_t *list = clv_rules_json(&relay->rules);
    pthread_mutex_unlock(&relay->lock);
    return list;
}

void clv_relay_count(clv_relay *r, clv_relay_counts *out)
{
    *out = (clv_relay_counts){
        .accepted = r->accepted,
        .ended = r->ended,
        .broken = r->broken,
        .idle = r->idle,
        .active = r->active,
        .refused_limit = r->refused_limit,
        .refused_allowlist = r->refused_allowlist,
        .refused_upstream = r->refused_upstream,
        .bytes_up = r->bytes[0],
        .bytes_down = r->bytes[1],
    };
}

void clv_relay_report(clv_relay *relay)
{
    clv_relay_counts n;
    clv_relay_count(relay, &n);
    clv_log(CLV_LOG_INFO, "relay.counts", NULL,
            "accepted=%llu active=%llu ended=%llu broken=%llu idle=%llu refused_limit=%llu "
            "refused_allowlist=%llu refused_upstream=%llu bytes_up=%llu bytes_down=%llu",
            (unsigned long long)n.accepted, (unsigned long long)n.active,
            (unsigned long long)n.ended, (unsigned long long)n.broken, (unsigned long long)n.idle,
            (unsigned long long)n.refused_limit, (unsigned long long)n.refused_allowlist,
            (unsigned long long)n.refused_upstream, (unsigned long long)n.bytes_up,
            (unsigned long long)n.bytes_down);
}

void clv_relay_free(clv_relay **relay)
{
    clv_relay *r = *relay;
    *relay = NULL;
    if (r == NULL)
        return;
    r->stopping = true;
    if (r->running) {
        wake(r);
        pthread_join(r->thread, NULL);
    }
    close_listeners(r);
    free_closed(r);
    clv_pipes_drop(&r->pipes);
    clv_fd_drop(&r->epoll_fd);
    clv_fd_drop(&r->wake_fd);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->applied);
    free(r);
}

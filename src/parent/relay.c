#include <parent/relay.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>
#include <parent/allowlist.h>
#include <parent/relay_connections.h>

#define EVENTS        256
#define TICK_MS       250
#define DRAIN_IDLE_MS 500 /* while draining, silence that counts as the end */

/* -- time and the loop ------------------------------------------------------------------------ */

static void retry_resolving(clv_relay *relay)
{
    connection *c, *later;
    for (c = TAILQ_FIRST(&relay->starting); c != NULL; c = later) {
        later = TAILQ_NEXT(c, link);
        if (c->phase == RESOLVING)
            clv_relay_connect(relay, c, true);
    }
}

static void expire(clv_relay *relay, uint64_t now)
{
    connection *c;
    clv_error why = {.code = CLV_OK};
    while ((c = TAILQ_FIRST(&relay->starting)) != NULL &&
           now - c->since_ms >= (uint64_t)relay->options.connect_ms) {
        clv_fail(&why, CLV_DEADLINE, "%s:%u was not %s in %d ms",
                 clv_upstream_host(c->from->upstream), clv_upstream_port(c->from->upstream),
                 c->phase == RESOLVING ? "resolved" : "connected", relay->options.connect_ms);
        clv_relay_refuse(relay, c, &why);
    }
    uint64_t idle = (uint64_t)relay->options.idle_ms;
    if (relay->stopping && idle > DRAIN_IDLE_MS)
        idle = DRAIN_IDLE_MS;
    while ((c = TAILQ_FIRST(&relay->carrying)) != NULL && now - c->since_ms >= idle) {
        relay->idle++;
        clv_relay_finish(relay, c);
    }
}

static void free_closed(clv_relay *relay)
{
    connection *c;
    while ((c = TAILQ_FIRST(&relay->closed)) != NULL) {
        TAILQ_REMOVE(&relay->closed, c, link);
        free(c);
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
    } else if (c->phase == CONNECTING) {
        clv_relay_check_connect(relay, c);
    } else if (c->phase == CARRYING) {
        clv_relay_carry(relay, c);
    }
}

static void close_listeners(clv_relay *relay)
{
    for (size_t i = 0; i < relay->options.rules; i++) {
        clv_relay_want(relay, &relay->listener[i].watch, relay->listener[i].fd, 0);
        clv_fd_drop(&relay->listener[i].fd);
    }
}

/* A connection that has not reached its upstream has nothing to lose. */
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
    expire(relay, clv_monotonic_ms());
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
    close_list(relay, &relay->starting);
    uint64_t until = clv_monotonic_ms() + (uint64_t)relay->options.drain_ms;
    while (relay->active > 0 && clv_monotonic_ms() < until)
        run_round(relay, TICK_MS / 5);
    close_list(relay, &relay->carrying);
    free_closed(relay);
    return NULL;
}

/* -- the door --------------------------------------------------------------------------------- */

/* "ADDRESS=HOST:PORT", where HOST may be [IPv6]. */
static clv_status parse_rule(clv_relay *relay, const char *rule, listener *l, clv_address *address,
                             clv_error *err)
{
    char listen[sizeof address->text], host[CLV_HOST_MAX + 3];
    const char *equals = strchr(rule, '='), *colon = strrchr(rule, ':');
    size_t n = equals != NULL && colon > equals ? (size_t)(colon - equals) - 1 : 0;
    if (n == 0 || n >= sizeof host || (size_t)(equals - rule) >= sizeof listen)
        return clv_fail(err, CLV_USAGE, "--relay: expected ADDRESS=HOST:PORT, found \"%.80s\"",
                        rule);
    snprintf(listen, sizeof listen, "%.*s", (int)(equals - rule), rule);
    bool bracketed = equals[1] == '[' && equals[n] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(bracketed ? n - 2 : n), equals + 1 + bracketed);
    clv_status status =
        clv_upstream_new(host, colon + 1, relay->options.family, relay->wake_fd, &l->upstream, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "--relay %.80s", rule);
    return clv_address_parse(listen, address, err);
}

static clv_status start_listener(clv_relay *relay, size_t i, clv_address *bound, clv_error *err)
{
    listener *l = &relay->listener[i];
    clv_address address;
    CLV_TRY(parse_rule(relay, relay->options.rule[i], l, &address, err));
    CLV_TRY(clv_listen(&address, 0660, &l->fd, bound, err));
    if (fcntl(l->fd, F_SETFL, O_NONBLOCK) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be listened on: %m", address.text);
    l->allowed = true;
    l->watch = (watch){.kind = WATCH_LISTENER, .owner = l};
    return CLV_OK;
}

clv_status clv_relay_reload(clv_relay *relay, clv_error *err)
{
    clv_auto_ptr(clv_allowlist) list = NULL;
    if (relay->options.allowlist == NULL)
        return CLV_OK;
    CLV_TRY(clv_allowlist_read(relay->options.allowlist, &list, err));
    for (size_t i = 0; i < relay->options.rules; i++) {
        listener *l = &relay->listener[i];
        l->allowed =
            clv_allowlist_has(list, clv_upstream_host(l->upstream), clv_upstream_port(l->upstream));
    }
    return CLV_OK;
}

/* At the start a rule that the list lacks is a mistake of whoever wrote the two. */
static clv_status check_allowed(const clv_relay *relay, clv_error *err)
{
    for (size_t i = 0; i < relay->options.rules; i++) {
        const listener *l = &relay->listener[i];
        if (!l->allowed)
            return clv_fail(err, CLV_RELAY_REFUSED, "%s: expected an entry for %s:%u, found none",
                            relay->options.allowlist, clv_upstream_host(l->upstream),
                            clv_upstream_port(l->upstream));
    }
    return CLV_OK;
}

static clv_status open_relay(clv_relay *relay, clv_address *bound, clv_error *err)
{
    relay->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    relay->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (relay->epoll_fd < 0 || relay->wake_fd < 0)
        return clv_fail(err, CLV_SYSTEM, "no event loop for a relay: %m");
    for (size_t i = 0; i < relay->options.rules; i++)
        CLV_TRY(start_listener(relay, i, &bound[i], err));
    CLV_TRY(clv_relay_reload(relay, err));
    CLV_TRY(check_allowed(relay, err));
    relay->wake = (watch){.kind = WATCH_WAKE};
    clv_relay_want(relay, &relay->wake, relay->wake_fd, EPOLLIN);
    clv_relay_watch_listeners(relay, true);
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
    relay->options = *options;
    relay->epoll_fd = relay->wake_fd = -1;
    for (size_t i = 0; i < CLV_RELAY_RULES_MAX; i++)
        relay->listener[i].fd = -1;
    TAILQ_INIT(&relay->starting);
    TAILQ_INIT(&relay->carrying);
    TAILQ_INIT(&relay->closed);
    CLV_TRY(open_relay(relay, bound, err));
    *out = relay;
    relay = NULL;
    return CLV_OK;
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
    const uint64_t one = 1;
    *relay = NULL;
    if (r == NULL)
        return;
    r->stopping = true;
    if (r->running && write(r->wake_fd, &one, sizeof one) > 0)
        pthread_join(r->thread, NULL);
    close_listeners(r);
    for (size_t i = 0; i < r->options.rules; i++)
        clv_upstream_free(&r->listener[i].upstream);
    clv_pipes_drop(&r->pipes);
    clv_fd_drop(&r->epoll_fd);
    clv_fd_drop(&r->wake_fd);
    free(r);
}

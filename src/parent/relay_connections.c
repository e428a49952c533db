#include <parent/relay_connections.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <base/clock.h>
#include <base/log.h>

#define ACCEPTS      64 /* of one listener at one event */
#define LOG_EVERY_MS 1000

static void refuse(listener *from, _Atomic uint64_t *counter, const clv_error *why)
{
    uint64_t now = clv_monotonic_ms();
    (*counter)++;
    if (from->logged_ms != 0 && now - from->logged_ms < LOG_EVERY_MS) {
        from->unlogged++;
        return;
    }
    if (from->unlogged > 0)
        clv_log(CLV_LOG_WARNING, "relay.refused", NULL, "%s (%s); %llu more since the last line",
                why->text, clv_status_slug(why->code), (unsigned long long)from->unlogged);
    else
        clv_log_failure(CLV_LOG_WARNING, "relay.refused", NULL, why);
    from->logged_ms = now;
    from->unlogged = 0;
}

/* -- epoll ----------------------------------------------------------------------------------- */

/* A descriptor that waits for nothing is taken out: a hang-up is reported even when not asked for,
 * and would wake the loop for ever. */
void clv_relay_want(clv_relay *relay, watch *w, int fd, uint32_t interest)
{
    if (w->added && w->interest == interest)
        return;
    struct epoll_event event = {.events = interest, .data.ptr = w};
    int operation = !w->added ? EPOLL_CTL_ADD : interest == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (!w->added && interest == 0)
        return;
    if (epoll_ctl(relay->epoll_fd, operation, fd, &event) != 0)
        clv_log(CLV_LOG_ERROR, "relay.epoll", NULL, "a descriptor cannot be watched: %m");
    w->added = interest != 0;
    w->interest = interest;
}

static void watch_sides(clv_relay *relay, connection *c)
{
    for (int i = 0; i < 2; i++)
        clv_relay_want(relay, &c->watch[i], c->pair.fd[i], clv_pair_interest(&c->pair, i));
}

/* -- connections ------------------------------------------------------------------------------ */

static struct list *list_of(clv_relay *relay, phase p)
{
    return p == CARRYING ? &relay->carrying : p == CLOSED ? &relay->closed : &relay->starting;
}

static void enter(clv_relay *relay, connection *c, phase p)
{
    TAILQ_REMOVE(list_of(relay, c->phase), c, link);
    c->phase = p;
    TAILQ_INSERT_TAIL(list_of(relay, p), c, link);
}

void clv_relay_finish(clv_relay *relay, connection *c)
{
    if (c->phase == CLOSED)
        return;
    /* Whoever sees the connection closed may count on its place. */
    relay->active--;
    c->from->connections--;
    clv_pair_close(&c->pair, &relay->pipes);
    enter(relay, c, CLOSED);
}

void clv_relay_refuse(clv_relay *relay, connection *c, const clv_error *why)
{
    refuse(c->from, &relay->refused_upstream, why);
    clv_relay_finish(relay, c);
}

void clv_relay_carry(clv_relay *relay, connection *c)
{
    uint64_t before[2] = {c->pair.stream[0].moved, c->pair.stream[1].moved};
    clv_pair_state state = clv_pair_move(&c->pair, &relay->pipes);
    uint64_t up = c->pair.stream[0].moved - before[0], down = c->pair.stream[1].moved - before[1];
    relay->bytes[0] += up;
    relay->bytes[1] += down;
    if (state == CLV_PAIR_OPEN) {
        if (up + down > 0) {
            c->since_ms = clv_monotonic_ms();
            enter(relay, c, CARRYING);
        }
        watch_sides(relay, c);
        return;
    }
    (*(state == CLV_PAIR_ENDED ? &relay->ended : &relay->broken))++;
    clv_relay_finish(relay, c);
}

static void tune(int fd, sa_family_t family)
{
    int on = 1;
    if (family != AF_INET && family != AF_INET6)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static void connected(clv_relay *relay, connection *c)
{
    c->since_ms = clv_monotonic_ms();
    enter(relay, c, CARRYING);
    clv_relay_carry(relay, c);
}

/* Try the addresses in order, until one connects or is under way. */
static void connect_next(clv_relay *relay, connection *c, int failure)
{
    clv_error why = {.code = CLV_OK};
    while (c->tried < c->count) {
        const clv_address *a = &c->address[c->tried++];
        int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0 && (connect(fd, (const struct sockaddr *)&a->sa, a->length) == 0 ||
                        errno == EINPROGRESS)) {
            tune(fd, a->sa.ss_family);
            c->pair.fd[1] = fd;
            c->phase = CONNECTING; /* the same list as before */
            c->attempt_ms = clv_monotonic_ms();
            clv_relay_want(relay, &c->watch[1], fd, EPOLLOUT);
            return;
        }
        failure = errno;
        clv_fd_drop(&fd);
    }
    clv_fail(&why, CLV_UNREACHABLE, "%s cannot be reached: %s", c->address[c->count - 1].text,
             strerror(failure));
    clv_relay_refuse(relay, c, &why);
}

void clv_relay_check_connect(clv_relay *relay, connection *c)
{
    int failure = 0;
    socklen_t size = sizeof failure;
    if (getsockopt(c->pair.fd[1], SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
        failure = errno;
    if (failure == 0)
        connected(relay, c);
    else
        clv_relay_next_address(relay, c, failure);
}

void clv_relay_next_address(clv_relay *relay, connection *c, int failure)
{
    clv_relay_want(relay, &c->watch[1], c->pair.fd[1], 0);
    clv_fd_drop(&c->pair.fd[1]);
    connect_next(relay, c, failure);
}

void clv_relay_connect(clv_relay *relay, connection *c, bool again)
{
    clv_error why = {.code = CLV_OK};
    switch (clv_upstream_resolve(c->from->upstream, again, c->address, &c->count, &why)) {
    case CLV_RESOLUTION_READY:
        connect_next(relay, c, 0);
        return;
    case CLV_RESOLUTION_FAILED:
        clv_relay_refuse(relay, c, &why);
        return;
    case CLV_RESOLUTION_PENDING:
        return;
    }
}

/* -- accepting -------------------------------------------------------------------------------- */

static void identify(int fd, const struct sockaddr_storage *sa, peer *out)
{
    const struct sockaddr_vm *vm = (const struct sockaddr_vm *)sa;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)sa;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)sa;
    struct ucred user = {.uid = 0};
    socklen_t size = sizeof user;
    *out = (peer){.family = sa->ss_family};
    if (sa->ss_family == AF_VSOCK)
        memcpy(out->id, &vm->svm_cid, sizeof vm->svm_cid);
    else if (sa->ss_family == AF_INET)
        memcpy(out->id, &v4->sin_addr, sizeof v4->sin_addr);
    else if (sa->ss_family == AF_INET6)
        memcpy(out->id, &v6->sin6_addr, sizeof v6->sin6_addr);
    else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &size) == 0)
        memcpy(out->id, &user.uid, sizeof user.uid);
}

static size_t count_peer(const clv_relay *relay, const peer *p)
{
    size_t count = 0;
    const connection *c;
    TAILQ_FOREACH(c, &relay->starting, link)
    count += memcmp(&c->peer, p, sizeof *p) == 0;
    TAILQ_FOREACH(c, &relay->carrying, link)
    count += memcmp(&c->peer, p, sizeof *p) == 0;
    return count;
}

/* Whether the peer may have one more connection; a refusal is counted and logged. */
static bool admit(clv_relay *relay, listener *l, const peer *p)
{
    clv_error why = {.code = CLV_OK};
    const char *host = clv_upstream_host(l->upstream);
    unsigned port = clv_upstream_port(l->upstream);
    if (!l->allowed) {
        clv_fail(&why, CLV_RELAY_REFUSED, "the allowlist no longer has %s:%u", host, port);
        refuse(l, &relay->refused_allowlist, &why);
        return false;
    }
    size_t max = relay->limits.connections, per_peer = relay->limits.per_peer;
    if (relay->active < max && (relay->active < per_peer || count_peer(relay, p) < per_peer))
        return true;
    clv_fail(&why, CLV_RELAY_LIMIT, "expected at most %zu connections, %zu of one peer, found more",
             max, per_peer);
    refuse(l, &relay->refused_limit, &why);
    return false;
}

static void take_connection(clv_relay *relay, listener *l, int fd,
                            const struct sockaddr_storage *sa)
{
    peer p;
    identify(fd, sa, &p);
    connection *c = admit(relay, l, &p) ? calloc(1, sizeof *c) : NULL;
    if (c == NULL) {
        close(fd);
        return;
    }
    *c = (connection){.phase = RESOLVING, .from = l, .peer = p, .pair = CLV_PAIR_INIT};
    c->pair.fd[0] = fd;
    c->since_ms = clv_monotonic_ms();
    for (int i = 0; i < 2; i++)
        c->watch[i] = (watch){.kind = WATCH_SIDE, .side = i, .owner = c};
    tune(fd, sa->ss_family);
    TAILQ_INSERT_TAIL(&relay->starting, c, link);
    relay->accepted++;
    relay->active++;
    l->connections++;
    clv_relay_connect(relay, c, false);
}

void clv_relay_watch_listeners(clv_relay *relay, bool on)
{
    for (size_t i = 0; i < relay->rules.count; i++) {
        listener *l = relay->rules.listener[i];
        clv_relay_want(relay, &l->watch, l->fd, on ? EPOLLIN : 0);
    }
    relay->paused = !on;
}

void clv_relay_accept(clv_relay *relay, listener *l)
{
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_storage sa = {.ss_family = AF_UNSPEC};
        socklen_t size = sizeof sa;
        int fd = accept4(l->fd, (struct sockaddr *)&sa, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            take_connection(relay, l, fd, &sa);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            clv_log(CLV_LOG_ERROR, "relay.paused", NULL, "no connection can be accepted: %m");
            clv_relay_watch_listeners(relay, false); /* until the next tick */
        }
        return;
    }
}

#include <parent/upstream.h>

#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>

struct clv_upstream {
    char host[CLV_HOST_MAX + 1];
    char port[6];
    int family, wake_fd;
    bool literal;
    pthread_mutex_t lock; /* protects what follows */
    pthread_cond_t asked_for;
    unsigned owners; /* the relay, and the thread while it runs */
    bool closed, asked, failed;
    clv_error failure;
    uint64_t resolved_ms;
    size_t count; /* 0: never resolved */
    clv_address address[CLV_UPSTREAM_ADDRESSES];
};

const char *clv_upstream_host(const clv_upstream *upstream)
{
    return upstream->host;
}

uint16_t clv_upstream_port(const clv_upstream *upstream)
{
    return (uint16_t)atoi(upstream->port);
}

static clv_status resolve(const clv_upstream *u, int flags, clv_address out[CLV_UPSTREAM_ADDRESSES],
                          size_t *count, clv_error *err)
{
    struct addrinfo hints = {
        .ai_family = u->family, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int failure = getaddrinfo(u->host, u->port, &hints, &list);
    if (failure != 0)
        return clv_fail(err, CLV_UNREACHABLE, "%s:%s cannot be resolved: %s", u->host, u->port,
                        gai_strerror(failure));
    *count = 0;
    for (const struct addrinfo *i = list; i != NULL && *count < CLV_UPSTREAM_ADDRESSES;
         i = i->ai_next) {
        clv_address *a = &out[(*count)++];
        char host[NI_MAXHOST] = "?";
        *a = (clv_address){.length = i->ai_addrlen};
        memcpy(&a->sa, i->ai_addr, i->ai_addrlen);
        getnameinfo(i->ai_addr, i->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
        snprintf(a->text, sizeof a->text, "%.90s:%s (%.50s)", u->host, u->port, host);
    }
    freeaddrinfo(list);
    if (*count == 0)
        return clv_fail(err, CLV_UNREACHABLE, "%s:%s has no address", u->host, u->port);
    return CLV_OK;
}

/* The last owner frees: the caller holds the lock, which is gone afterwards. */
static void leave(clv_upstream *u)
{
    bool last = --u->owners == 0;
    pthread_mutex_unlock(&u->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&u->lock);
    pthread_cond_destroy(&u->asked_for);
    clv_fd_drop(&u->wake_fd);
    free(u);
}

/* The caller holds the lock. */
static void keep_result(clv_upstream *u, clv_status status, const clv_address *address,
                        size_t count, const clv_error *failure)
{
    u->failed = status != CLV_OK;
    u->resolved_ms = clv_monotonic_ms();
    if (u->failed) {
        u->failure = *failure;
        return;
    }
    memcpy(u->address, address, count * sizeof *address);
    u->count = count;
}

static void *run_resolver(void *argument)
{
    clv_upstream *u = argument;
    const uint64_t one = 1;
    pthread_mutex_lock(&u->lock);
    for (;;) {
        while (!u->asked && !u->closed)
            pthread_cond_wait(&u->asked_for, &u->lock);
        if (u->closed)
            break;
        pthread_mutex_unlock(&u->lock);
        clv_address found[CLV_UPSTREAM_ADDRESSES];
        clv_error failure = {.code = CLV_OK};
        size_t count = 0;
        clv_status status = resolve(u, 0, found, &count, &failure);
        pthread_mutex_lock(&u->lock);
        if (status != CLV_OK && u->count > 0)
            clv_log_failure(CLV_LOG_WARNING, "relay.stale-address", NULL, &failure);
        keep_result(u, status, found, count, &failure);
        u->asked = false;
        if (write(u->wake_fd, &one, sizeof one) < 0)
            clv_log(CLV_LOG_ERROR, "relay.resolver", NULL, "the relay cannot be woken: %m");
    }
    leave(u);
    return NULL;
}

static clv_status start_resolver(clv_upstream *u, clv_error *err)
{
    pthread_t thread;
    u->owners = 2;
    if (pthread_create(&thread, NULL, run_resolver, u) != 0) {
        u->owners = 1;
        return clv_fail(err, CLV_SYSTEM, "no thread for a resolver: %m");
    }
    pthread_detach(thread);
    return CLV_OK;
}

static clv_status check_names(const char *host, const char *port, clv_error *err)
{
    size_t digits = strspn(port, "0123456789");
    if (digits == 0 || digits > 5 || port[digits] != '\0' || atoi(port) < 1 ||
        atoi(port) > UINT16_MAX)
        return clv_fail(err, CLV_USAGE, "expected a port from 1 to 65535, found \"%.20s\"", port);
    if (*host == '\0' || strlen(host) > CLV_HOST_MAX)
        return clv_fail(err, CLV_USAGE, "expected a host name of 1 to %d bytes, found %zu",
                        CLV_HOST_MAX, strlen(host));
    return CLV_OK;
}

clv_status clv_upstream_new(const char *host, const char *port, int family, int wake_fd,
                            clv_upstream **out, clv_error *err)
{
    CLV_TRY(check_names(host, port, err));
    clv_auto_ptr(clv_upstream) u = calloc(1, sizeof *u);
    if (u == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an upstream");
    memcpy(u->host, host, strlen(host) + 1);
    memcpy(u->port, port, strlen(port) + 1);
    u->family = family;
    u->owners = 1;
    pthread_mutex_init(&u->lock, NULL);
    pthread_cond_init(&u->asked_for, NULL);
    u->wake_fd = fcntl(wake_fd, F_DUPFD_CLOEXEC, 0);
    if (u->wake_fd < 0)
        return clv_fail(err, CLV_SYSTEM, "an upstream cannot be kept: %m");
    u->literal = resolve(u, AI_NUMERICHOST, u->address, &u->count, NULL) == CLV_OK;
    if (!u->literal)
        CLV_TRY(start_resolver(u, err));
    *out = u;
    u = NULL;
    return CLV_OK;
}

void clv_upstream_free(clv_upstream **upstream)
{
    clv_upstream *u = *upstream;
    *upstream = NULL;
    if (u == NULL)
        return;
    pthread_mutex_lock(&u->lock);
    u->closed = true;
    pthread_cond_signal(&u->asked_for);
    leave(u);
}

clv_resolution clv_upstream_resolve(clv_upstream *u, bool again,
                                    clv_address out[CLV_UPSTREAM_ADDRESSES], size_t *count,
                                    clv_error *err)
{
    pthread_mutex_lock(&u->lock);
    uint64_t age = clv_monotonic_ms() - u->resolved_ms;
    uint64_t good_for = u->failed ? CLV_UPSTREAM_RETRY_MS : CLV_UPSTREAM_FRESH_MS;
    bool fresh = u->literal || (u->count > 0 && age < good_for);
    clv_resolution result = CLV_RESOLUTION_PENDING;
    if (u->count > 0) {
        memcpy(out, u->address, u->count * sizeof *out);
        *count = u->count;
        result = CLV_RESOLUTION_READY;
    } else if (again && u->failed && !u->asked) {
        clv_fail(err, u->failure.code, "%s", u->failure.text);
        result = CLV_RESOLUTION_FAILED;
    }
    if (!fresh && !u->asked && result != CLV_RESOLUTION_FAILED) {
        u->asked = true;
        pthread_cond_signal(&u->asked_for);
    }
    pthread_mutex_unlock(&u->lock);
    return result;
}

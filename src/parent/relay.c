#include <parent/relay.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/log.h>

#define CONNECTIONS_MAX 512
#define CONNECT_MS      5000
#define IDLE_MS         120000
#define PIECE           65536
#define HOST_MAX        255

struct clv_relay {
    int listen_fd, stop_fd;
    char host[HOST_MAX + 1];
    char port[6];
    pthread_t acceptor;
    pthread_mutex_t lock; /* protects pairs and used */
    pthread_cond_t freed; /* a pair was given back */
    size_t used;
    struct pair {
        clv_relay *relay;
        int down, up; /* the enclave's side and the upstream's; -1: free */
    } pair[CONNECTIONS_MAX];
};

static clv_status connect_upstream(const clv_relay *relay, int *fd, clv_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int failure = getaddrinfo(relay->host, relay->port, &hints, &list);
    if (failure != 0)
        return clv_fail(err, CLV_UNREACHABLE, "%s:%s cannot be resolved: %s", relay->host,
                        relay->port, gai_strerror(failure));
    clv_status status =
        clv_fail(err, CLV_UNREACHABLE, "%s:%s has no address", relay->host, relay->port);
    for (const struct addrinfo *i = list; i != NULL && status != CLV_OK; i = i->ai_next) {
        clv_address address = {.length = i->ai_addrlen};
        memcpy(&address.sa, i->ai_addr, i->ai_addrlen);
        snprintf(address.text, sizeof address.text, "%.140s:%s", relay->host, relay->port);
        status = clv_dial(&address, CONNECT_MS, fd, err);
    }
    freeaddrinfo(list);
    return status;
}

/* Move what is there from one side to the other; false when the stream in this direction ended. */
static bool move(int from, int to)
{
    uint8_t piece[PIECE];
    ssize_t got = recv(from, piece, sizeof piece, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0 || clv_write_full(to, CLV_BYTES(piece, (size_t)got), NULL) != CLV_OK)
        return false;
    return true;
}

/* Each direction ends on its own: a half-closed connection still carries the other half. */
static void pump(int down, int up)
{
    struct pollfd wait[] = {{.fd = down, .events = POLLIN}, {.fd = up, .events = POLLIN}};
    while (wait[0].fd >= 0 || wait[1].fd >= 0) {
        int ready = poll(wait, 2, IDLE_MS);
        if (ready == 0 || (ready < 0 && errno != EINTR))
            return;
        for (int i = 0; i < 2; i++) {
            int from = i == 0 ? down : up, to = i == 0 ? up : down;
            if (wait[i].fd < 0 || wait[i].revents == 0 || move(from, to))
                continue;
            shutdown(to, SHUT_WR);
            wait[i].fd = -1;
        }
    }
}

static void *run_pair(void *argument)
{
    struct pair *pair = argument;
    clv_relay *relay = pair->relay;
    clv_error err = {.code = CLV_OK};
    int up = -1;
    if (connect_upstream(relay, &up, &err) != CLV_OK) {
        clv_log_failure(CLV_LOG_WARNING, "relay.refused", NULL, &err);
    } else {
        pthread_mutex_lock(&relay->lock);
        pair->up = up;
        pthread_mutex_unlock(&relay->lock);
        pump(pair->down, up);
    }

    pthread_mutex_lock(&relay->lock);
    close(pair->down);
    clv_fd_drop(&up);
    pair->down = pair->up = -1;
    relay->used--;
    pthread_cond_signal(&relay->freed);
    pthread_mutex_unlock(&relay->lock);
    return NULL;
}

/* The caller holds the lock and knows that a pair is free. */
static void start_pair(clv_relay *relay, int fd)
{
    pthread_t thread;
    struct pair *pair = relay->pair;
    while (pair->down >= 0)
        pair++;
    pair->down = fd;
    relay->used++;
    if (clv_socket_timeout(fd, IDLE_MS, NULL) == CLV_OK &&
        pthread_create(&thread, NULL, run_pair, pair) == 0) {
        pthread_detach(thread);
        return;
    }
    close(fd);
    pair->down = -1;
    relay->used--;
}

static void *run_acceptor(void *argument)
{
    clv_relay *relay = argument;
    struct pollfd wait[] = {{.fd = relay->listen_fd, .events = POLLIN},
                            {.fd = relay->stop_fd, .events = POLLIN}};
    for (;;) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return NULL;
        if (wait[1].revents != 0)
            return NULL;
        int fd = wait[0].revents != 0 ? accept4(relay->listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (fd < 0)
            continue;
        pthread_mutex_lock(&relay->lock);
        if (relay->used < CONNECTIONS_MAX)
            start_pair(relay, fd);
        else
            close(fd);
        pthread_mutex_unlock(&relay->lock);
    }
}

static clv_status parse_rule(const char *rule, clv_relay *relay, clv_address *address,
                             clv_error *err)
{
    char listen[sizeof address->text];
    const char *equals = strchr(rule, '='), *colon = strrchr(rule, ':');
    size_t host = equals != NULL && colon > equals ? (size_t)(colon - equals) - 1 : 0;
    if (host == 0 || host > HOST_MAX || (size_t)(equals - rule) >= sizeof listen ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) || strlen(colon + 1) - 1 > 4 ||
        atoi(colon + 1) < 1 || atoi(colon + 1) > UINT16_MAX)
        return clv_fail(err, CLV_USAGE, "--relay: expected ADDRESS=HOST:PORT, found \"%.80s\"",
                        rule);
    memcpy(listen, rule, (size_t)(equals - rule));
    listen[equals - rule] = '\0';
    memcpy(relay->host, equals + 1, host);
    memcpy(relay->port, colon + 1, strlen(colon + 1) + 1);
    return clv_address_parse(listen, address, err);
}

clv_status clv_relay_start(const char *rule, clv_relay **out, clv_address *bound, clv_error *err)
{
    clv_address address;
    clv_relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a relay");
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        relay->pair[i] = (struct pair){relay, -1, -1};
    pthread_mutex_init(&relay->lock, NULL);
    pthread_cond_init(&relay->freed, NULL);
    relay->listen_fd = -1;
    relay->stop_fd = eventfd(0, EFD_CLOEXEC);
    clv_status status = parse_rule(rule, relay, &address, err);
    if (status == CLV_OK)
        status = clv_listen(&address, 0660, &relay->listen_fd, bound, err);
    if (status == CLV_OK && pthread_create(&relay->acceptor, NULL, run_acceptor, relay) != 0)
        status = clv_fail(err, CLV_SYSTEM, "no thread for a relay: %m");
    if (status != CLV_OK) {
        clv_fd_drop(&relay->listen_fd);
        clv_fd_drop(&relay->stop_fd);
        free(relay);
        return status;
    }
    *out = relay;
    return CLV_OK;
}

void clv_relay_free(clv_relay **relay)
{
    clv_relay *r = *relay;
    if (r == NULL)
        return;
    uint64_t one = 1;
    ssize_t told = write(r->stop_fd, &one, sizeof one);
    (void)told; /* an eventfd takes it */
    pthread_join(r->acceptor, NULL);
    pthread_mutex_lock(&r->lock);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (r->pair[i].down >= 0)
            shutdown(r->pair[i].down, SHUT_RDWR);
        if (r->pair[i].up >= 0)
            shutdown(r->pair[i].up, SHUT_RDWR);
    }
    while (r->used > 0)
        pthread_cond_wait(&r->freed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    close(r->listen_fd);
    close(r->stop_fd);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->freed);
    free(r);
    *relay = NULL;
}

#include <channel/server.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/log.h>

#define PAUSE_MS 100 /* without a descriptor for the connection that waits */

struct clv_server {
    clv_call_handler handler;
    void *context;
    int listen_fd, stop_fd;
    int idle_ms;
    size_t max_connections, data_max;
    pthread_t acceptor;
    pthread_mutex_t lock; /* protects slots and how many are in use */
    pthread_cond_t freed; /* a slot was given back */
    bool stopping;
    size_t used;
    struct slot {
        clv_server *server;
        int fd;            /* -1: free */
        bool served;       /* a call was answered */
        uint64_t until_ms; /* when the call under way must be over; 0: between calls */
    } * slot;
};

/* One call: a peer that sends nonsense is told so once and then dropped, because what follows
 * cannot be told apart from the rest of it. */
static clv_status serve_call(clv_server *server, int fd, clv_error *err)
{
    clv_auto(clv_message) call = CLV_MESSAGE_INIT;
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    clv_error fault = {.code = CLV_OK};
    call.data.limit = server->data_max;
    clv_status status = clv_call_read(fd, &call, &fault);
    if (status == CLV_CLOSED || status == CLV_DEADLINE || status == CLV_SYSTEM)
        return clv_fail(err, status, "%s", fault.text);
    if (status != CLV_OK) {
        if (clv_call_fault(fd, &fault, NULL) != CLV_OK)
            return clv_fail(err, CLV_CLOSED, "the peer closed the connection");
        return clv_fail(err, status, "%s", fault.text);
    }
    if (server->handler(server->context, &call, &answer, &fault) != CLV_OK)
        return clv_call_fault(fd, &fault, err);
    return clv_call_answer(fd, answer.json, clv_buf_bytes(&answer.data), err);
}

static void begin_call(struct slot *slot)
{
    clv_server *server = slot->server;
    pthread_mutex_lock(&server->lock);
    slot->until_ms = clv_monotonic_ms() + (uint64_t)server->idle_ms * CLV_CALL_IDLES;
    pthread_mutex_unlock(&server->lock);
}

/* Whether there may be another. */
static bool end_call(struct slot *slot)
{
    pthread_mutex_lock(&slot->server->lock);
    slot->until_ms = 0;
    slot->served = true;
    bool more = !slot->server->stopping;
    pthread_mutex_unlock(&slot->server->lock);
    return more;
}

/* The time of a call runs from its first byte. */
static clv_status wait_and_serve(struct slot *slot, clv_error *err)
{
    clv_server *server = slot->server;
    struct pollfd wait = {.fd = slot->fd, .events = POLLIN};
    if (poll(&wait, 1, server->idle_ms) == 0)
        return clv_fail(err, CLV_DEADLINE, "the peer was silent between calls");
    begin_call(slot);
    clv_status status = serve_call(server, slot->fd, err);
    if (!end_call(slot) && status == CLV_OK)
        return clv_fail(err, CLV_CLOSED, "the server stops");
    return status;
}

static void *run_connection(void *argument)
{
    struct slot *slot = argument;
    clv_server *server = slot->server;
    clv_error err = {.code = CLV_OK};
    while (wait_and_serve(slot, &err) == CLV_OK)
        continue;
    if (err.code != CLV_CLOSED)
        clv_log_failure(CLV_LOG_INFO, "connection.dropped", NULL, &err);

    pthread_mutex_lock(&server->lock);
    close(slot->fd);
    slot->fd = -1;
    server->used--;
    pthread_cond_signal(&server->freed);
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* The caller holds the lock and knows that a slot is free. */
static void start_connection(clv_server *server, int fd)
{
    pthread_t thread;
    struct slot *slot = server->slot;
    while (slot->fd >= 0)
        slot++;
    slot->fd = fd;
    slot->served = false;
    slot->until_ms = 0;
    server->used++;
    if (clv_socket_timeout(fd, server->idle_ms, NULL) == CLV_OK &&
        pthread_create(&thread, NULL, run_connection, slot) == 0) {
        pthread_detach(thread);
        return;
    }
    close(fd);
    slot->fd = -1;
    server->used--;
}

/* A peer that is never silent for long and never done holds its slot for so long and no longer. */
static void drop_overdue(clv_server *server)
{
    uint64_t now = clv_monotonic_ms();
    pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->max_connections; i++) {
        struct slot *slot = &server->slot[i];
        if (slot->fd < 0 || slot->until_ms == 0 || now < slot->until_ms)
            continue;
        slot->until_ms = 0;
        clv_log(CLV_LOG_INFO, "connection.overdue", NULL, "a call took longer than %d ms",
                server->idle_ms * CLV_CALL_IDLES);
        shutdown(slot->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
}

static void take_connection(clv_server *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
        struct pollfd wait = {.fd = server->stop_fd, .events = POLLIN};
        clv_log(CLV_LOG_ERROR, "connection.paused", NULL, "no connection can be accepted: %m");
        poll(&wait, 1, PAUSE_MS);
    }
    if (fd < 0)
        return;
    pthread_mutex_lock(&server->lock);
    if (server->used < server->max_connections)
        start_connection(server, fd);
    else
        close(fd); /* refused at once: a queue would let a flood delay everybody */
    pthread_mutex_unlock(&server->lock);
}

static void *run_acceptor(void *argument)
{
    clv_server *server = argument;
    int look_ms = server->idle_ms < 1000 ? server->idle_ms : 1000;
    struct pollfd wait[] = {{.fd = server->listen_fd, .events = POLLIN},
                            {.fd = server->stop_fd, .events = POLLIN}};
    for (;;) {
        int ready = poll(wait, 2, look_ms);
        if (ready < 0 && errno != EINTR)
            return NULL;
        if (ready > 0 && wait[1].revents != 0)
            return NULL;
        drop_overdue(server);
        if (ready > 0 && wait[0].revents != 0)
            take_connection(server);
    }
}

clv_status clv_server_start(int listen_fd, const clv_server_limits *limits,
                            clv_call_handler handler, void *context, clv_server **out,
                            clv_error *err)
{
    size_t max_connections = limits->connections;
    /* A peer that is gone again by the time it is accepted must not hold up the others. */
    if (fcntl(listen_fd, F_SETFL, O_NONBLOCK) != 0)
        return clv_fail(err, CLV_SYSTEM, "a socket cannot be listened on: %m");
    clv_server *server = calloc(1, sizeof *server);
    struct slot *slot = calloc(max_connections, sizeof *slot);
    int stop_fd = eventfd(0, EFD_CLOEXEC);
    if (server == NULL || slot == NULL || stop_fd < 0) {
        free(server);
        free(slot);
        clv_fd_drop(&stop_fd);
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a server");
    }
    for (size_t i = 0; i < max_connections; i++)
        slot[i] = (struct slot){.server = server, .fd = -1};
    *server = (clv_server){.handler = handler,
                           .context = context,
                           .listen_fd = listen_fd,
                           .stop_fd = stop_fd,
                           .idle_ms = limits->idle_ms,
                           .max_connections = max_connections,
                           .data_max = limits->data_max,
                           .slot = slot};
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->freed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&server->acceptor, NULL, run_acceptor, server) != 0) {
        close(stop_fd);
        free(slot);
        free(server);
        return clv_fail(err, CLV_SYSTEM, "no thread for a server: %m");
    }
    *out = server;
    return CLV_OK;
}

/* Whom a server that stops still waits for, in the order in which patience ends. */
typedef enum patience { WITH_CALLERS, WITH_CALLS, WITH_NOBODY } patience;

/* The caller holds the lock. No more is read of a peer that is let go; what it is owed is sent. */
static void let_go(clv_server *s, patience left)
{
    for (size_t i = 0; i < s->max_connections; i++) {
        const struct slot *slot = &s->slot[i];
        bool calling = slot->until_ms != 0;
        bool wait = left == WITH_CALLERS ? calling || !slot->served : left == WITH_CALLS && calling;
        if (slot->fd >= 0 && !wait)
            shutdown(slot->fd, SHUT_RD);
    }
}

/* The caller holds the lock, which is given up while waiting. */
static void wait_for_end(clv_server *s, time_t seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += seconds;
    while (s->used > 0 && pthread_cond_timedwait(&s->freed, &s->lock, &until) == 0)
        continue;
}

/* The caller holds the lock. Who connected just now may have its call on the way. */
static void drain(clv_server *s)
{
    s->stopping = true;
    let_go(s, WITH_CALLERS);
    wait_for_end(s, CLV_SERVER_GRACE_S);
    let_go(s, WITH_CALLS);
    wait_for_end(s, CLV_SERVER_DRAIN_S);
    let_go(s, WITH_NOBODY);
    while (s->used > 0)
        pthread_cond_wait(&s->freed, &s->lock);
}

void clv_server_free(clv_server **server)
{
    clv_server *s = *server;
    if (s == NULL)
        return;
    uint64_t one = 1;
    ssize_t told = write(s->stop_fd, &one, sizeof one);
    (void)told; /* an eventfd takes it */
    pthread_join(s->acceptor, NULL);

    pthread_mutex_lock(&s->lock);
    drain(s);
    pthread_mutex_unlock(&s->lock);

    close(s->listen_fd);
    close(s->stop_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->freed);
    free(s->slot);
    free(s);
    *server = NULL;
}

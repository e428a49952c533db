/* Within the relay: its connections, from the accepted one to the closed one. */
#ifndef CLV_PARENT_RELAY_CONNECTIONS_H
#define CLV_PARENT_RELAY_CONNECTIONS_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include <parent/pair.h>
#include <parent/relay.h>
#include <parent/upstream.h>

/* What an epoll event belongs to. */
typedef struct watch {
    enum { WATCH_WAKE, WATCH_LISTENER, WATCH_SIDE } kind;
    int side;
    bool added;
    uint32_t interest;
    void *owner;
} watch;

typedef struct peer {
    sa_family_t family;
    uint8_t id[16];
} peer;

typedef struct listener {
    SLIST_ENTRY(listener) link; /* among those that have no rule any more */
    watch watch;
    clv_address address, bound; /* as its rule names it, and as it is */
    int fd;
    clv_upstream *upstream;
    bool allowed;
    size_t connections;           /* that came in by it */
    uint64_t logged_ms, unlogged; /* refusals since the last line */
} listener;

/* The rules in force, or those that will be. */
typedef struct rules {
    size_t count;
    listener *listener[CLV_RELAY_RULES_MAX];
    listener *heir_of[CLV_RELAY_RULES_MAX]; /* whose socket it takes over; NULL: nobody's */
    bool allowed[CLV_RELAY_RULES_MAX];
    clv_relay_limits limits;
} rules;

typedef enum phase { RESOLVING, CONNECTING, CARRYING, CLOSED } phase;

typedef struct connection {
    TAILQ_ENTRY(connection) link;
    phase phase;
    listener *from;
    peer peer;
    clv_pair pair;
    watch watch[2];
    uint64_t since_ms;   /* when it was accepted; once it carries, its last byte */
    uint64_t attempt_ms; /* when the address that is tried now was */
    size_t tried, count; /* addresses */
    clv_address address[CLV_UPSTREAM_ADDRESSES];
} connection;
TAILQ_HEAD(list, connection);

struct clv_relay {
    clv_relay_limits limits;
    rules rules;
    SLIST_HEAD(, listener) retired;
    int epoll_fd, wake_fd;
    watch wake;
    pthread_t thread;
    bool running, paused;
    pthread_mutex_t lock; /* protects next, and rules against readers of other threads */
    pthread_cond_t applied;
    uint64_t looked_ms; /* when addresses that do not answer were last looked for */
    const rules *next;  /* to be applied by the thread; NULL: nothing */
    _Atomic bool stopping;
    clv_pipes pipes;
    /* Each in the order of since_ms; closed ones wait for the end of the round of events. */
    struct list starting, carrying, closed;
    _Atomic uint64_t accepted, ended, broken, idle, active;
    _Atomic uint64_t refused_limit, refused_allowlist, refused_upstream;
    _Atomic uint64_t bytes[2];
};

/* Watch a descriptor for these events; for none, take it out of the loop. */
void clv_relay_want(clv_relay *relay, watch *w, int fd, uint32_t interest);
void clv_relay_watch_listeners(clv_relay *relay, bool on);

/* A listener is ready: take what waits. Pauses all listeners when descriptors run out. */
void clv_relay_accept(clv_relay *relay, listener *l);
/* Go on to the upstream, as far as its name is resolved; again: it was tried before. */
void clv_relay_connect(clv_relay *relay, connection *c, bool again);
/* The socket to the upstream has connected, or failed to. */
void clv_relay_check_connect(clv_relay *relay, connection *c);
/* A side of a connection is ready: move bytes. */
void clv_relay_carry(clv_relay *relay, connection *c);
/* Give up on the address that is being tried, and go on to the next. */
void clv_relay_next_address(clv_relay *relay, connection *c, int failure);
/* Close; the memory is freed at the end of the round of events, which may still name it. */
void clv_relay_finish(clv_relay *relay, connection *c);
/* Close, count and log. */
void clv_relay_refuse(clv_relay *relay, connection *c, const clv_error *why);

#endif

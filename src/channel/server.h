/*
 * A small server for calls: a listening socket, a bounded number of connections, each with
 * timeouts, each call handed to a function. A slow or idle peer costs one slot and is dropped
 * (R21).
 */
#ifndef CLV_CHANNEL_SERVER_H
#define CLV_CHANNEL_SERVER_H

#include <channel/frame.h>

/*
 * Answer one call: fill answer->json (a new reference) and answer->data, or fail; the failure is
 * sent as a FAULT with its slug and sentence.
 */
typedef clv_status (*clv_call_handler)(void *context, const clv_message *call, clv_message *answer,
                                       clv_error *err);

typedef struct clv_server clv_server;

/* A call may take this many times idle_ms in all, the handler's own time included. */
#define CLV_CALL_IDLES 4

typedef struct clv_server_limits {
    size_t connections; /* at most so many threads */
    int idle_ms;        /* a peer that is silent for so long is dropped */
    size_t data_max;    /* bytes of data that a call may bring */
} clv_server_limits;

/*
 * Takes over listen_fd. A peer whose call, however busily it is sent, read or answered, takes too
 * long is dropped like a silent one.
 */
CLV_NODISCARD clv_status clv_server_start(int listen_fd, const clv_server_limits *limits,
                                          clv_call_handler handler, void *context, clv_server **out,
                                          clv_error *err);

/*
 * Stops accepting and joins every thread. A peer between two calls is let go at once, one that has
 * connected and not called yet may begin within CLV_SERVER_GRACE_S, a call that is being sent may
 * come whole within CLV_SERVER_DRAIN_S more. What was read is answered.
 */
#define CLV_SERVER_GRACE_S 1
#define CLV_SERVER_DRAIN_S 4
void clv_server_free(clv_server **server);

#endif

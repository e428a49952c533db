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

/*
 * Takes over listen_fd. Runs at most max_connections threads. A peer that is silent for idle_ms is
 * dropped; so is one whose call, however busily it is sent, read or answered, takes too long.
 */
CLV_NODISCARD clv_status clv_server_start(int listen_fd, size_t max_connections, int idle_ms,
                                          clv_call_handler handler, void *context, clv_server **out,
                                          clv_error *err);
/* Stops accepting, lets calls under way end (bounded by idle_ms), joins every thread. */
void clv_server_free(clv_server **server);

#endif

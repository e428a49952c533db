/*
 * What an operator sees of the parent, over HTTP on an address of its own (--metrics):
 *
 *     GET /metrics   Prometheus text (exposition format 0.0.4)
 *     GET /status    JSON, for `claviger status`
 *     GET /healthz   200 while the program serves
 *
 * It tells names and numbers, and nothing that is secret: libmicrohttpd's idioms end here.
 */
#ifndef CLV_PARENT_MONITOR_H
#define CLV_PARENT_MONITOR_H

#include <parent/relay.h>
#include <parent/services.h>

/* What is watched; all of it outlives the monitor. */
typedef struct clv_watched {
    clv_parent *parent;
    clv_relay *relay;
    const char *engine; /* of the store */
    const char *version;
    uint64_t started_ms; /* monotonic */
} clv_watched;

typedef struct clv_monitor clv_monitor;

/* Listens at the address; *bound gets it with the port that was chosen. */
CLV_NODISCARD clv_status clv_monitor_start(const char *address, const clv_watched *watched,
                                           clv_monitor **out, clv_address *bound, clv_error *err);
void clv_monitor_free(clv_monitor **monitor);

#endif

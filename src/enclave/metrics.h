/* What the daemon counts, and its text for Prometheus (exposition format 0.0.4). */
#ifndef CLV_ENCLAVE_METRICS_H
#define CLV_ENCLAVE_METRICS_H

#include <stdatomic.h>

#include <claviger/bytes.h>

/* Upper bounds of the latency buckets, in microseconds; the last bucket has none. */
#define CLV_LATENCY_BUCKETS 12
#define CLV_METRIC_ROUTES   48

typedef struct clv_route_metrics {
    atomic_ulong by_class[6]; /* answers by the first digit of their status */
    atomic_ulong bucket[CLV_LATENCY_BUCKETS + 1];
    atomic_ulong total_us;
} clv_route_metrics;

typedef struct clv_metrics {
    clv_route_metrics route[CLV_METRIC_ROUTES]; /* by index into the route table */
    clv_route_metrics unrouted;
    atomic_ulong denied;         /* capabilities that were missing */
    atomic_ulong connections;    /* open now */
    atomic_ulong turned_away;    /* connections beyond an agent's share */
    atomic_ulong control_calls;  /* calls of the parent */
    atomic_ulong control_faults; /* … that were refused or failed */
    atomic_ulong credential_fetches, credential_failures;
} clv_metrics;

/* One answer of this route: its status, and how long it took. */
void clv_metrics_answer(clv_route_metrics *route, unsigned status, unsigned long us);

/* Whether it ever answered. */
bool clv_metrics_used(const clv_route_metrics *route);

/* One route's lines of each of the two families, labelled with its method and path. */
CLV_NODISCARD clv_status clv_metrics_requests_text(clv_buf *out, const clv_route_metrics *route,
                                                   const char *method, const char *path,
                                                   clv_error *err);
CLV_NODISCARD clv_status clv_metrics_seconds_text(clv_buf *out, const clv_route_metrics *route,
                                                  const char *method, const char *path,
                                                  clv_error *err);

/* What stands before the first line of a family: "# HELP" and "# TYPE". */
CLV_NODISCARD clv_status clv_metrics_heading(clv_buf *out, const char *name, const char *type,
                                             const char *help, clv_error *err);

/* A family of one value. */
CLV_NODISCARD clv_status clv_metrics_value_text(clv_buf *out, const char *name, const char *type,
                                                const char *help, unsigned long value,
                                                clv_error *err);

#endif

#include <enclave/metrics.h>

static const unsigned long bucket_us[CLV_LATENCY_BUCKETS] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100000, 500000, 2500000, 10000000,
};

void clv_metrics_answer(clv_route_metrics *route, unsigned status, unsigned long us)
{
    size_t i = 0;
    while (i < CLV_LATENCY_BUCKETS && us > bucket_us[i])
        i++;
    atomic_fetch_add_explicit(&route->bucket[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&route->total_us, us, memory_order_relaxed);
    atomic_fetch_add_explicit(&route->by_class[status / 100 % 6], 1, memory_order_relaxed);
}

bool clv_metrics_used(const clv_route_metrics *route)
{
    for (size_t i = 0; i <= CLV_LATENCY_BUCKETS; i++) {
        if (atomic_load_explicit(&route->bucket[i], memory_order_relaxed) > 0)
            return true;
    }
    return false;
}

clv_status clv_metrics_heading(clv_buf *out, const char *name, const char *type, const char *help,
                               clv_error *err)
{
    return clv_buf_printf(out, err, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

clv_status clv_metrics_value_text(clv_buf *out, const char *name, const char *type,
                                  const char *help, unsigned long value, clv_error *err)
{
    CLV_TRY(clv_metrics_heading(out, name, type, help, err));
    return clv_buf_printf(out, err, "%s %lu\n", name, value);
}

clv_status clv_metrics_requests_text(clv_buf *out, const clv_route_metrics *route,
                                     const char *method, const char *path, clv_error *err)
{
    for (unsigned class = 1; class < 6; class ++) {
        unsigned long n = atomic_load_explicit(&route->by_class[class], memory_order_relaxed);
        if (n > 0)
            CLV_TRY(clv_buf_printf(
                out, err,
                "claviger_requests_total{method=\"%s\",route=\"%s\",status=\"%uxx\"} %lu\n", method,
                path, class, n));
    }
    return CLV_OK;
}

clv_status clv_metrics_seconds_text(clv_buf *out, const clv_route_metrics *route,
                                    const char *method, const char *path, clv_error *err)
{
    unsigned long count = 0;
    clv_auto(clv_buf) buf = CLV_BUF_INIT;
    const char *labels = NULL;
    CLV_TRY(clv_buf_printf(&buf, err, "method=\"%s\",route=\"%s\"", method, path));
    CLV_TRY(clv_buf_text(&buf, &labels, err));
    for (size_t i = 0; i < CLV_LATENCY_BUCKETS; i++) {
        count += atomic_load_explicit(&route->bucket[i], memory_order_relaxed);
        CLV_TRY(clv_buf_printf(out, err, "claviger_request_seconds_bucket{%s,le=\"%g\"} %lu\n",
                               labels, (double)bucket_us[i] / 1e6, count));
    }
    count += atomic_load_explicit(&route->bucket[CLV_LATENCY_BUCKETS], memory_order_relaxed);
    double seconds = (double)atomic_load_explicit(&route->total_us, memory_order_relaxed) / 1e6;
    return clv_buf_printf(out, err,
                          "claviger_request_seconds_bucket{%s,le=\"+Inf\"} %lu\n"
                          "claviger_request_seconds_sum{%s} %.6f\n"
                          "claviger_request_seconds_count{%s} %lu\n",
                          labels, count, labels, seconds, labels, count);
}

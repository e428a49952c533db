#include <etcd/etcd.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/clock.h>

/* A timeout may come a little early. */
#define FOLLOW_SLACK_MS 50

struct clv_etcd {
    clv_etcd_cluster cluster;
    clv_etcd_transport transport;
    _Atomic size_t last; /* the endpoint that answered last */
};

clv_status clv_etcd_read_endpoints(const json_t *list, const char *path, clv_etcd_cluster *out,
                                   clv_error *err)
{
    size_t n = json_is_array(list) ? json_array_size(list) : 0;
    if (n < 1 || n > CLV_ETCD_ENDPOINTS_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "%s: expected 1 to %d texts, found %zu", path,
                        CLV_ETCD_ENDPOINTS_MAX, n);
    for (size_t i = 0; i < n; i++) {
        const char *url = json_string_value(json_array_get(list, i));
        if (url == NULL || (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0) ||
            strlen(url) > 200 || url[strlen(url) - 1] == '/')
            return clv_fail(err, CLV_JSON_VALUE,
                            "%s[%zu]: expected http[s]://HOST:PORT, found \"%.100s\"", path, i,
                            url != NULL ? url : "no text");
        out->endpoint[i] = url;
    }
    out->endpoints = n;
    return CLV_OK;
}

clv_status clv_etcd_check_prefix(const char *prefix, const char *path, clv_error *err)
{
    if (strlen(prefix) > CLV_ETCD_PREFIX_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "%s: expected at most %d bytes, found %zu", path,
                        CLV_ETCD_PREFIX_MAX, strlen(prefix));
    return CLV_OK;
}

clv_status clv_etcd_new(const clv_etcd_cluster *cluster, const clv_etcd_transport *transport,
                        clv_etcd **out, clv_error *err)
{
    clv_etcd *etcd = calloc(1, sizeof *etcd);
    if (etcd == NULL) {
        transport->free(transport->with);
        return clv_fail(err, CLV_NO_MEMORY, "no memory for etcd");
    }
    etcd->cluster = *cluster;
    etcd->transport = *transport;
    *out = etcd;
    return CLV_OK;
}

void clv_etcd_free(clv_etcd **etcd)
{
    if (*etcd == NULL)
        return;
    (*etcd)->transport.free((*etcd)->transport.with);
    free(*etcd);
    *etcd = NULL;
}

size_t clv_etcd_prefix_length(const clv_etcd *etcd)
{
    return strlen(etcd->cluster.prefix);
}

clv_status clv_etcd_key(const clv_etcd *etcd, const char *what, const char *name, clv_buf *out,
                        clv_error *err)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    CLV_TRY(clv_buf_printf(&key, err, "%s%s%s", etcd->cluster.prefix, what, name));
    return clv_base64_append(out, clv_buf_bytes(&key), err);
}

clv_status clv_etcd_key_end(const clv_etcd *etcd, const char *what, const char *name, clv_buf *out,
                            clv_error *err)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    CLV_TRY(clv_buf_printf(&key, err, "%s%s%s", etcd->cluster.prefix, what, name));
    /* Keys are UTF-8, which has no byte 0xff: the last byte can always be counted up. */
    key.p[key.n - 1]++;
    return clv_base64_append(out, clv_buf_bytes(&key), err);
}

int clv_etcd_try_ms(const clv_etcd_cluster *cluster)
{
    int share = CLV_ETCD_TIMEOUT_MS / (int)cluster->endpoints;
    return share > CLV_ETCD_CONNECT_MS ? share : CLV_ETCD_CONNECT_MS;
}

/* gRPC's OUT_OF_RANGE: etcd says it of a revision that was compacted away. */
#define OUT_OF_RANGE 11

static clv_status refused(const json_t *answer, long status, clv_error *err)
{
    if (json_integer_value(json_object_get(answer, "code")) == OUT_OF_RANGE)
        return clv_fail(err, CLV_STATE_CONFLICT, "etcd does not keep that revision any more");
    const char *message = json_string_value(json_object_get(answer, "message"));
    if (message == NULL)
        message = json_string_value(json_object_get(answer, "error"));
    return clv_fail(err, CLV_STORE_FAILED, "etcd answers %ld: %.200s", status,
                    message != NULL ? message : "no reason");
}

/* One endpoint's answer; CLV_STORE_UNAVAILABLE: another may do better. */
static clv_status ask(const clv_etcd *etcd, size_t i, const char *method, clv_bytes body,
                      json_t **answer, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = NULL;
    long status = 0;
    CLV_TRY(etcd->transport.post(etcd->transport.with, i, method, body, &status, &text, err));
    if (status >= 500)
        return clv_fail(err, CLV_STORE_UNAVAILABLE, "%s answers %ld: no majority, or no leader",
                        etcd->cluster.endpoint[i], status);
    CLV_TRY(clv_json_parse(clv_buf_bytes(&text), CLV_ETCD_ANSWER_MAX, &json, err));
    if (status != 200)
        return refused(json, status, err);
    *answer = json;
    json = NULL;
    return CLV_OK;
}

clv_status clv_etcd_call(clv_etcd *etcd, const char *method, json_t *body, json_t **answer,
                         bool *uncertain, clv_error *err)
{
    clv_auto(clv_json) owned = body;
    clv_auto(clv_buf) text = CLV_BUF_LIMITED(CLV_ETCD_ANSWER_MAX);
    if (body == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a request to etcd");
    CLV_TRY(clv_json_append(&text, owned, err));
    clv_status status = CLV_STORE_UNAVAILABLE;
    size_t first = etcd->last;
    uint64_t until = clv_monotonic_ms() + CLV_ETCD_TIMEOUT_MS;
    for (size_t i = 0; i < etcd->cluster.endpoints && status == CLV_STORE_UNAVAILABLE; i++) {
        size_t at = (first + i) % etcd->cluster.endpoints;
        if (i > 0 && clv_monotonic_ms() >= until)
            break;
        status = ask(etcd, at, method, clv_buf_bytes(&text), answer, err);
        if (status == CLV_STORE_UNAVAILABLE && uncertain != NULL)
            *uncertain = true;
        if (status == CLV_OK)
            etcd->last = at;
    }
    if (status == CLV_STORE_UNAVAILABLE)
        return clv_blame(err, status, "etcd: none of %zu endpoints can answer",
                         etcd->cluster.endpoints);
    return status;
}

clv_status clv_etcd_follow(clv_etcd *etcd, const char *method, json_t *body, int timeout_ms,
                           clv_etcd_take take, void *with, clv_error *err)
{
    clv_auto(clv_json) owned = body;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (body == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a request to etcd");
    if (etcd->transport.follow == NULL)
        return clv_fail(err, CLV_INTERNAL, "this transport follows no answer");
    CLV_TRY(clv_json_append(&text, owned, err));
    clv_status status = CLV_STORE_UNAVAILABLE;
    size_t first = etcd->last;
    uint64_t until = clv_monotonic_ms() + (uint64_t)timeout_ms, now = clv_monotonic_ms();
    for (size_t i = 0; i < etcd->cluster.endpoints && status == CLV_STORE_UNAVAILABLE; i++) {
        status = etcd->transport.follow(etcd->transport.with, (first + i) % etcd->cluster.endpoints,
                                        method, clv_buf_bytes(&text), (int)(until - now), take,
                                        with, err);
        now = clv_monotonic_ms();
        if (now + FOLLOW_SLACK_MS >= until)
            return CLV_OK;
    }
    return status;
}

clv_status clv_etcd_integer(const json_t *object, const char *name, int64_t *out, clv_error *err)
{
    const json_t *member = json_object_get(object, name);
    const char *text = json_string_value(member);
    *out = 0;
    if (member == NULL)
        return CLV_OK;
    size_t digits = text != NULL ? strspn(text, "0123456789") : 0;
    if (digits == 0 || digits > 18 || text[digits] != '\0')
        return clv_fail(err, CLV_STORE_FAILED, "etcd: %s: expected a number as text", name);
    *out = atoll(text);
    return CLV_OK;
}

void clv_etcd_set_integer(json_t *object, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    json_object_set_new(object, name, json_string(text));
}

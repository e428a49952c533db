#include <parent/etcd_config.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>
#include <parent/http.h>

#define CONFIG_MAX 65536
#define PREFIX     "claviger/"

typedef struct config {
    json_t *json; /* what the texts below point into */
    clv_http_pool *pool;
    clv_etcd_cluster cluster;
    const char *ca_file, *cert_file, *key_file;
} config;

static void config_free(void *with)
{
    config *c = with;
    clv_http_pool_free(&c->pool);
    clv_json_drop(&c->json);
    free(c);
}

static clv_status read_config(config *c, clv_error *err)
{
    clv_json_reader r;
    json_t *endpoints;
    CLV_TRY(clv_json_open(&r, c->json, "", err));
    CLV_TRY(clv_json_need_value(&r, "endpoints", &endpoints, err));
    CLV_TRY(clv_json_text(&r, "prefix", &c->cluster.prefix, err));
    CLV_TRY(clv_json_text(&r, "ca_file", &c->ca_file, err));
    CLV_TRY(clv_json_text(&r, "cert_file", &c->cert_file, err));
    CLV_TRY(clv_json_text(&r, "key_file", &c->key_file, err));
    CLV_TRY(clv_json_done(&r, err));
    if ((c->cert_file == NULL) != (c->key_file == NULL))
        return clv_fail(err, CLV_JSON_MISSING,
                        "expected cert_file and key_file together, found one");
    if (c->cluster.prefix == NULL)
        c->cluster.prefix = PREFIX;
    CLV_TRY(clv_etcd_check_prefix(c->cluster.prefix, "prefix", err));
    return clv_etcd_read_endpoints(endpoints, "endpoints", &c->cluster, err);
}

#define URL_MAX 320

static clv_http_request request_of(const config *c, size_t endpoint, const char *method,
                                   clv_bytes body, char url[URL_MAX])
{
    snprintf(url, URL_MAX, "%s/v3/%s", c->cluster.endpoint[endpoint], method);
    return (clv_http_request){.method = "POST",
                              .url = url,
                              .header = {"Content-Type: application/json"},
                              .body = body,
                              .answer_max = CLV_ETCD_ANSWER_MAX,
                              .timeout_ms = clv_etcd_try_ms(&c->cluster),
                              .connect_timeout_ms = CLV_ETCD_CONNECT_MS,
                              .pool = c->pool,
                              .ca_file = c->ca_file,
                              .cert_file = c->cert_file,
                              .key_file = c->key_file};
}

static clv_status no_answer(clv_status status, clv_error *err)
{
    if (status != CLV_UNREACHABLE && status != CLV_DEADLINE)
        return status;
    if (err != NULL)
        err->code = CLV_STORE_UNAVAILABLE;
    return CLV_STORE_UNAVAILABLE;
}

static clv_status post(void *with, size_t endpoint, const char *method, clv_bytes body,
                       long *status, clv_buf *answer, clv_error *err)
{
    char url[URL_MAX];
    clv_http_request request = request_of(with, endpoint, method, body, url);
    return no_answer(clv_http(&request, status, answer, err), err);
}

static clv_status follow(void *with, size_t endpoint, const char *method, clv_bytes body,
                         int timeout_ms, clv_etcd_take take, void *take_with, clv_error *err)
{
    char url[URL_MAX];
    long http_status;
    clv_http_request request = request_of(with, endpoint, method, body, url);
    request.timeout_ms = timeout_ms;
    request.take = take;
    request.take_with = take_with;
    return no_answer(clv_http(&request, &http_status, NULL, err), err);
}

static clv_status load(const char *path, config *c, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, CONFIG_MAX, &text, err));
    clv_status status = clv_json_parse(clv_buf_bytes(&text), CONFIG_MAX, &c->json, err);
    if (status == CLV_OK)
        status = read_config(c, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

clv_status clv_etcd_open(const char *path, clv_etcd **out, clv_error *err)
{
    config *c = calloc(1, sizeof *c);
    if (c == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for etcd");
    clv_status status = load(path, c, err);
    if (status == CLV_OK)
        status = clv_http_pool_new(&c->pool, err);
    if (status != CLV_OK) {
        config_free(c);
        return status;
    }
    clv_etcd_transport transport = {.with = c, .post = post, .follow = follow, .free = config_free};
    return clv_etcd_new(&c->cluster, &transport, out, err);
}

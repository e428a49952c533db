#include <parent/etcd.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>
#include <parent/http.h>

#define CONFIG_MAX    65536
#define ANSWER_MAX    ((size_t)8 * 1024 * 1024)
#define ENDPOINTS_MAX 16
#define TIMEOUT_MS    7000 /* etcd itself gives up on a majority after 5 to 7 seconds */
#define PREFIX        "claviger/"
#define PREFIX_MAX    128

struct clv_etcd {
    json_t *config; /* what the texts below point into */
    const char *endpoint[ENDPOINTS_MAX];
    size_t endpoints;
    const char *prefix, *ca_file, *cert_file, *key_file;
    _Atomic size_t last; /* the endpoint that answered last */
};

static clv_status read_endpoints(clv_etcd *etcd, const json_t *list, clv_error *err)
{
    size_t n = json_is_array(list) ? json_array_size(list) : 0;
    if (n < 1 || n > ENDPOINTS_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "endpoints: expected 1 to %d texts, found %zu",
                        ENDPOINTS_MAX, n);
    for (size_t i = 0; i < n; i++) {
        const char *url = json_string_value(json_array_get(list, i));
        if (url == NULL || (strncmp(url, "https://", 8) != 0 && strncmp(url, "http://", 7) != 0) ||
            strlen(url) > 200 || url[strlen(url) - 1] == '/')
            return clv_fail(err, CLV_JSON_VALUE,
                            "endpoints[%zu]: expected http[s]://HOST:PORT, found \"%.100s\"", i,
                            url != NULL ? url : "no text");
        etcd->endpoint[i] = url;
    }
    etcd->endpoints = n;
    return CLV_OK;
}

static clv_status read_config(clv_etcd *etcd, clv_error *err)
{
    clv_json_reader r;
    json_t *endpoints;
    CLV_TRY(clv_json_open(&r, etcd->config, "", err));
    CLV_TRY(clv_json_need_value(&r, "endpoints", &endpoints, err));
    CLV_TRY(clv_json_text(&r, "prefix", &etcd->prefix, err));
    CLV_TRY(clv_json_text(&r, "ca_file", &etcd->ca_file, err));
    CLV_TRY(clv_json_text(&r, "cert_file", &etcd->cert_file, err));
    CLV_TRY(clv_json_text(&r, "key_file", &etcd->key_file, err));
    CLV_TRY(clv_json_done(&r, err));
    if ((etcd->cert_file == NULL) != (etcd->key_file == NULL))
        return clv_fail(err, CLV_JSON_MISSING,
                        "expected cert_file and key_file together, found one");
    if (etcd->prefix == NULL)
        etcd->prefix = PREFIX;
    if (strlen(etcd->prefix) > PREFIX_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "prefix: expected at most %d bytes, found %zu",
                        PREFIX_MAX, strlen(etcd->prefix));
    return read_endpoints(etcd, endpoints, err);
}

clv_status clv_etcd_open(const char *path, clv_etcd **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto_ptr(clv_etcd) etcd = calloc(1, sizeof *etcd);
    if (etcd == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for etcd");
    CLV_TRY(clv_file_read(path, CONFIG_MAX, &text, err));
    clv_status status = clv_json_parse(clv_buf_bytes(&text), CONFIG_MAX, &etcd->config, err);
    if (status == CLV_OK)
        status = read_config(etcd, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s", path);
    *out = etcd;
    etcd = NULL;
    return CLV_OK;
}

void clv_etcd_free(clv_etcd **etcd)
{
    if (*etcd == NULL)
        return;
    clv_json_drop(&(*etcd)->config);
    free(*etcd);
    *etcd = NULL;
}

size_t clv_etcd_prefix_length(const clv_etcd *etcd)
{
    return strlen(etcd->prefix);
}

clv_status clv_etcd_key(const clv_etcd *etcd, const char *what, const char *name, clv_buf *out,
                        clv_error *err)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    CLV_TRY(clv_buf_printf(&key, err, "%s%s%s", etcd->prefix, what, name));
    return clv_base64_append(out, clv_buf_bytes(&key), err);
}

clv_status clv_etcd_key_end(const clv_etcd *etcd, const char *what, const char *name, clv_buf *out,
                            clv_error *err)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    CLV_TRY(clv_buf_printf(&key, err, "%s%s%s", etcd->prefix, what, name));
    /* Keys are UTF-8, which has no byte 0xff: the last byte can always be counted up. */
    key.p[key.n - 1]++;
    return clv_base64_append(out, clv_buf_bytes(&key), err);
}

static clv_status refused(const json_t *answer, long status, clv_error *err)
{
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
    char url[320];
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = NULL;
    long status = 0;
    snprintf(url, sizeof url, "%s/v3/%s", etcd->endpoint[i], method);
    clv_http_request request = {.method = "POST",
                                .url = url,
                                .header = {"Content-Type: application/json"},
                                .body = body,
                                .answer_max = ANSWER_MAX,
                                .timeout_ms = TIMEOUT_MS,
                                .ca_file = etcd->ca_file,
                                .cert_file = etcd->cert_file,
                                .key_file = etcd->key_file};
    clv_status result = clv_http(&request, &status, &text, err);
    if (result == CLV_UNREACHABLE || result == CLV_DEADLINE) {
        if (err != NULL)
            err->code = CLV_STORE_UNAVAILABLE;
        return CLV_STORE_UNAVAILABLE;
    }
    CLV_TRY(result);
    if (status >= 500)
        return clv_fail(err, CLV_STORE_UNAVAILABLE, "%s answers %ld: no majority, or no leader",
                        etcd->endpoint[i], status);
    CLV_TRY(clv_json_parse(clv_buf_bytes(&text), ANSWER_MAX, &json, err));
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
    clv_auto(clv_buf) text = CLV_BUF_LIMITED(ANSWER_MAX);
    if (body == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a request to etcd");
    CLV_TRY(clv_json_append(&text, owned, err));
    clv_status status = CLV_STORE_UNAVAILABLE;
    size_t first = etcd->last;
    for (size_t i = 0; i < etcd->endpoints && status == CLV_STORE_UNAVAILABLE; i++) {
        size_t at = (first + i) % etcd->endpoints;
        status = ask(etcd, at, method, clv_buf_bytes(&text), answer, err);
        if (status == CLV_STORE_UNAVAILABLE && uncertain != NULL)
            *uncertain = true;
        if (status == CLV_OK)
            etcd->last = at;
    }
    if (status == CLV_STORE_UNAVAILABLE)
        return clv_blame(err, status, "etcd: none of %zu endpoints can answer", etcd->endpoints);
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

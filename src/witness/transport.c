#include <witness/transport.h>

#include <stdlib.h>

#include <kms/transport.h>

typedef struct endpoints {
    clv_clock *clock;
    int timeout_ms; /* of one request */
    size_t count;
    clv_https *https[CLV_WITNESS_ENDPOINTS_MAX];
} endpoints;

static void endpoints_free(void *with)
{
    endpoints *e = with;
    for (size_t i = 0; i < e->count; i++)
        clv_https_free(&e->https[i]);
    free(e);
}

/* What libcurl's transport says, in the words of an etcd transport. */
static clv_status in_words_of_etcd(clv_status status, clv_error *err)
{
    switch (status) {
    case CLV_KMS_CONNECT:
    case CLV_KMS_TLS:
    case CLV_KMS_TIMEOUT:
    case CLV_KMS_RESPONSE:
        if (err != NULL)
            err->code = CLV_STORE_UNAVAILABLE;
        return CLV_STORE_UNAVAILABLE;
    default:
        return status;
    }
}

static clv_status post(void *with, size_t endpoint, const char *method, clv_bytes body,
                       long *status, clv_buf *answer, clv_error *err)
{
    static const clv_header header = {"Content-Type", {(const uint8_t *)"application/json", 16}};
    endpoints *e = with;
    clv_auto(clv_https_answer) got = CLV_HTTPS_ANSWER_INIT;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_https_request request = {.header = &header,
                                 .header_count = 1,
                                 .body = body,
                                 .timeout_ms = e->timeout_ms,
                                 .body_max = CLV_ETCD_ANSWER_MAX};
    CLV_TRY(clv_buf_printf(&text, err, "/v3/%s", method));
    CLV_TRY(clv_buf_text(&text, &request.path, err));
    CLV_TRY(clv_clock_now(e->clock, &request.now_ms, err));
    clv_status sent = clv_https_post(e->https[endpoint], &request, &got, err);
    /* A kept connection may have ended meanwhile. Sending again is safe here: every write of this
     * room compares, and what it finds written already is what it wanted to write. */
    if (sent == CLV_KMS_CONNECT) {
        got.body.n = 0;
        sent = clv_https_post(e->https[endpoint], &request, &got, err);
    }
    CLV_TRY(in_words_of_etcd(sent, err));
    *status = got.status;
    return clv_buf_append(answer, clv_buf_bytes(&got.body), err);
}

static clv_status open_endpoints(const clv_policy_witness *witness, X509_STORE *trust,
                                 const char *const *relay, X509 *certificate, EVP_PKEY *key,
                                 endpoints *out, clv_error *err)
{
    for (size_t i = 0; i < witness->endpoint_count; i++) {
        clv_https_options options = {.endpoint = witness->endpoint[i],
                                     .trust = trust,
                                     .relay = relay[i],
                                     .certificate = certificate,
                                     .key = key};
        CLV_TRY(clv_https_open(&options, &out->https[i], err));
        out->count = i + 1;
    }
    return CLV_OK;
}

clv_status clv_witness_connect(const clv_policy_witness *witness, X509_STORE *trust,
                               const char *const *relay, clv_clock *clock, X509 *certificate,
                               EVP_PKEY *key, clv_etcd **out, clv_error *err)
{
    endpoints *e = calloc(1, sizeof *e);
    if (e == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the witness's connections");
    e->clock = clock;
    clv_status status = open_endpoints(witness, trust, relay, certificate, key, e, err);
    if (status != CLV_OK) {
        endpoints_free(e);
        return status;
    }
    clv_etcd_cluster cluster = {.endpoints = witness->endpoint_count, .prefix = witness->prefix};
    for (size_t i = 0; i < cluster.endpoints; i++)
        cluster.endpoint[i] = witness->endpoint[i];
    e->timeout_ms = clv_etcd_try_ms(&cluster);
    clv_etcd_transport transport = {.with = e, .post = post, .free = endpoints_free};
    return clv_etcd_new(&cluster, &transport, out, err);
}

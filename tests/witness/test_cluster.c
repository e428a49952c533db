/* Lists of the cluster over a transport of our own: page by page, each under the init record. */
#include "../check.h"

#include <witness/cluster.h>

#define PREFIX "test/"
#define BEGIN  PREFIX "state/key/"

/* A cluster of this many names, each its own value. */
typedef struct names {
    int count;
    int calls;
    bool compares; /* each call so far compared the init record's revision and bytes */
} names;

static void decode(const char *base64, clv_buf *out)
{
    out->n = 0;
    assert_ok(clv_base64_decode(clv_bytes_of(base64), out, err));
    assert_ok(clv_buf_u8(out, 0, err));
}

static json_t *encode(const char *text)
{
    clv_auto(clv_buf) base64 = CLV_BUF_INIT;
    assert_ok(clv_base64_append(&base64, clv_bytes_of(text), err));
    return json_stringn((const char *)base64.p, base64.n);
}

static bool compares_init(const json_t *txn)
{
    const json_t *compare = json_object_get(txn, "compare");
    const json_t *revision = json_array_get(compare, 0), *value = json_array_get(compare, 1);
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    decode(json_string_value(json_object_get(value, "value")), &bytes);
    return strcmp(json_string_value(json_object_get(revision, "mod_revision")), "7") == 0 &&
           strcmp((const char *)bytes.p, "the init record") == 0;
}

/* The kvs of a range as etcd gives them: in order, from the key on, as many as the limit says. */
static json_t *range(const names *in, const json_t *request)
{
    clv_auto(clv_buf) from = CLV_BUF_INIT;
    json_t *kvs = json_array();
    decode(json_string_value(json_object_get(request, "key")), &from);
    size_t limit = (size_t)atoi(json_string_value(json_object_get(request, "limit")));
    for (int i = 0; i < in->count && json_array_size(kvs) < limit; i++) {
        char key[64];
        snprintf(key, sizeof key, BEGIN "%05d", i);
        /* A key that ends with a zero byte comes behind the one without. */
        int order = strcmp(key, (const char *)from.p);
        if (order > 0 || (order == 0 && from.n == strlen(key) + 1))
            json_array_append_new(kvs, json_pack("{s:o, s:o, s:s}", "key", encode(key), "value",
                                                 encode(key), "mod_revision", "9"));
    }
    return kvs;
}

static clv_status post(void *with, size_t endpoint, const char *method, clv_bytes body,
                       long *status, clv_buf *answer, clv_error *err)
{
    names *in = with;
    clv_auto(clv_json) txn = NULL;
    (void)endpoint;
    (void)method;
    CLV_TRY(clv_json_parse(body, body.n, &txn, err));
    in->calls++;
    in->compares = in->compares && compares_init(txn);
    const json_t *operation = json_array_get(json_object_get(txn, "success"), 0);
    clv_auto(clv_json) said =
        json_pack("{s:b, s:[{s:{s:o}}]}", "succeeded", 1, "responses", "response_range", "kvs",
                  range(in, json_object_get(operation, "request_range")));
    *status = 200;
    return clv_json_append(answer, said, err);
}

static void free_nothing(void *with)
{
    (void)with;
}

/* Each name once, in order. */
static clv_status expect_next(void *with, clv_bytes value, clv_error *err)
{
    int *next = with;
    char key[64];
    (void)err;
    snprintf(key, sizeof key, BEGIN "%05d", (*next)++);
    assert_int_equal(value.n, strlen(key));
    assert_memory_equal(value.p, key, value.n);
    return CLV_OK;
}

static void every_name_is_listed_once_however_many_pages(void **state)
{
    static const struct {
        int names, calls;
    } table[] = {{0, 1}, {1, 1}, {499, 1}, {500, 2}, {501, 2}, {1000, 3}, {1234, 3}};
    (void)state;
    for (size_t i = 0; i < ROWS(table); i++) {
        names in = {.count = table[i].names, .compares = true};
        clv_etcd_transport transport = {.with = &in, .post = post, .free = free_nothing};
        clv_etcd_cluster cluster = {.endpoint = {"fake"}, .endpoints = 1, .prefix = PREFIX};
        clv_auto(clv_cluster_pair) init = {.revision = 7};
        clv_etcd *etcd = NULL;
        int next = 0;
        assert_ok(clv_buf_append_text(&init.value, "the init record", err));
        assert_ok(clv_etcd_new(&cluster, &transport, &etcd, err));
        assert_ok(clv_cluster_list(etcd, &init, "state/", "key/", expect_next, &next, err));
        assert_int_equal(next, table[i].names);
        assert_int_equal(in.calls, table[i].calls);
        assert_true(in.compares);
        clv_etcd_free(&etcd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_name_is_listed_once_however_many_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

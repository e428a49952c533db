#include <witness/cluster.h>

#define INIT "init"
#define PAGE 500

void clv_cluster_pair_drop(clv_cluster_pair *pair)
{
    clv_buf_drop(&pair->value);
}

/* The parent carries the bytes: a cluster that is cut off, and one that talks nonsense through a
 * proxy, are the same to us. */
static clv_status unavailable(clv_status status, clv_error *err)
{
    if (status == CLV_OK || status == CLV_NO_MEMORY || status == CLV_CLOCK_UNSET)
        return status;
    if (err != NULL)
        err->code = CLV_WITNESS_UNAVAILABLE;
    return clv_blame(err, CLV_WITNESS_UNAVAILABLE, "the witness");
}

static clv_status take_pair(const json_t *kv, clv_cluster_pair *out, clv_error *err)
{
    if (kv == NULL)
        return CLV_OK;
    CLV_TRY(clv_etcd_value(kv, &out->value, err));
    return clv_etcd_integer(kv, "mod_revision", &out->revision, err);
}

/* {"compare": [what/name is of this revision, …], "success": […]} */
static clv_status add_compare(const clv_etcd *etcd, json_t *txn, const char *what, const char *name,
                              int64_t revision, clv_error *err)
{
    json_t *compare;
    CLV_TRY(clv_etcd_key_object(etcd, what, name, false, &compare, err));
    json_object_set_new(compare, "target", json_string("MOD"));
    json_object_set_new(compare, "result", json_string("EQUAL"));
    clv_etcd_set_integer(compare, "mod_revision", revision);
    if (json_array_append_new(json_object_get(txn, "compare"), compare) != 0)
        return clv_etcd_no_memory(err);
    return CLV_OK;
}

/* The init record is still the one we know: its bytes too, since the first write to each new
 * cluster has the same revision. */
static clv_status add_compare_init(const clv_etcd *etcd, json_t *txn, const clv_cluster_pair *init,
                                   clv_error *err)
{
    json_t *compare;
    CLV_TRY(add_compare(etcd, txn, INIT, "", init->revision, err));
    CLV_TRY(clv_etcd_put_object(etcd, INIT, "", clv_buf_bytes(&init->value), &compare, err));
    json_object_set_new(compare, "target", json_string("VALUE"));
    json_object_set_new(compare, "result", json_string("EQUAL"));
    if (json_array_append_new(json_object_get(txn, "compare"), compare) != 0)
        return clv_etcd_no_memory(err);
    return CLV_OK;
}

static clv_status run(clv_etcd *etcd, json_t *txn, json_t **answer, bool *done, clv_error *err)
{
    bool uncertain = false;
    CLV_TRY(clv_etcd_call(etcd, "kv/txn", json_incref(txn), answer, &uncertain, err));
    *done = json_is_true(json_object_get(*answer, "succeeded"));
    return CLV_OK;
}

static const json_t *first_range(const json_t *answer)
{
    const json_t *response = json_array_get(json_object_get(answer, "responses"), 0);
    return json_object_get(response, "response_range");
}

clv_status clv_cluster_read_init(clv_etcd *etcd, clv_cluster_pair *out, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    const json_t *kv = NULL;
    clv_status status = clv_etcd_range_one(etcd, INIT, "", 0, &answer, &kv, err);
    if (status == CLV_OK)
        status = take_pair(kv, out, err);
    return unavailable(status, err);
}

static clv_status put_where(clv_etcd *etcd, json_t *txn, const char *what, const char *name,
                            int64_t *revision, clv_bytes value, bool *done, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    json_t *put;
    CLV_TRY(add_compare(etcd, txn, what, name, *revision, err));
    CLV_TRY(clv_etcd_put_object(etcd, what, name, value, &put, err));
    CLV_TRY(clv_etcd_add_operation(json_object_get(txn, "success"), "request_put", put, err));
    CLV_TRY(run(etcd, txn, &answer, done, err));
    if (!*done)
        return CLV_OK;
    return clv_etcd_integer(json_object_get(answer, "header"), "revision", revision, err);
}

static json_t *new_txn(void)
{
    return json_pack("{s:[], s:[]}", "compare", "success");
}

clv_status clv_cluster_write_init(clv_etcd *etcd, clv_bytes value, clv_error *err)
{
    clv_auto(clv_json) txn = new_txn();
    int64_t revision = 0;
    bool done = false;
    CLV_TRY(unavailable(put_where(etcd, txn, INIT, "", &revision, value, &done, err), err));
    if (!done)
        return clv_fail(err, CLV_WITNESS_INITIALISED,
                        "expected a witness without an init record, found that it has one");
    return CLV_OK;
}

/* The range that a transaction asks for, when the init record is still the one we know. */
static clv_status read_where(clv_etcd *etcd, const clv_cluster_pair *init, json_t *range,
                             json_t **answer, bool *done, clv_error *err)
{
    clv_auto(clv_json) txn = new_txn();
    CLV_TRY(clv_etcd_add_operation(json_object_get(txn, "success"), "request_range", range, err));
    CLV_TRY(add_compare_init(etcd, txn, init, err));
    return run(etcd, txn, answer, done, err);
}

static clv_status other(clv_error *err)
{
    return clv_fail(err, CLV_WITNESS_OTHER,
                    "expected the init record that this enclave found at first, found another or "
                    "none: the cluster was emptied, put back or set up anew");
}

clv_status clv_cluster_read(clv_etcd *etcd, const clv_cluster_pair *init, const char *what,
                            const char *name, clv_cluster_pair *out, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    json_t *range;
    bool done = false;
    CLV_TRY(clv_etcd_key_object(etcd, what, name, false, &range, err));
    CLV_TRY(unavailable(read_where(etcd, init, range, &answer, &done, err), err));
    if (!done)
        return other(err);
    const json_t *kv = json_array_get(json_object_get(first_range(answer), "kvs"), 0);
    return unavailable(take_pair(kv, out, err), err);
}

clv_status clv_cluster_write(clv_etcd *etcd, const clv_cluster_pair *init, const char *what,
                             const char *name, int64_t *revision, clv_bytes value, clv_error *err)
{
    clv_auto(clv_json) txn = new_txn();
    bool done = false;
    CLV_TRY(add_compare_init(etcd, txn, init, err));
    CLV_TRY(unavailable(put_where(etcd, txn, what, name, revision, value, &done, err), err));
    if (!done)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "expected the witness to be where it was, found that it went on");
    return CLV_OK;
}

/* Where the next page begins: behind the last key of this one. */
static clv_status behind(const json_t *kv, clv_buf *next, clv_error *err)
{
    const char *key = json_string_value(json_object_get(kv, "key"));
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    if (key == NULL)
        return clv_fail(err, CLV_STORE_FAILED, "etcd: a pair has no key");
    CLV_TRY(clv_base64_decode(clv_bytes_of(key), &bytes, err));
    CLV_TRY(clv_buf_u8(&bytes, 0, err));
    next->n = 0;
    return clv_base64_append(next, clv_buf_bytes(&bytes), err);
}

static clv_status visit_page(const json_t *kvs, clv_cluster_visit visit, void *with, clv_error *err)
{
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        clv_auto(clv_cluster_pair) pair = CLV_CLUSTER_PAIR_INIT;
        CLV_TRY(unavailable(take_pair(json_array_get(kvs, i), &pair, err), err));
        CLV_TRY(visit(with, clv_buf_bytes(&pair.value), err));
    }
    return CLV_OK;
}

clv_status clv_cluster_list(clv_etcd *etcd, const clv_cluster_pair *init, const char *what,
                            const char *prefix, clv_cluster_visit visit, void *with, clv_error *err)
{
    clv_auto(clv_buf) next = CLV_BUF_INIT;
    size_t found = PAGE;
    while (found == PAGE) {
        clv_auto(clv_json) answer = NULL;
        json_t *range;
        bool done = false;
        const char *from;
        CLV_TRY(clv_etcd_key_object(etcd, what, prefix, true, &range, err));
        clv_etcd_set_integer(range, "limit", PAGE);
        CLV_TRY(clv_buf_text(&next, &from, err));
        if (next.n > 0)
            json_object_set_new(range, "key", json_string(from));
        CLV_TRY(unavailable(read_where(etcd, init, range, &answer, &done, err), err));
        if (!done)
            return other(err);
        const json_t *kvs = json_object_get(first_range(answer), "kvs");
        found = json_array_size(kvs);
        CLV_TRY(visit_page(kvs, visit, with, err));
        if (found > 0)
            CLV_TRY(unavailable(behind(json_array_get(kvs, found - 1), &next, err), err));
    }
    return CLV_OK;
}

#include <etcd/kv.h>

clv_status clv_etcd_no_memory(clv_error *err)
{
    return clv_fail(err, CLV_NO_MEMORY, "no memory for a request to etcd");
}

clv_status clv_etcd_key_object(const clv_etcd *etcd, const char *what, const char *name,
                               bool folder, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT, end = CLV_BUF_INIT;
    const char *key_text, *end_text = NULL;
    CLV_TRY(clv_etcd_key(etcd, what, name, &key, err));
    CLV_TRY(clv_buf_text(&key, &key_text, err));
    if (folder) {
        CLV_TRY(clv_etcd_key_end(etcd, what, name, &end, err));
        CLV_TRY(clv_buf_text(&end, &end_text, err));
    }
    *out = json_pack("{s:s, s:s*}", "key", key_text, "range_end", end_text);
    return *out != NULL ? CLV_OK : clv_etcd_no_memory(err);
}

clv_status clv_etcd_put_object(const clv_etcd *etcd, const char *what, const char *name,
                               clv_bytes value, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    const char *value_text;
    CLV_TRY(clv_base64_append(&text, value, err));
    CLV_TRY(clv_buf_text(&text, &value_text, err));
    CLV_TRY(clv_etcd_key_object(etcd, what, name, false, out, err));
    if (json_object_set_new(*out, "value", json_string(value_text)) == 0)
        return CLV_OK;
    clv_json_drop(out);
    return clv_etcd_no_memory(err);
}

clv_status clv_etcd_value(const json_t *kv, clv_buf *out, clv_error *err)
{
    const char *value = json_string_value(json_object_get(kv, "value"));
    return value != NULL ? clv_base64_decode(clv_bytes_of(value), out, err) : CLV_OK;
}

clv_status clv_etcd_range_one(clv_etcd *etcd, const char *what, const char *name, int64_t revision,
                              json_t **answer, const json_t **kv, clv_error *err)
{
    json_t *body;
    CLV_TRY(clv_etcd_key_object(etcd, what, name, false, &body, err));
    if (revision > 0)
        clv_etcd_set_integer(body, "revision", revision);
    CLV_TRY(clv_etcd_call(etcd, "kv/range", body, answer, NULL, err));
    *kv = json_array_get(json_object_get(*answer, "kvs"), 0);
    return CLV_OK;
}

clv_status clv_etcd_add_operation(json_t *operations, const char *kind, json_t *request,
                                  clv_error *err)
{
    json_t *operation = json_pack("{s:o}", kind, request);
    if (operation == NULL || json_array_append_new(operations, operation) != 0)
        return clv_etcd_no_memory(err);
    return CLV_OK;
}

clv_status clv_etcd_commit(clv_etcd *etcd, const char *what, const char *name, int64_t revision,
                           json_t *operations, bool *done, bool *uncertain, clv_error *err)
{
    json_t *compare;
    clv_auto(clv_json) answer = NULL;
    CLV_TRY(clv_etcd_key_object(etcd, what, name, false, &compare, err));
    json_object_set_new(compare, "target", json_string("MOD"));
    json_object_set_new(compare, "result", json_string("EQUAL"));
    clv_etcd_set_integer(compare, "mod_revision", revision);
    json_t *body = json_pack("{s:[o], s:O}", "compare", compare, "success", operations);
    CLV_TRY(clv_etcd_call(etcd, "kv/txn", body, &answer, uncertain, err));
    *done = json_is_true(json_object_get(answer, "succeeded"));
    return CLV_OK;
}

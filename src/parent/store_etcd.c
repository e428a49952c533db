/* The engine for fleets: an etcd cluster that several parents share. */
#include <parent/store_etcd.h>

#include <stdlib.h>

#include <parent/etcd_config.h>

#define LEASE_S 600

typedef struct writing {
    clv_etcd *etcd;
    const char *name;
    clv_etcd_meta before, after;
    clv_bytes blob;
    json_t *operations; /* of the transaction */
} writing;

static void writing_drop(writing *w)
{
    clv_json_drop(&w->operations);
}

static clv_status grant_lease(clv_etcd *etcd, int64_t *id, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    json_t *body = json_object();
    clv_etcd_set_integer(body, "TTL", LEASE_S);
    CLV_TRY(clv_etcd_call(etcd, "lease/grant", body, &answer, NULL, err));
    const char *text = json_string_value(json_object_get(answer, "ID"));
    *id = text != NULL ? atoll(text) : 0;
    return *id > 0 ? CLV_OK : clv_fail(err, CLV_STORE_FAILED, "etcd: a lease has no id");
}

/* The bytes go before, under a lease; the transaction then only takes the lease off. */
static clv_status write_ahead(writing *w, clv_error *err)
{
    int64_t lease;
    clv_cursor c = clv_cursor_of(w->blob);
    CLV_TRY(grant_lease(w->etcd, &lease, err));
    for (int64_t i = 0; i < w->after.chunks; i++) {
        clv_auto(clv_json) answer = NULL;
        char name[CLV_ETCD_CHUNK_NAME];
        clv_bytes piece;
        json_t *put;
        clv_etcd_chunk_name(name, w->after.id, i);
        CLV_TRY(clv_cursor_take(&c, c.rest.n < CLV_ETCD_CHUNK ? c.rest.n : CLV_ETCD_CHUNK, &piece,
                                err));
        CLV_TRY(clv_etcd_put_object(w->etcd, CLV_ETCD_CHUNK_KEY, name, piece, &put, err));
        clv_etcd_set_integer(put, "lease", lease);
        CLV_TRY(clv_etcd_call(w->etcd, "kv/put", put, &answer, NULL, err));
        CLV_TRY(clv_etcd_key_object(w->etcd, CLV_ETCD_CHUNK_KEY, name, false, &put, err));
        json_object_set_new(put, "ignore_value", json_true());
        CLV_TRY(clv_etcd_add_operation(w->operations, "request_put", put, err));
    }
    return CLV_OK;
}

static clv_status add_bytes(writing *w, clv_error *err)
{
    char name[CLV_ETCD_CHUNK_NAME];
    json_t *put;
    if (w->blob.n > CLV_ETCD_CHUNK)
        return write_ahead(w, err);
    clv_etcd_chunk_name(name, w->after.id, 0);
    CLV_TRY(clv_etcd_put_object(w->etcd, CLV_ETCD_CHUNK_KEY, name, w->blob, &put, err));
    return clv_etcd_add_operation(w->operations, "request_put", put, err);
}

static clv_status add_meta(writing *w, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json =
        json_pack("{s:I, s:I, s:I, s:s}", "generation", (json_int_t)w->after.generation, "size",
                  (json_int_t)w->blob.n, "chunks", (json_int_t)w->after.chunks, "id", w->after.id);
    json_t *put;
    CLV_TRY(clv_json_append(&text, json, err));
    CLV_TRY(clv_etcd_put_object(w->etcd, CLV_ETCD_STATE, w->name, clv_buf_bytes(&text), &put, err));
    return clv_etcd_add_operation(w->operations, "request_put", put, err);
}

static clv_status add_removal(writing *w, clv_error *err)
{
    json_t *range;
    char folder[CLV_ETCD_CHUNK_NAME];
    if (w->before.revision == 0)
        return CLV_OK;
    snprintf(folder, sizeof folder, "%s/", w->before.id);
    CLV_TRY(clv_etcd_key_object(w->etcd, CLV_ETCD_CHUNK_KEY, folder, true, &range, err));
    return clv_etcd_add_operation(w->operations, "request_delete_range", range, err);
}

static clv_status conflict(const char *name, int64_t expected, int64_t found, clv_error *err)
{
    return clv_fail(err, CLV_STATE_CONFLICT, "%.128s: expected generation %lld, found %lld", name,
                    (long long)expected, (long long)found);
}

/*
 * Somebody's transaction came first, or ours did and its answer was lost: the id tells. Where an
 * attempt was not answered and the store has gone past our generation, ours may be one of those
 * that were replaced.
 */
static clv_status judge(writing *w, bool uncertain, clv_error *err)
{
    clv_etcd_meta now;
    CLV_TRY(clv_etcd_read_meta(w->etcd, w->name, &now, err));
    if (now.revision != 0 && strcmp(now.id, w->after.id) == 0)
        return CLV_OK;
    if (uncertain && now.generation != w->after.generation)
        return clv_fail(err, CLV_STORE_UNAVAILABLE,
                        "%.128s: generation %lld may have been stored before generation %lld, "
                        "which is there now",
                        w->name, (long long)w->after.generation, (long long)now.generation);
    return conflict(w->name, w->before.generation, now.generation, err);
}

static clv_status etcd_put(void *self, const char *name, int64_t before, int64_t generation,
                           clv_bytes blob, clv_error *err)
{
    clv_auto(writing) w = {.etcd = self, .name = name, .blob = blob, .operations = json_array()};
    bool done = false, uncertain = false;
    if (blob.n > CLV_ETCD_CHUNK * CLV_ETCD_CHUNKS_MAX)
        return clv_fail(err, CLV_TOO_LARGE, "%.128s: expected at most %zu bytes, found %zu", name,
                        CLV_ETCD_CHUNK * CLV_ETCD_CHUNKS_MAX, blob.n);
    CLV_TRY(clv_etcd_read_meta(self, name, &w.before, err));
    if (w.before.generation != before)
        return conflict(name, before, w.before.generation, err);
    w.after.generation = generation;
    w.after.chunks =
        blob.n > CLV_ETCD_CHUNK ? (int64_t)((blob.n + CLV_ETCD_CHUNK - 1) / CLV_ETCD_CHUNK) : 1;
    clv_operation_id(w.after.id);
    CLV_TRY(add_bytes(&w, err));
    CLV_TRY(add_meta(&w, err));
    CLV_TRY(add_removal(&w, err));
    CLV_TRY(clv_etcd_commit(self, CLV_ETCD_STATE, name, w.before.revision, w.operations, &done,
                            &uncertain, err));
    return done ? CLV_OK : judge(&w, uncertain, err);
}

static clv_status etcd_remove(void *self, const char *name, int64_t generation, clv_error *err)
{
    clv_auto(writing) w = {.etcd = self, .name = name, .operations = json_array()};
    bool done = false, uncertain = false;
    json_t *key;
    CLV_TRY(clv_etcd_read_meta(self, name, &w.before, err));
    if (w.before.revision == 0)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    if (w.before.generation != generation)
        return conflict(name, generation, w.before.generation, err);
    CLV_TRY(clv_etcd_key_object(self, CLV_ETCD_STATE, name, false, &key, err));
    CLV_TRY(clv_etcd_add_operation(w.operations, "request_delete_range", key, err));
    CLV_TRY(add_removal(&w, err));
    CLV_TRY(clv_etcd_commit(self, CLV_ETCD_STATE, name, w.before.revision, w.operations, &done,
                            &uncertain, err));
    if (done)
        return CLV_OK;
    clv_etcd_meta now;
    CLV_TRY(clv_etcd_read_meta(self, name, &now, err));
    if (now.revision == 0 && uncertain)
        return CLV_OK;
    if (now.revision == 0)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    if (uncertain && now.generation != generation + 1)
        return clv_fail(err, CLV_STORE_UNAVAILABLE,
                        "%.128s: generation %lld may have been deleted before generation %lld came",
                        name, (long long)generation, (long long)now.generation);
    return conflict(name, generation, now.generation, err);
}

static clv_status etcd_key_get(void *self, const char *name, clv_buf *blob, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    const json_t *kv;
    CLV_TRY(clv_etcd_range_one(self, CLV_ETCD_KEY, name, 0, &answer, &kv, err));
    if (kv == NULL)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    return clv_etcd_value(kv, blob, err);
}

static clv_status etcd_key_put(void *self, const char *name, clv_bytes blob, clv_error *err)
{
    clv_auto(writing) w = {.etcd = self, .operations = json_array()};
    clv_auto(clv_buf) found = CLV_BUF_INIT;
    bool done = false, uncertain = false;
    json_t *put;
    CLV_TRY(clv_etcd_put_object(self, CLV_ETCD_KEY, name, blob, &put, err));
    CLV_TRY(clv_etcd_add_operation(w.operations, "request_put", put, err));
    CLV_TRY(clv_etcd_commit(self, CLV_ETCD_KEY, name, 0, w.operations, &done, &uncertain, err));
    if (done)
        return CLV_OK;
    /* KMS makes no two blobs alike: the same bytes are those of the attempt that was not answered.
     */
    if (uncertain)
        CLV_TRY(etcd_key_get(self, name, &found, err));
    if (uncertain && clv_bytes_equal(clv_buf_bytes(&found), blob))
        return CLV_OK;
    return clv_fail(err, CLV_STATE_CONFLICT,
                    "key %.128s: expected none in the store, found one, which stays", name);
}

static clv_status etcd_open(const char *path, bool make, void **out, clv_error *err)
{
    (void)make;
    clv_etcd *etcd = NULL;
    CLV_TRY(clv_etcd_open(path, &etcd, err));
    *out = etcd;
    return CLV_OK;
}

static void etcd_close(void *self)
{
    clv_etcd *etcd = self;
    clv_etcd_free(&etcd);
}

const clv_store_engine clv_store_etcd = {
    .name = "etcd",
    .open = etcd_open,
    .close = etcd_close,
    .get = clv_etcd_store_get,
    .generation = clv_etcd_store_generation,
    .put = etcd_put,
    .remove = etcd_remove,
    .list = clv_etcd_store_list,
    .wait = clv_etcd_store_wait,
    .key_get = etcd_key_get,
    .key_put = etcd_key_put,
    .key_list = clv_etcd_store_key_list,
    .check = clv_etcd_store_check,
};

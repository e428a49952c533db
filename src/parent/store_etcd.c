/*
 * The engine for fleets: an etcd cluster that several parents share.
 *
 *     PREFIX state/NAME       {"generation", "size", "chunks", "id"}: what is acknowledged
 *     PREFIX chunk/ID/NNNN    the bytes, CHUNK each; ID is of one put alone
 *     PREFIX key/NAME         a CiphertextBlob
 *
 * A put is one transaction that compares the revision of state/NAME, so that two writers cannot
 * both win, and takes the old chunks away. Bytes that do not fit one request are written before,
 * under a lease: where the transaction never comes they vanish by themselves, and the transaction
 * takes the lease off. A get reads all chunks at the revision of the state that it found.
 */
#include <parent/store_engine.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/log.h>
#include <etcd/kv.h>
#include <parent/etcd_config.h>

#define CHUNK      ((size_t)1024 * 1024) /* etcd takes requests of 1.5 MiB, 128 operations */
#define CHUNKS_MAX 100
#define LEASE_S    600
#define PAGE       500
#define GET_TRIES  4
#define STATE      "state/"
#define CHUNK_KEY  "chunk/"
#define KEY        "key/"
#define CHUNK_NAME 40

typedef struct meta {
    int64_t revision; /* of the last change; 0: there is none */
    int64_t read_at;  /* the store's revision when it was read */
    int64_t generation, size, chunks;
    char id[CLV_OPERATION_ID_SIZE];
} meta;

static clv_status parse_meta(const json_t *kv, meta *out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = NULL;
    clv_json_reader r;
    const char *id;
    CLV_TRY(clv_etcd_value(kv, &text, err));
    CLV_TRY(clv_json_parse(clv_buf_bytes(&text), 4096, &json, err));
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_integer(&r, "generation", 1, CLV_GENERATION_MAX, &out->generation, err));
    CLV_TRY(clv_json_need_integer(&r, "size", 0, (int64_t)(CHUNK * CHUNKS_MAX), &out->size, err));
    CLV_TRY(clv_json_need_integer(&r, "chunks", 1, CHUNKS_MAX, &out->chunks, err));
    CLV_TRY(clv_json_need_text(&r, "id", &id, err));
    CLV_TRY(clv_json_done(&r, err));
    if (strlen(id) != sizeof out->id - 1 || strspn(id, "0123456789abcdef") != strlen(id))
        return clv_fail(err, CLV_JSON_VALUE, "id: expected 16 hex digits");
    memcpy(out->id, id, sizeof out->id);
    return clv_etcd_integer(kv, "mod_revision", &out->revision, err);
}

/* out->revision is 0 where the store has no such state. */
static clv_status read_meta(clv_etcd *etcd, const char *name, meta *out, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    const json_t *kv;
    *out = (meta){.revision = 0};
    CLV_TRY(clv_etcd_range_one(etcd, STATE, name, 0, &answer, &kv, err));
    CLV_TRY(clv_etcd_integer(json_object_get(answer, "header"), "revision", &out->read_at, err));
    if (kv == NULL || parse_meta(kv, out, err) == CLV_OK)
        return CLV_OK;
    if (err != NULL)
        err->code = CLV_STORE_FAILED;
    return clv_blame(err, CLV_STORE_FAILED, "etcd: state %.128s is damaged", name);
}

static void chunk_name(char out[CHUNK_NAME], const char *id, int64_t i)
{
    snprintf(out, CHUNK_NAME, "%s/%04d", id, (int)i);
}

/* -- writing ---------------------------------------------------------------------------------- */

typedef struct writing {
    clv_etcd *etcd;
    const char *name;
    meta before, after;
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
        char name[CHUNK_NAME];
        clv_bytes piece;
        json_t *put;
        chunk_name(name, w->after.id, i);
        CLV_TRY(clv_cursor_take(&c, c.rest.n < CHUNK ? c.rest.n : CHUNK, &piece, err));
        CLV_TRY(clv_etcd_put_object(w->etcd, CHUNK_KEY, name, piece, &put, err));
        clv_etcd_set_integer(put, "lease", lease);
        CLV_TRY(clv_etcd_call(w->etcd, "kv/put", put, &answer, NULL, err));
        CLV_TRY(clv_etcd_key_object(w->etcd, CHUNK_KEY, name, false, &put, err));
        json_object_set_new(put, "ignore_value", json_true());
        CLV_TRY(clv_etcd_add_operation(w->operations, "request_put", put, err));
    }
    return CLV_OK;
}

static clv_status add_bytes(writing *w, clv_error *err)
{
    char name[CHUNK_NAME];
    json_t *put;
    if (w->blob.n > CHUNK)
        return write_ahead(w, err);
    chunk_name(name, w->after.id, 0);
    CLV_TRY(clv_etcd_put_object(w->etcd, CHUNK_KEY, name, w->blob, &put, err));
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
    CLV_TRY(clv_etcd_put_object(w->etcd, STATE, w->name, clv_buf_bytes(&text), &put, err));
    return clv_etcd_add_operation(w->operations, "request_put", put, err);
}

static clv_status add_removal(writing *w, clv_error *err)
{
    json_t *range;
    char folder[CHUNK_NAME];
    if (w->before.revision == 0)
        return CLV_OK;
    snprintf(folder, sizeof folder, "%s/", w->before.id);
    CLV_TRY(clv_etcd_key_object(w->etcd, CHUNK_KEY, folder, true, &range, err));
    return clv_etcd_add_operation(w->operations, "request_delete_range", range, err);
}

static clv_status conflict(const char *name, int64_t expected, int64_t found, clv_error *err)
{
    return clv_fail(err, CLV_STATE_CONFLICT, "%.128s: expected generation %lld, found %lld", name,
                    (long long)expected, (long long)found);
}

/* Somebody's transaction came first, or ours did and its answer was lost: the id tells. */
static clv_status judge(writing *w, clv_error *err)
{
    meta now;
    CLV_TRY(read_meta(w->etcd, w->name, &now, err));
    if (now.revision != 0 && strcmp(now.id, w->after.id) == 0)
        return CLV_OK;
    return conflict(w->name, w->after.generation - 1, now.generation, err);
}

static clv_status etcd_put(void *self, const char *name, int64_t generation, clv_bytes blob,
                           clv_error *err)
{
    clv_auto(writing) w = {.etcd = self, .name = name, .blob = blob, .operations = json_array()};
    bool done = false, uncertain = false;
    if (blob.n > CHUNK * CHUNKS_MAX)
        return clv_fail(err, CLV_TOO_LARGE, "%.128s: expected at most %zu bytes, found %zu", name,
                        CHUNK * CHUNKS_MAX, blob.n);
    CLV_TRY(read_meta(self, name, &w.before, err));
    if (w.before.generation != generation - 1)
        return conflict(name, generation - 1, w.before.generation, err);
    w.after.generation = generation;
    w.after.chunks = blob.n > CHUNK ? (int64_t)((blob.n + CHUNK - 1) / CHUNK) : 1;
    clv_operation_id(w.after.id);
    CLV_TRY(add_bytes(&w, err));
    CLV_TRY(add_meta(&w, err));
    CLV_TRY(add_removal(&w, err));
    CLV_TRY(clv_etcd_commit(self, STATE, name, w.before.revision, w.operations, &done, &uncertain,
                            err));
    return done ? CLV_OK : judge(&w, err);
}

static clv_status etcd_remove(void *self, const char *name, int64_t generation, clv_error *err)
{
    clv_auto(writing) w = {.etcd = self, .name = name, .operations = json_array()};
    bool done = false, uncertain = false;
    json_t *key;
    CLV_TRY(read_meta(self, name, &w.before, err));
    if (w.before.revision == 0)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    if (w.before.generation != generation)
        return conflict(name, generation, w.before.generation, err);
    CLV_TRY(clv_etcd_key_object(self, STATE, name, false, &key, err));
    CLV_TRY(clv_etcd_add_operation(w.operations, "request_delete_range", key, err));
    CLV_TRY(add_removal(&w, err));
    CLV_TRY(clv_etcd_commit(self, STATE, name, w.before.revision, w.operations, &done, &uncertain,
                            err));
    if (done)
        return CLV_OK;
    meta now;
    CLV_TRY(read_meta(self, name, &now, err));
    if (now.revision == 0 && uncertain)
        return CLV_OK;
    return conflict(name, generation, now.generation, err);
}

/* -- reading ---------------------------------------------------------------------------------- */

/* CLV_STATE_CONFLICT: the chunks are gone, because another put came between. */
static clv_status read_chunks(clv_etcd *etcd, const meta *m, clv_buf *out, clv_error *err)
{
    size_t before = out->n;
    for (int64_t i = 0; i < m->chunks; i++) {
        clv_auto(clv_json) answer = NULL;
        const json_t *kv;
        char name[CHUNK_NAME];
        chunk_name(name, m->id, i);
        CLV_TRY(clv_etcd_range_one(etcd, CHUNK_KEY, name, m->read_at, &answer, &kv, err));
        if (kv == NULL)
            return clv_fail(err, CLV_STATE_CONFLICT, "etcd: a chunk is not there any more");
        CLV_TRY(clv_etcd_value(kv, out, err));
    }
    if (out->n - before != (size_t)m->size)
        return clv_fail(err, CLV_STORE_FAILED, "etcd: expected %lld bytes, found %zu",
                        (long long)m->size, out->n - before);
    return CLV_OK;
}

static clv_status etcd_get(void *self, const char *name, int64_t *generation, clv_buf *blob,
                           clv_error *err)
{
    clv_status status = CLV_STATE_CONFLICT;
    size_t before = blob->n;
    for (int i = 0; i < GET_TRIES && status == CLV_STATE_CONFLICT; i++) {
        meta m;
        blob->n = before;
        CLV_TRY(read_meta(self, name, &m, err));
        if (m.revision == 0)
            return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
        *generation = m.generation;
        status = read_chunks(self, &m, blob, err);
    }
    if (status != CLV_STATE_CONFLICT)
        return status;
    return clv_fail(err, CLV_STORE_FAILED, "etcd: state %.128s has no bytes", name);
}

/* The key of a pair, as bytes. */
static clv_status key_of(const json_t *kv, clv_buf *out, clv_error *err)
{
    const char *key = json_string_value(json_object_get(kv, "key"));
    if (key == NULL)
        return clv_fail(err, CLV_STORE_FAILED, "etcd: expected a key, found none");
    return clv_base64_decode(clv_bytes_of(key), out, err);
}

/* skip: bytes of a key before the state's name. */
static clv_status list_page(const json_t *kvs, size_t skip, json_t *out, clv_error *err)
{
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        const json_t *kv = json_array_get(kvs, i);
        clv_auto(clv_buf) key = CLV_BUF_INIT;
        const char *name;
        meta m;
        CLV_TRY(key_of(kv, &key, err));
        CLV_TRY(clv_buf_text(&key, &name, err));
        CLV_TRY(parse_meta(kv, &m, err));
        json_t *row = json_pack("{s:s, s:I, s:I}", "name", key.n >= skip ? name + skip : "",
                                "generation", (json_int_t)m.generation, "size", (json_int_t)m.size);
        if (row == NULL || json_array_append_new(out, row) != 0)
            return clv_etcd_no_memory(err);
    }
    return CLV_OK;
}

/* The next page begins right after the last key of this one: that key, and a NUL. */
static clv_status next_page(const json_t *kvs, clv_buf *from, clv_error *err)
{
    clv_auto(clv_buf) last = CLV_BUF_INIT;
    CLV_TRY(key_of(json_array_get(kvs, json_array_size(kvs) - 1), &last, err));
    CLV_TRY(clv_buf_u8(&last, 0, err));
    from->n = 0;
    return clv_base64_append(from, clv_buf_bytes(&last), err);
}

/* Pages of one revision: a list is of one instant. */
static clv_status list_all(clv_etcd *etcd, const char *prefix, json_t *out, clv_error *err)
{
    clv_auto(clv_buf) end = CLV_BUF_INIT, from = CLV_BUF_INIT;
    const char *end_text, *from_text;
    int64_t revision = 0;
    CLV_TRY(clv_etcd_key(etcd, STATE, prefix, &from, err));
    CLV_TRY(clv_etcd_key_end(etcd, STATE, prefix, &end, err));
    CLV_TRY(clv_buf_text(&end, &end_text, err));
    for (bool more = true; more;) {
        clv_auto(clv_json) answer = NULL;
        CLV_TRY(clv_buf_text(&from, &from_text, err));
        json_t *body =
            json_pack("{s:s, s:s, s:i}", "key", from_text, "range_end", end_text, "limit", PAGE);
        if (body != NULL && revision > 0)
            clv_etcd_set_integer(body, "revision", revision);
        CLV_TRY(clv_etcd_call(etcd, "kv/range", body, &answer, NULL, err));
        CLV_TRY(clv_etcd_integer(json_object_get(answer, "header"), "revision", &revision, err));
        const json_t *kvs = json_object_get(answer, "kvs");
        CLV_TRY(list_page(kvs, clv_etcd_prefix_length(etcd) + sizeof STATE - 1, out, err));
        more = json_is_true(json_object_get(answer, "more")) && json_array_size(kvs) > 0;
        if (more)
            CLV_TRY(next_page(kvs, &from, err));
    }
    return CLV_OK;
}

static clv_status etcd_list(void *self, const char *prefix, json_t **out, clv_error *err)
{
    clv_auto(clv_json) list = json_array();
    if (list == NULL)
        return clv_etcd_no_memory(err);
    CLV_TRY(list_all(self, prefix, list, err));
    *out = list;
    list = NULL;
    return CLV_OK;
}

static clv_status etcd_key_get(void *self, const char *name, clv_buf *blob, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    const json_t *kv;
    CLV_TRY(clv_etcd_range_one(self, KEY, name, 0, &answer, &kv, err));
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
    CLV_TRY(clv_etcd_put_object(self, KEY, name, blob, &put, err));
    CLV_TRY(clv_etcd_add_operation(w.operations, "request_put", put, err));
    CLV_TRY(clv_etcd_commit(self, KEY, name, 0, w.operations, &done, &uncertain, err));
    if (done)
        return CLV_OK;
    /* KMS makes no two blobs alike: the same bytes are those of the attempt that was not answered.
     */
    if (uncertain && etcd_key_get(self, name, &found, NULL) == CLV_OK &&
        clv_bytes_equal(clv_buf_bytes(&found), blob))
        return CLV_OK;
    return clv_fail(err, CLV_STATE_CONFLICT,
                    "key %.128s: expected none in the store, found one, which stays", name);
}

static clv_status etcd_open(const char *path, void **out, clv_error *err)
{
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
    .get = etcd_get,
    .put = etcd_put,
    .remove = etcd_remove,
    .list = etcd_list,
    .key_get = etcd_key_get,
    .key_put = etcd_key_put,
};

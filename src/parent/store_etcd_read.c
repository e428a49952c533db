/* The engine for fleets: reading and waiting. */
#include <parent/store_etcd.h>

#include <stdio.h>

#include <base/clock.h>

#define GET_TRIES 4

static clv_status parse(const json_t *kv, clv_etcd_meta *out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = NULL;
    clv_json_reader r;
    const char *id;
    int64_t size_max = (int64_t)(CLV_ETCD_CHUNK * CLV_ETCD_CHUNKS_MAX);
    CLV_TRY(clv_etcd_value(kv, &text, err));
    CLV_TRY(clv_json_parse(clv_buf_bytes(&text), 4096, &json, err));
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_integer(&r, "generation", 1, CLV_GENERATION_MAX, &out->generation, err));
    CLV_TRY(clv_json_need_integer(&r, "size", 0, size_max, &out->size, err));
    CLV_TRY(clv_json_need_integer(&r, "chunks", 1, CLV_ETCD_CHUNKS_MAX, &out->chunks, err));
    CLV_TRY(clv_json_need_text(&r, "id", &id, err));
    CLV_TRY(clv_json_done(&r, err));
    if (strlen(id) != sizeof out->id - 1 || strspn(id, "0123456789abcdef") != strlen(id))
        return clv_fail(err, CLV_JSON_VALUE, "id: expected 16 hex digits");
    memcpy(out->id, id, sizeof out->id);
    return clv_etcd_integer(kv, "mod_revision", &out->revision, err);
}

clv_status clv_etcd_parse_meta(const json_t *kv, const char *name, clv_etcd_meta *out,
                               clv_error *err)
{
    if (parse(kv, out, err) == CLV_OK)
        return CLV_OK;
    if (err != NULL)
        err->code = CLV_STORE_FAILED;
    return clv_blame(err, CLV_STORE_FAILED, "etcd: state %.128s is damaged", name);
}

clv_status clv_etcd_read_meta(clv_etcd *etcd, const char *name, clv_etcd_meta *out, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    const json_t *kv;
    *out = (clv_etcd_meta){.revision = 0};
    CLV_TRY(clv_etcd_range_one(etcd, CLV_ETCD_STATE, name, 0, &answer, &kv, err));
    CLV_TRY(clv_etcd_integer(json_object_get(answer, "header"), "revision", &out->read_at, err));
    return kv != NULL ? clv_etcd_parse_meta(kv, name, out, err) : CLV_OK;
}

void clv_etcd_chunk_name(char out[CLV_ETCD_CHUNK_NAME], const char *id, int64_t i)
{
    snprintf(out, CLV_ETCD_CHUNK_NAME, "%s/%04d", id, (int)i);
}

/* CLV_STATE_CONFLICT: that revision is not kept any more, so another put came between. */
static clv_status read_chunks(clv_etcd *etcd, const clv_etcd_meta *m, clv_buf *out, clv_error *err)
{
    size_t before = out->n;
    for (int64_t i = 0; i < m->chunks; i++) {
        clv_auto(clv_json) answer = NULL;
        const json_t *kv;
        char name[CLV_ETCD_CHUNK_NAME];
        clv_etcd_chunk_name(name, m->id, i);
        CLV_TRY(clv_etcd_range_one(etcd, CLV_ETCD_CHUNK_KEY, name, m->read_at, &answer, &kv, err));
        if (kv == NULL)
            return clv_fail(err, CLV_STORE_FAILED, "expected chunk %s, found none", name);
        CLV_TRY(clv_etcd_value(kv, out, err));
    }
    if (out->n - before != (size_t)m->size)
        return clv_fail(err, CLV_STORE_FAILED, "expected %lld bytes, found %zu", (long long)m->size,
                        out->n - before);
    return CLV_OK;
}

clv_status clv_etcd_store_get(void *self, const char *name, int64_t *generation, clv_buf *blob,
                              clv_error *err)
{
    clv_status status = CLV_STATE_CONFLICT;
    size_t before = blob->n;
    for (int i = 0; i < GET_TRIES && status == CLV_STATE_CONFLICT; i++) {
        clv_etcd_meta m;
        blob->n = before;
        CLV_TRY(clv_etcd_read_meta(self, name, &m, err));
        if (m.revision == 0)
            return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
        *generation = m.generation;
        status = read_chunks(self, &m, blob, err);
    }
    if (status == CLV_STORE_FAILED)
        return clv_blame(err, status, "etcd: state %.128s", name);
    if (status != CLV_STATE_CONFLICT)
        return status;
    return clv_fail(err, CLV_STORE_UNAVAILABLE,
                    "etcd: state %.128s is replaced and compacted faster than it can be read",
                    name);
}

clv_status clv_etcd_store_generation(void *self, const char *name, int64_t *out, clv_error *err)
{
    clv_etcd_meta m;
    CLV_TRY(clv_etcd_read_meta(self, name, &m, err));
    *out = m.generation;
    return CLV_OK;
}

/* What is found is read from the majority, whatever the watch said. */
clv_status clv_etcd_store_wait(void *self, const char *name, int64_t generation, int timeout_ms,
                               int64_t *found, clv_error *err)
{
    clv_etcd_meta m;
    uint64_t until = clv_monotonic_ms() + (uint64_t)timeout_ms;
    CLV_TRY(clv_etcd_read_meta(self, name, &m, err));
    uint64_t now = clv_monotonic_ms();
    if (m.generation == generation && now < until) {
        CLV_TRY(clv_etcd_watch(self, CLV_ETCD_STATE, name, m.read_at, (int)(until - now), err));
        CLV_TRY(clv_etcd_read_meta(self, name, &m, err));
    }
    *found = m.generation;
    return CLV_OK;
}

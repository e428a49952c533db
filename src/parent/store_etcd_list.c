/* The engine for fleets: what there is, and whether it holds together. */
#include <parent/store_etcd.h>

#include <stdio.h>

/* The key of a pair, as bytes. */
static clv_status key_of(const json_t *kv, clv_buf *out, clv_error *err)
{
    const char *key = json_string_value(json_object_get(kv, "key"));
    if (key == NULL)
        return clv_fail(err, CLV_STORE_FAILED, "etcd: expected a key, found none");
    return clv_base64_decode(clv_bytes_of(key), out, err);
}

/* The key's name, without the prefix and the folder in front; lives in *key. */
static clv_status name_of(const clv_etcd *etcd, const char *folder, const json_t *kv, clv_buf *key,
                          const char **name, clv_error *err)
{
    size_t skip = clv_etcd_prefix_length(etcd) + strlen(folder);
    CLV_TRY(key_of(kv, key, err));
    CLV_TRY(clv_buf_text(key, name, err));
    *name = key->n >= skip ? *name + skip : "";
    return CLV_OK;
}

/* Pairs of a folder. */
typedef struct page {
    const char *folder, *prefix;
    const char *after; /* "": from the first */
    size_t limit;
    int64_t revision; /* 0: now; then the one that was read */
    bool keys_only;
} page;

/* The first key after one: that key, and a NUL. */
static clv_status key_after(const clv_etcd *etcd, const page *p, clv_buf *out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT, key = CLV_BUF_INIT;
    CLV_TRY(clv_etcd_key(etcd, p->folder, p->after, &text, err));
    CLV_TRY(clv_base64_decode(clv_buf_bytes(&text), &key, err));
    CLV_TRY(clv_buf_u8(&key, 0, err));
    return clv_base64_append(out, clv_buf_bytes(&key), err);
}

static clv_status read_page(clv_etcd *etcd, page *p, json_t **answer, clv_error *err)
{
    clv_auto(clv_buf) from = CLV_BUF_INIT, end = CLV_BUF_INIT;
    const char *from_text, *end_text;
    if (strcmp(p->after, p->prefix) < 0)
        CLV_TRY(clv_etcd_key(etcd, p->folder, p->prefix, &from, err));
    else
        CLV_TRY(key_after(etcd, p, &from, err));
    CLV_TRY(clv_etcd_key_end(etcd, p->folder, p->prefix, &end, err));
    CLV_TRY(clv_buf_text(&from, &from_text, err));
    CLV_TRY(clv_buf_text(&end, &end_text, err));
    json_t *body = json_pack("{s:s, s:s, s:i, s:b}", "key", from_text, "range_end", end_text,
                             "limit", (int)p->limit, "keys_only", p->keys_only);
    if (body != NULL && p->revision > 0)
        clv_etcd_set_integer(body, "revision", p->revision);
    CLV_TRY(clv_etcd_call(etcd, "kv/range", body, answer, NULL, err));
    return clv_etcd_integer(json_object_get(*answer, "header"), "revision", &p->revision, err);
}

static clv_status add_row(json_t *out, json_t *row, clv_error *err)
{
    if (row == NULL || json_array_append_new(out, row) != 0)
        return clv_etcd_no_memory(err);
    return CLV_OK;
}

clv_status clv_etcd_store_list(void *self, const char *prefix, const char *after, size_t limit,
                               json_t *out, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    page p = {.folder = CLV_ETCD_STATE, .prefix = prefix, .after = after, .limit = limit};
    CLV_TRY(read_page(self, &p, &answer, err));
    const json_t *kvs = json_object_get(answer, "kvs");
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        clv_auto(clv_buf) key = CLV_BUF_INIT;
        const char *name;
        clv_etcd_meta m;
        CLV_TRY(name_of(self, p.folder, json_array_get(kvs, i), &key, &name, err));
        CLV_TRY(clv_etcd_parse_meta(json_array_get(kvs, i), name, &m, err));
        CLV_TRY(add_row(out,
                        json_pack("{s:s, s:I, s:I}", "name", name, "generation",
                                  (json_int_t)m.generation, "size", (json_int_t)m.size),
                        err));
    }
    return CLV_OK;
}

clv_status clv_etcd_store_key_list(void *self, const char *after, size_t limit, json_t *out,
                                   clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    page p = {.folder = CLV_ETCD_KEY, .prefix = "", .after = after, .limit = limit};
    CLV_TRY(read_page(self, &p, &answer, err));
    const json_t *kvs = json_object_get(answer, "kvs");
    for (size_t i = 0; i < json_array_size(kvs); i++) {
        clv_auto(clv_buf) key = CLV_BUF_INIT, value = CLV_BUF_INIT;
        const char *name;
        CLV_TRY(name_of(self, p.folder, json_array_get(kvs, i), &key, &name, err));
        CLV_TRY(clv_etcd_value(json_array_get(kvs, i), &value, err));
        CLV_TRY(
            add_row(out, json_pack("{s:s, s:I}", "name", name, "size", (json_int_t)value.n), err));
    }
    return CLV_OK;
}

/* -- whether it holds together ---------------------------------------------------------------- */

typedef struct checking {
    clv_etcd *etcd;
    clv_store_report report;
    void *with;
    json_t *chunks; /* by id: how many a state says it has, less those that were found */
} checking;

static void checking_drop(checking *c)
{
    clv_json_drop(&c->chunks);
}

__attribute__((format(printf, 2, 3))) static void say(checking *c, const char *format, ...)
{
    char fault[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault, sizeof fault, format, arguments);
    va_end(arguments);
    c->report(c->with, fault);
}

static clv_status look_at_state(checking *c, const json_t *kv, const char *name, clv_error *err)
{
    clv_etcd_meta m;
    clv_error fault = {.code = CLV_OK};
    if (clv_etcd_parse_meta(kv, name, &m, &fault) != CLV_OK) {
        say(c, "%s", fault.text);
        return CLV_OK;
    }
    if (json_object_get(kv, "lease") != NULL)
        say(c, "etcd: state %.128s is under a lease and will vanish", name);
    int64_t need =
        m.size == 0 ? 1 : (m.size + (int64_t)CLV_ETCD_CHUNK - 1) / (int64_t)CLV_ETCD_CHUNK;
    if (m.chunks != need)
        say(c, "etcd: state %.128s: expected %lld chunks, found %lld", name, (long long)need,
            (long long)m.chunks);
    json_t *entry = json_pack("{s:s, s:I}", "name", name, "missing", (json_int_t)m.chunks);
    if (entry == NULL || json_object_set_new(c->chunks, m.id, entry) != 0)
        return clv_etcd_no_memory(err);
    return CLV_OK;
}

/* Chunks of a put that is on its way, or died on it, are under a lease and do not count. */
static clv_status look_at_chunk(checking *c, const json_t *kv, const char *name, clv_error *err)
{
    char id[CLV_OPERATION_ID_SIZE];
    snprintf(id, sizeof id, "%s", name);
    json_t *entry = json_object_get(c->chunks, id);
    bool leased = json_object_get(kv, "lease") != NULL;
    (void)err;
    if (entry == NULL && !leased)
        say(c, "etcd: chunk %.40s belongs to no state", name);
    if (entry == NULL)
        return CLV_OK;
    if (leased)
        say(c, "etcd: chunk %.40s of state %.128s is under a lease and will vanish", name,
            json_string_value(json_object_get(entry, "name")));
    json_int_t missing = json_integer_value(json_object_get(entry, "missing"));
    json_object_set_new(entry, "missing", json_integer(missing - 1));
    return CLV_OK;
}

/* Every pair of a folder at one revision. */
static clv_status look_at_all(checking *c, page *p,
                              clv_status (*look)(checking *c, const json_t *kv, const char *name,
                                                 clv_error *err),
                              clv_error *err)
{
    clv_auto(clv_buf) after = CLV_BUF_INIT;
    for (;;) {
        clv_auto(clv_json) answer = NULL;
        const char *last = "";
        clv_auto(clv_buf) key = CLV_BUF_INIT;
        CLV_TRY(read_page(c->etcd, p, &answer, err));
        const json_t *kvs = json_object_get(answer, "kvs");
        for (size_t i = 0; i < json_array_size(kvs); i++) {
            key.n = 0;
            CLV_TRY(name_of(c->etcd, p->folder, json_array_get(kvs, i), &key, &last, err));
            CLV_TRY(look(c, json_array_get(kvs, i), last, err));
        }
        if (json_array_size(kvs) < p->limit)
            return CLV_OK;
        after.n = 0;
        CLV_TRY(clv_buf_append_text(&after, last, err));
        CLV_TRY(clv_buf_text(&after, &p->after, err));
    }
}

clv_status clv_etcd_store_check(void *self, clv_store_report report, void *with, clv_error *err)
{
    clv_auto(checking) c = {self, report, with, json_object()};
    page states = {
        .folder = CLV_ETCD_STATE, .prefix = "", .after = "", .limit = CLV_STORE_PAGE_MAX};
    const char *id;
    json_t *entry;
    if (c.chunks == NULL)
        return clv_etcd_no_memory(err);
    CLV_TRY(look_at_all(&c, &states, look_at_state, err));
    page chunks = {.folder = CLV_ETCD_CHUNK_KEY,
                   .prefix = "",
                   .after = "",
                   .limit = CLV_STORE_PAGE_MAX,
                   .revision = states.revision,
                   .keys_only = true};
    CLV_TRY(look_at_all(&c, &chunks, look_at_chunk, err));
    json_object_foreach(c.chunks, id, entry)
    {
        json_int_t missing = json_integer_value(json_object_get(entry, "missing"));
        if (missing != 0)
            say(&c, "etcd: state %.128s: %lld chunks too %s",
                json_string_value(json_object_get(entry, "name")),
                (long long)(missing > 0 ? missing : -missing), missing > 0 ? "few" : "many");
    }
    return CLV_OK;
}

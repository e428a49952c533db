#include <parent/store.h>

#include <stdatomic.h>
#include <stdlib.h>

#include <parent/store_engine.h>

struct clv_store {
    const clv_store_engine *engine;
    void *self;
    atomic_int waiting;
};

static const clv_store_engine *const engine_table[] = {&clv_store_sqlite, &clv_store_etcd};

static clv_status open_store(const char *address, bool make, clv_store **out, clv_error *err)
{
    size_t n = strcspn(address, ":");
    const clv_store_engine *engine = NULL;
    for (size_t i = 0; i < sizeof engine_table / sizeof engine_table[0]; i++) {
        if (strlen(engine_table[i]->name) == n && strncmp(engine_table[i]->name, address, n) == 0)
            engine = engine_table[i];
    }
    if (engine == NULL || address[n] == '\0' || address[n + 1] == '\0')
        return clv_fail(err, CLV_USAGE,
                        "expected a store sqlite:FILE or etcd:CONFIG.json, found \"%.80s\"",
                        address);
    clv_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a store");
    store->engine = engine;
    clv_status status = engine->open(address + n + 1, make, &store->self, err);
    if (status != CLV_OK) {
        free(store);
        return status;
    }
    *out = store;
    return CLV_OK;
}

clv_status clv_store_open(const char *address, clv_store **out, clv_error *err)
{
    return open_store(address, true, out, err);
}

clv_status clv_store_open_existing(const char *address, clv_store **out, clv_error *err)
{
    return open_store(address, false, out, err);
}

void clv_store_free(clv_store **store)
{
    if (*store == NULL)
        return;
    (*store)->engine->close((*store)->self);
    free(*store);
    *store = NULL;
}

const char *clv_store_engine_name(const clv_store *store)
{
    return store->engine->name;
}

clv_status clv_store_get(clv_store *store, const char *name, int64_t *generation, clv_buf *blob,
                         clv_error *err)
{
    return store->engine->get(store->self, name, generation, blob, err);
}

clv_status clv_store_generation(clv_store *store, const char *name, int64_t *out, clv_error *err)
{
    return store->engine->generation(store->self, name, out, err);
}

clv_status clv_store_put(clv_store *store, const char *name, int64_t generation, clv_bytes blob,
                         clv_error *err)
{
    return clv_store_replace(store, name, generation - 1, generation, blob, err);
}

clv_status clv_store_replace(clv_store *store, const char *name, int64_t before, int64_t generation,
                             clv_bytes blob, clv_error *err)
{
    if (before < 0 || generation <= before)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "%.128s: expected a generation after %lld, found %lld", name,
                        (long long)before, (long long)generation);
    return store->engine->put(store->self, name, before, generation, blob, err);
}

clv_status clv_store_delete(clv_store *store, const char *name, int64_t generation, clv_error *err)
{
    return store->engine->remove(store->self, name, generation, err);
}

clv_status clv_store_list(clv_store *store, const char *prefix, const char *after, size_t limit,
                          json_t **out, clv_error *err)
{
    clv_auto(clv_json) list = json_array();
    if (list == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a list");
    CLV_TRY(store->engine->list(store->self, prefix, after, limit, list, err));
    *out = json_incref(list);
    return CLV_OK;
}

clv_status clv_store_wait(clv_store *store, const char *name, int64_t generation, int timeout_ms,
                          int64_t *found, clv_error *err)
{
    clv_status status;
    if (atomic_fetch_add(&store->waiting, 1) < CLV_STORE_WAITING_MAX)
        status = store->engine->wait(store->self, name, generation, timeout_ms, found, err);
    else
        status = clv_fail(err, CLV_STORE_BUSY, "expected at most %d calls that wait, found more",
                          CLV_STORE_WAITING_MAX);
    atomic_fetch_sub(&store->waiting, 1);
    return status;
}

clv_status clv_store_key_get(clv_store *store, const char *name, clv_buf *blob, clv_error *err)
{
    return store->engine->key_get(store->self, name, blob, err);
}

clv_status clv_store_key_put(clv_store *store, const char *name, clv_bytes blob, clv_error *err)
{
    return store->engine->key_put(store->self, name, blob, err);
}

clv_status clv_store_key_list(clv_store *store, const char *after, size_t limit, json_t **out,
                              clv_error *err)
{
    clv_auto(clv_json) list = json_array();
    if (list == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a list");
    CLV_TRY(store->engine->key_list(store->self, after, limit, list, err));
    *out = json_incref(list);
    return CLV_OK;
}

clv_status clv_store_check(clv_store *store, clv_store_report report, void *with, clv_error *err)
{
    return store->engine->check(store->self, report, with, err);
}

#include <parent/store.h>

#include <stdlib.h>

#include <parent/store_engine.h>

struct clv_store {
    const clv_store_engine *engine;
    void *self;
};

static const clv_store_engine *const engine_table[] = {&clv_store_sqlite, &clv_store_etcd};

clv_status clv_store_open(const char *address, clv_store **out, clv_error *err)
{
    size_t n = strcspn(address, ":");
    const clv_store_engine *engine = NULL;
    for (size_t i = 0; i < sizeof engine_table / sizeof engine_table[0]; i++) {
        if (strlen(engine_table[i]->name) == n && strncmp(engine_table[i]->name, address, n) == 0)
            engine = engine_table[i];
    }
    if (engine == NULL || address[n] == '\0' || address[n + 1] == '\0')
        return clv_fail(err, CLV_USAGE,
                        "--store: expected sqlite:FILE or etcd:CONFIG.json, found \"%.80s\"",
                        address);
    clv_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a store");
    store->engine = engine;
    clv_status status = engine->open(address + n + 1, &store->self, err);
    if (status != CLV_OK) {
        free(store);
        return status;
    }
    *out = store;
    return CLV_OK;
}

void clv_store_free(clv_store **store)
{
    if (*store == NULL)
        return;
    (*store)->engine->close((*store)->self);
    free(*store);
    *store = NULL;
}

clv_status clv_store_get(clv_store *store, const char *name, int64_t *generation, clv_buf *blob,
                         clv_error *err)
{
    return store->engine->get(store->self, name, generation, blob, err);
}

clv_status clv_store_put(clv_store *store, const char *name, int64_t generation, clv_bytes blob,
                         clv_error *err)
{
    return store->engine->put(store->self, name, generation, blob, err);
}

clv_status clv_store_delete(clv_store *store, const char *name, int64_t generation, clv_error *err)
{
    return store->engine->remove(store->self, name, generation, err);
}

clv_status clv_store_list(clv_store *store, const char *prefix, json_t **out, clv_error *err)
{
    return store->engine->list(store->self, prefix, out, err);
}

clv_status clv_store_key_get(clv_store *store, const char *name, clv_buf *blob, clv_error *err)
{
    return store->engine->key_get(store->self, name, blob, err);
}

clv_status clv_store_key_put(clv_store *store, const char *name, clv_bytes blob, clv_error *err)
{
    return store->engine->key_put(store->self, name, blob, err);
}

/* What an engine of the store is: the functions of store.h over its own handle. */
#ifndef CLV_PARENT_STORE_ENGINE_H
#define CLV_PARENT_STORE_ENGINE_H

#include <parent/store.h>

typedef struct clv_store_engine {
    const char *name; /* before the colon of the address */
    clv_status (*open)(const char *rest, bool make, void **self, clv_error *err);
    void (*close)(void *self);
    clv_status (*get)(void *self, const char *name, int64_t *generation, clv_buf *blob,
                      clv_error *err);
    clv_status (*generation)(void *self, const char *name, int64_t *out, clv_error *err);
    clv_status (*put)(void *self, const char *name, int64_t before, int64_t generation,
                      clv_bytes blob, clv_error *err);
    clv_status (*remove)(void *self, const char *name, int64_t generation, clv_error *err);
    clv_status (*list)(void *self, const char *prefix, const char *after, size_t limit, json_t *out,
                       clv_error *err);
    clv_status (*wait)(void *self, const char *name, int64_t generation, int timeout_ms,
                       int64_t *found, clv_error *err);
    clv_status (*key_get)(void *self, const char *name, clv_buf *blob, clv_error *err);
    clv_status (*key_put)(void *self, const char *name, clv_bytes blob, clv_error *err);
    clv_status (*key_list)(void *self, const char *after, size_t limit, json_t *out,
                           clv_error *err);
    clv_status (*check)(void *self, clv_store_report report, void *with, clv_error *err);
} clv_store_engine;

extern const clv_store_engine clv_store_sqlite, clv_store_etcd;

#endif

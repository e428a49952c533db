/* The embedded engine: one file, in WAL mode with full synchronisation. */
#include <parent/store_sqlite.h>

#include <stdio.h>

#include <base/clock.h>

/* How soon a waiting call sees what another process wrote. */
#define LOOK_MS 250

static void bind(statement s, int at, clv_bytes bytes)
{
    sqlite3_bind_blob64(s, at, bytes.n > 0 ? (const void *)bytes.p : "", bytes.n, SQLITE_STATIC);
}

/* A read of one row: its blob, and the number in column 1 where generation is asked for. */
static clv_status read_row(sqlite_store *store, const char *sql, const char *name,
                           int64_t *generation, clv_buf *blob, clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(clv_sqlite_prepare(store, sql, &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    int step = sqlite3_step(s);
    if (step == SQLITE_DONE)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    if (step != SQLITE_ROW)
        return clv_sqlite_failed(store, "the store cannot be read", err);
    if (generation != NULL)
        *generation = sqlite3_column_int64(s, 1);
    const void *p = sqlite3_column_blob(s, 0);
    return clv_buf_append(blob, CLV_BYTES(p, (size_t)sqlite3_column_bytes(s, 0)), err);
}

/* 0: there is no such state. */
static clv_status generation_locked(sqlite_store *store, const char *name, int64_t *out,
                                    clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(clv_sqlite_prepare(store, "SELECT generation FROM state WHERE name = ?1", &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    int step = sqlite3_step(s);
    *out = step == SQLITE_ROW ? sqlite3_column_int64(s, 0) : 0;
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        return clv_sqlite_failed(store, "the store cannot be read", err);
    return CLV_OK;
}

/* A write of one statement, which is its own transaction: the rows it changed. */
static clv_status write_row(sqlite_store *store, statement s, int *changed, clv_error *err)
{
    int step = sqlite3_step(s);
    if (step == SQLITE_CONSTRAINT) {
        *changed = 0;
        return CLV_OK;
    }
    if (step != SQLITE_DONE)
        return clv_sqlite_failed(store, "the store cannot be written", err);
    *changed = sqlite3_changes(store->db);
    return CLV_OK;
}

static clv_status conflict(sqlite_store *store, const char *name, int64_t expected, clv_error *err)
{
    int64_t found = 0;
    CLV_TRY(generation_locked(store, name, &found, err));
    return clv_fail(err, CLV_STATE_CONFLICT, "%.128s: expected generation %lld, found %lld", name,
                    (long long)expected, (long long)found);
}

static clv_status put_locked(sqlite_store *store, const char *name, int64_t before,
                             int64_t generation, clv_bytes blob, clv_error *err)
{
    clv_auto(statement) s = NULL;
    int changed;
    CLV_TRY(clv_sqlite_prepare(
        store,
        before == 0 ? "INSERT INTO state (name, generation, blob) VALUES (?1, ?2, ?3)"
                    : "UPDATE state SET generation = ?2, blob = ?3 WHERE name = ?1 AND "
                      "generation = ?4",
        &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, generation);
    bind(s, 3, blob);
    if (before != 0)
        sqlite3_bind_int64(s, 4, before);
    CLV_TRY(write_row(store, s, &changed, err));
    if (changed != 1)
        return conflict(store, name, before, err);
    pthread_cond_broadcast(&store->changed);
    return CLV_OK;
}

static clv_status delete_locked(sqlite_store *store, const char *name, int64_t generation,
                                clv_error *err)
{
    clv_auto(statement) s = NULL;
    int64_t found;
    int changed;
    CLV_TRY(clv_sqlite_prepare(store, "DELETE FROM state WHERE name = ?1 AND generation = ?2", &s,
                               err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, generation);
    CLV_TRY(write_row(store, s, &changed, err));
    if (changed == 1) {
        pthread_cond_broadcast(&store->changed);
        return CLV_OK;
    }
    CLV_TRY(generation_locked(store, name, &found, err));
    if (found == 0)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    return conflict(store, name, generation, err);
}

/* Rows of a name, a size and, where there is a third column, a generation. */
static clv_status list_rows(sqlite_store *store, statement s, json_t *out, clv_error *err)
{
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        json_t *row = json_pack("{s:s, s:I}", "name", sqlite3_column_text(s, 0), "size",
                                (json_int_t)sqlite3_column_int64(s, 1));
        if (row != NULL && sqlite3_column_count(s) > 2)
            json_object_set_new(row, "generation", json_integer(sqlite3_column_int64(s, 2)));
        if (row == NULL || json_array_append_new(out, row) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a list");
    }
    if (step != SQLITE_DONE)
        return clv_sqlite_failed(store, "the store cannot be read", err);
    return CLV_OK;
}

static clv_status list_locked(sqlite_store *store, const char *prefix, const char *after,
                              size_t limit, json_t *out, clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(clv_sqlite_prepare(
        store,
        "SELECT name, length(blob), generation FROM state WHERE name > ?2 AND name >= ?1 "
        "AND substr(name, 1, length(?1)) = ?1 ORDER BY name LIMIT ?3",
        &s, err));
    sqlite3_bind_text(s, 1, prefix, -1, SQLITE_STATIC);
    sqlite3_bind_text(s, 2, after, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 3, (int64_t)limit);
    return list_rows(store, s, out, err);
}

static clv_status key_list_locked(sqlite_store *store, const char *after, size_t limit, json_t *out,
                                  clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(clv_sqlite_prepare(
        store, "SELECT name, length(blob) FROM key WHERE name > ?1 ORDER BY name LIMIT ?2", &s,
        err));
    sqlite3_bind_text(s, 1, after, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, (int64_t)limit);
    return list_rows(store, s, out, err);
}

static clv_status key_put_locked(sqlite_store *store, const char *name, clv_bytes blob,
                                 clv_error *err)
{
    clv_auto(statement) s = NULL;
    int changed;
    CLV_TRY(clv_sqlite_prepare(store, "INSERT INTO key (name, blob) VALUES (?1, ?2)", &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    bind(s, 2, blob);
    CLV_TRY(write_row(store, s, &changed, err));
    if (changed != 1)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "key %.128s: expected none in the store, found one, which stays", name);
    return CLV_OK;
}

/* Woken by this process's own writes; those of others are looked for. */
static clv_status wait_locked(sqlite_store *store, const char *name, int64_t generation,
                              int timeout_ms, int64_t *found, clv_error *err)
{
    uint64_t until = clv_monotonic_ms() + (uint64_t)timeout_ms;
    for (;;) {
        CLV_TRY(generation_locked(store, name, found, err));
        uint64_t now = clv_monotonic_ms();
        if (*found != generation || now >= until)
            return CLV_OK;
        uint64_t ms = until - now < LOOK_MS ? until - now : LOOK_MS;
        struct timespec at;
        clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_nsec += (long)ms * 1000000;
        at.tv_sec += at.tv_nsec / 1000000000;
        at.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&store->changed, &store->lock, &at);
    }
}

static clv_status check_locked(sqlite_store *store, clv_store_report report, void *with,
                               clv_error *err)
{
    clv_auto(statement) s = NULL;
    char fault[256];
    int step;
    CLV_TRY(clv_sqlite_prepare(store, "PRAGMA integrity_check", &s, err));
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        if (text == NULL || strcmp(text, "ok") == 0)
            continue;
        snprintf(fault, sizeof fault, "the file is damaged: %s", text);
        report(with, fault);
    }
    if (step != SQLITE_DONE)
        return clv_sqlite_failed(store, "the store cannot be read", err);
    return CLV_OK;
}

/* The engine's functions: the same, with the connection's lock held. */
#define WITH_LOCK(call)                 \
    sqlite_store *store = self;         \
    pthread_mutex_lock(&store->lock);   \
    clv_status status = (call);         \
    pthread_mutex_unlock(&store->lock); \
    return status

static clv_status engine_get(void *self, const char *name, int64_t *generation, clv_buf *blob,
                             clv_error *err)
{
    WITH_LOCK(read_row(store, "SELECT blob, generation FROM state WHERE name = ?1", name,
                       generation, blob, err));
}

static clv_status engine_generation(void *self, const char *name, int64_t *out, clv_error *err)
{
    WITH_LOCK(generation_locked(store, name, out, err));
}

static clv_status engine_put(void *self, const char *name, int64_t before, int64_t generation,
                             clv_bytes blob, clv_error *err)
{
    WITH_LOCK(put_locked(store, name, before, generation, blob, err));
}

static clv_status engine_delete(void *self, const char *name, int64_t generation, clv_error *err)
{
    WITH_LOCK(delete_locked(store, name, generation, err));
}

static clv_status engine_list(void *self, const char *prefix, const char *after, size_t limit,
                              json_t *out, clv_error *err)
{
    WITH_LOCK(list_locked(store, prefix, after, limit, out, err));
}

static clv_status engine_wait(void *self, const char *name, int64_t generation, int timeout_ms,
                              int64_t *found, clv_error *err)
{
    WITH_LOCK(wait_locked(store, name, generation, timeout_ms, found, err));
}

static clv_status engine_key_get(void *self, const char *name, clv_buf *blob, clv_error *err)
{
    WITH_LOCK(read_row(store, "SELECT blob FROM key WHERE name = ?1", name, NULL, blob, err));
}

static clv_status engine_key_put(void *self, const char *name, clv_bytes blob, clv_error *err)
{
    WITH_LOCK(key_put_locked(store, name, blob, err));
}

static clv_status engine_key_list(void *self, const char *after, size_t limit, json_t *out,
                                  clv_error *err)
{
    WITH_LOCK(key_list_locked(store, after, limit, out, err));
}

static clv_status engine_check(void *self, clv_store_report report, void *with, clv_error *err)
{
    WITH_LOCK(check_locked(store, report, with, err));
}

const clv_store_engine clv_store_sqlite = {
    .name = "sqlite",
    .open = clv_sqlite_open,
    .close = clv_sqlite_close,
    .get = engine_get,
    .generation = engine_generation,
    .put = engine_put,
    .remove = engine_delete,
    .list = engine_list,
    .wait = engine_wait,
    .key_get = engine_key_get,
    .key_put = engine_key_put,
    .key_list = engine_key_list,
    .check = engine_check,
};

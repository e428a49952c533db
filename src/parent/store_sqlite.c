/* The embedded engine: one file, in WAL mode with full synchronisation. */
#include <parent/store_engine.h>

#include <pthread.h>
#include <stdlib.h>

#include <sqlite3.h>

/* "CLVS": a database of another program is not touched. */
#define APPLICATION_ID 0x434c5653
#define SCHEMA_VERSION 1
#define BUSY_MS        10000

typedef struct sqlite_store {
    sqlite3 *db;
    pthread_mutex_t lock; /* one statement at a time on the connection */
} sqlite_store;

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE state (name TEXT PRIMARY KEY, generation INTEGER NOT NULL CHECK (generation > 0),"
    "                    blob BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE key (name TEXT PRIMARY KEY, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "PRAGMA application_id = 1129076307;"
    "PRAGMA user_version = 1;"
    "COMMIT;";
_Static_assert(APPLICATION_ID == 1129076307 && SCHEMA_VERSION == 1, "the schema says the same");

static clv_status store_failed(sqlite_store *store, const char *what, clv_error *err)
{
    return clv_fail(err, CLV_STORE_FAILED, "%s: %s", what, sqlite3_errmsg(store->db));
}

typedef sqlite3_stmt *statement;
static void statement_drop(statement *s)
{
    sqlite3_finalize(*s);
}

static clv_status prepare(sqlite_store *store, const char *sql, statement *out, clv_error *err)
{
    if (sqlite3_prepare_v2(store->db, sql, -1, out, NULL) != SQLITE_OK)
        return store_failed(store, "a statement cannot be prepared", err);
    return CLV_OK;
}

static clv_status pragma(sqlite_store *store, const char *sql, int64_t *out, clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(prepare(store, sql, &s, err));
    if (sqlite3_step(s) != SQLITE_ROW)
        return store_failed(store, "the store cannot be read", err);
    *out = sqlite3_column_int64(s, 0);
    return CLV_OK;
}

static clv_status execute(sqlite_store *store, const char *sql, clv_error *err)
{
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return store_failed(store, "the store cannot be prepared", err);
    return CLV_OK;
}

static clv_status check_schema(sqlite_store *store, const char *path, clv_error *err)
{
    int64_t application = 0, version = 0, tables = 0;
    CLV_TRY(pragma(store, "PRAGMA application_id", &application, err));
    CLV_TRY(pragma(store, "PRAGMA user_version", &version, err));
    CLV_TRY(pragma(store, "SELECT count(*) FROM sqlite_schema", &tables, err));
    if (application == 0 && version == 0 && tables == 0)
        return execute(store, schema, err);
    if (application != APPLICATION_ID || version != SCHEMA_VERSION)
        return clv_fail(err, CLV_STORE_FAILED,
                        "%s: expected a store of version %d, found another database", path,
                        SCHEMA_VERSION);
    return CLV_OK;
}

/* Acknowledged means durable: the log is synced at each commit. */
static clv_status configure(sqlite_store *store, clv_error *err)
{
    sqlite3_busy_timeout(store->db, BUSY_MS);
    CLV_TRY(execute(store, "PRAGMA journal_mode = WAL", err));
    return execute(store, "PRAGMA synchronous = FULL", err);
}

static void sqlite_store_free(sqlite_store **store)
{
    if (*store == NULL)
        return;
    sqlite3_close((*store)->db);
    pthread_mutex_destroy(&(*store)->lock);
    free(*store);
    *store = NULL;
}

static clv_status open_file(const char *path, void **out, clv_error *err)
{
    clv_auto_ptr(sqlite_store) store = calloc(1, sizeof *store);
    if (store == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a store");
    pthread_mutex_init(&store->lock, NULL);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &store->db, flags, NULL) != SQLITE_OK)
        return clv_fail(err, CLV_STORE_FAILED, "%s cannot be opened: %s", path,
                        sqlite3_errmsg(store->db));
    clv_status status = configure(store, err);
    if (status == CLV_OK)
        status = check_schema(store, path, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s", path);
    *out = store;
    store = NULL;
    return CLV_OK;
}

static void close_file(void *self)
{
    sqlite_store *store = self;
    sqlite_store_free(&store);
}

static void bind(statement s, int at, clv_bytes bytes)
{
    sqlite3_bind_blob64(s, at, bytes.n > 0 ? (const void *)bytes.p : "", bytes.n, SQLITE_STATIC);
}

/* A read of one row: its blob, and the number in column 1 where generation is asked for. */
static clv_status read_row(sqlite_store *store, const char *sql, const char *name,
                           int64_t *generation, clv_buf *blob, clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(prepare(store, sql, &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    int step = sqlite3_step(s);
    if (step == SQLITE_DONE)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "the store has no \"%.128s\"", name);
    if (step != SQLITE_ROW)
        return store_failed(store, "the store cannot be read", err);
    if (generation != NULL)
        *generation = sqlite3_column_int64(s, 1);
    const void *p = sqlite3_column_blob(s, 0);
    return clv_buf_append(blob, CLV_BYTES(p, (size_t)sqlite3_column_bytes(s, 0)), err);
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
        return store_failed(store, "the store cannot be written", err);
    *changed = sqlite3_changes(store->db);
    return CLV_OK;
}

static clv_status put_locked(sqlite_store *store, const char *name, int64_t generation,
                             clv_bytes blob, clv_error *err)
{
    clv_auto(statement) s = NULL;
    int changed;
    CLV_TRY(prepare(store,
                    generation == 1
                        ? "INSERT INTO state (name, generation, blob) VALUES (?1, ?2, ?3)"
                        : "UPDATE state SET generation = ?2, blob = ?3 WHERE name = ?1 AND "
                          "generation = ?2 - 1",
                    &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, generation);
    bind(s, 3, blob);
    CLV_TRY(write_row(store, s, &changed, err));
    if (changed != 1)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "%.128s: expected the store to hold generation %lld, found another", name,
                        (long long)generation - 1);
    return CLV_OK;
}

static clv_status delete_locked(sqlite_store *store, const char *name, int64_t generation,
                                clv_error *err)
{
    clv_auto(statement) s = NULL;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    int64_t found;
    int changed;
    CLV_TRY(read_row(store, "SELECT blob, generation FROM state WHERE name = ?1", name, &found,
                     &blob, err));
    CLV_TRY(prepare(store, "DELETE FROM state WHERE name = ?1 AND generation = ?2", &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 2, generation);
    CLV_TRY(write_row(store, s, &changed, err));
    if (changed != 1)
        return clv_fail(err, CLV_STATE_CONFLICT, "%.128s: expected generation %lld, found %lld",
                        name, (long long)generation, (long long)found);
    return CLV_OK;
}

static clv_status list_locked(sqlite_store *store, const char *prefix, json_t *out, clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(prepare(store,
                    "SELECT name, generation, length(blob) FROM state "
                    "WHERE substr(name, 1, length(?1)) = ?1 ORDER BY name",
                    &s, err));
    sqlite3_bind_text(s, 1, prefix, -1, SQLITE_STATIC);
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        json_t *row = json_pack("{s:s, s:I, s:I}", "name", sqlite3_column_text(s, 0), "generation",
                                (json_int_t)sqlite3_column_int64(s, 1), "size",
                                (json_int_t)sqlite3_column_int64(s, 2));
        if (row == NULL || json_array_append_new(out, row) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a list");
    }
    return step == SQLITE_DONE ? CLV_OK : store_failed(store, "the store cannot be read", err);
}

static clv_status key_put_locked(sqlite_store *store, const char *name, clv_bytes blob,
                                 clv_error *err)
{
    clv_auto(statement) s = NULL;
    int changed;
    CLV_TRY(prepare(store, "INSERT INTO key (name, blob) VALUES (?1, ?2)", &s, err));
    sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
    bind(s, 2, blob);
    CLV_TRY(write_row(store, s, &changed, err));
    if (changed != 1)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "key %.128s: expected none in the store, found one, which stays", name);
    return CLV_OK;
}

static clv_status engine_get(void *self, const char *name, int64_t *generation, clv_buf *blob,
                             clv_error *err)
{
    sqlite_store *store = self;
    pthread_mutex_lock(&store->lock);
    clv_status status = read_row(store, "SELECT blob, generation FROM state WHERE name = ?1", name,
                                 generation, blob, err);
    pthread_mutex_unlock(&store->lock);
    return status;
}

static clv_status engine_put(void *self, const char *name, int64_t generation, clv_bytes blob,
                             clv_error *err)
{
    sqlite_store *store = self;
    pthread_mutex_lock(&store->lock);
    clv_status status = put_locked(store, name, generation, blob, err);
    pthread_mutex_unlock(&store->lock);
    return status;
}

static clv_status engine_delete(void *self, const char *name, int64_t generation, clv_error *err)
{
    sqlite_store *store = self;
    pthread_mutex_lock(&store->lock);
    clv_status status = delete_locked(store, name, generation, err);
    pthread_mutex_unlock(&store->lock);
    return status;
}

static clv_status engine_list(void *self, const char *prefix, json_t **out, clv_error *err)
{
    sqlite_store *store = self;
    clv_auto(clv_json) list = json_array();
    if (list == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a list");
    pthread_mutex_lock(&store->lock);
    clv_status status = list_locked(store, prefix, list, err);
    pthread_mutex_unlock(&store->lock);
    CLV_TRY(status);
    *out = list;
    list = NULL;
    return CLV_OK;
}

static clv_status engine_key_get(void *self, const char *name, clv_buf *blob, clv_error *err)
{
    sqlite_store *store = self;
    pthread_mutex_lock(&store->lock);
    clv_status status =
        read_row(store, "SELECT blob FROM key WHERE name = ?1", name, NULL, blob, err);
    pthread_mutex_unlock(&store->lock);
    return status;
}

static clv_status engine_key_put(void *self, const char *name, clv_bytes blob, clv_error *err)
{
    sqlite_store *store = self;
    pthread_mutex_lock(&store->lock);
    clv_status status = key_put_locked(store, name, blob, err);
    pthread_mutex_unlock(&store->lock);
    return status;
}

const clv_store_engine clv_store_sqlite = {
    .name = "sqlite",
    .open = open_file,
    .close = close_file,
    .get = engine_get,
    .put = engine_put,
    .remove = engine_delete,
    .list = engine_list,
    .key_get = engine_key_get,
    .key_put = engine_key_put,
};

/* The embedded engine's file: whose it is, and how it is written. */
#include <parent/store_sqlite.h>

#include <stdlib.h>
#include <unistd.h>

#include <base/clock.h>

/* "CLVS": a database of another program is not touched. */
#define APPLICATION_ID 0x434c5653
#define SCHEMA_VERSION 1
#define BUSY_MS        8000 /* the enclave waits 10 s for its parent, and hears the reason */
#define RETRY_US       20000

static const char schema[] =
    "CREATE TABLE state (name TEXT PRIMARY KEY, generation INTEGER NOT NULL CHECK (generation > 0),"
    "                    blob BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE key (name TEXT PRIMARY KEY, blob BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "PRAGMA application_id = 1129076307;"
    "PRAGMA user_version = 1;";
_Static_assert(APPLICATION_ID == 1129076307 && SCHEMA_VERSION == 1, "the schema says the same");

clv_status clv_sqlite_failed(sqlite_store *store, const char *what, clv_error *err)
{
    int code = sqlite3_errcode(store->db);
    bool busy = code == SQLITE_BUSY || code == SQLITE_LOCKED;
    return clv_fail(err, busy ? CLV_STORE_UNAVAILABLE : CLV_STORE_FAILED, "%s: %s", what,
                    sqlite3_errmsg(store->db));
}

void statement_drop(statement *s)
{
    sqlite3_finalize(*s);
}

clv_status clv_sqlite_prepare(sqlite_store *store, const char *sql, statement *out, clv_error *err)
{
    if (sqlite3_prepare_v2(store->db, sql, -1, out, NULL) != SQLITE_OK)
        return clv_sqlite_failed(store, "a statement cannot be prepared", err);
    return CLV_OK;
}

static clv_status read_integer(sqlite_store *store, const char *sql, int64_t *out, clv_error *err)
{
    clv_auto(statement) s = NULL;
    CLV_TRY(clv_sqlite_prepare(store, sql, &s, err));
    if (sqlite3_step(s) != SQLITE_ROW)
        return clv_sqlite_failed(store, "the store cannot be read", err);
    *out = sqlite3_column_int64(s, 0);
    return CLV_OK;
}

static clv_status execute(sqlite_store *store, const char *sql, clv_error *err)
{
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return clv_sqlite_failed(store, "the store cannot be prepared", err);
    return CLV_OK;
}

/* *empty: a database that nobody has written to yet. */
static clv_status check_owner(sqlite_store *store, bool *empty, clv_error *err)
{
    int64_t application = 0, version = 0, tables = 0;
    CLV_TRY(read_integer(store, "PRAGMA application_id", &application, err));
    CLV_TRY(read_integer(store, "PRAGMA user_version", &version, err));
    CLV_TRY(read_integer(store, "SELECT count(*) FROM sqlite_schema", &tables, err));
    *empty = application == 0 && version == 0 && tables == 0;
    if (!*empty && (application != APPLICATION_ID || version != SCHEMA_VERSION))
        return clv_fail(err, CLV_STORE_FAILED,
                        "expected a store of version %d, found another database", SCHEMA_VERSION);
    return CLV_OK;
}

/* Acknowledged means durable: the log is synced at each commit. SQLite does not wait for another
 * process while it changes the mode, and answers the mode that it stays in. */
static clv_status write_ahead(sqlite_store *store, clv_error *err)
{
    uint64_t until = clv_monotonic_ms() + BUSY_MS;
    for (;;) {
        clv_auto(statement) s = NULL;
        CLV_TRY(clv_sqlite_prepare(store, "PRAGMA journal_mode = WAL", &s, err));
        int step = sqlite3_step(s);
        if (step == SQLITE_ROW) {
            const char *mode = (const char *)sqlite3_column_text(s, 0);
            if (mode != NULL && strcmp(mode, "wal") == 0)
                return execute(store, "PRAGMA synchronous = FULL", err);
            return clv_fail(
                err, CLV_STORE_FAILED,
                "expected a file system that can hold a write-ahead log, found mode %.20s",
                mode != NULL ? mode : "none");
        }
        if (step != SQLITE_BUSY || clv_monotonic_ms() >= until)
            return clv_sqlite_failed(store, "the store cannot be prepared", err);
        usleep(RETRY_US);
    }
}

/* Of two parents that find no file, one makes the tables. */
static clv_status make_tables(sqlite_store *store, clv_error *err)
{
    bool empty = false;
    CLV_TRY(execute(store, "BEGIN IMMEDIATE", err));
    clv_status status = check_owner(store, &empty, err);
    if (status == CLV_OK && empty)
        status = execute(store, schema, err);
    if (status == CLV_OK)
        status = execute(store, "COMMIT", err);
    return status;
}

static clv_status prepare_file(sqlite_store *store, bool make, clv_error *err)
{
    bool empty = false;
    sqlite3_busy_timeout(store->db, BUSY_MS);
    /* One instant: another parent may be making the tables. What fails here ends the connection. */
    CLV_TRY(execute(store, "BEGIN", err));
    CLV_TRY(check_owner(store, &empty, err));
    CLV_TRY(execute(store, "COMMIT", err));
    if (empty && !make)
        return clv_fail(err, CLV_STORE_FAILED, "expected a store, found an empty file");
    CLV_TRY(write_ahead(store, err));
    return empty ? make_tables(store, err) : CLV_OK;
}

void clv_sqlite_close(void *self)
{
    sqlite_store *store = self;
    sqlite3_close(store->db);
    pthread_cond_destroy(&store->changed);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static void init_locks(sqlite_store *store)
{
    pthread_condattr_t monotonic;
    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

clv_status clv_sqlite_open(const char *path, bool make, void **out, clv_error *err)
{
    sqlite_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a store");
    init_locks(store);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (make ? SQLITE_OPEN_CREATE : 0);
    clv_status status = sqlite3_open_v2(path, &store->db, flags, NULL) == SQLITE_OK
                            ? prepare_file(store, make, err)
                            : clv_fail(err, CLV_STORE_FAILED, "the file cannot be opened: %s",
                                       sqlite3_errmsg(store->db));
    if (status != CLV_OK) {
        clv_sqlite_close(store);
        return clv_blame(err, status, "%s", path);
    }
    *out = store;
    return CLV_OK;
}

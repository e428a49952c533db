#include <sim/kms/db.h>

#include <stdlib.h>

#define BUSY_TIMEOUT_MS 5000

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS principals ("
    " access_key_id TEXT PRIMARY KEY, secret TEXT NOT NULL, token TEXT, expires_ms INTEGER,"
    " arn TEXT NOT NULL, policy TEXT NOT NULL);"
    "CREATE TABLE IF NOT EXISTS keys ("
    " id TEXT PRIMARY KEY, account TEXT NOT NULL, spec TEXT NOT NULL, usage TEXT NOT NULL,"
    " state TEXT NOT NULL, description TEXT NOT NULL, policy TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL, deletion_ms INTEGER NOT NULL, rotation_days INTEGER NOT NULL,"
    " rotation_from_ms INTEGER NOT NULL, version INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS material ("
    " key_id TEXT NOT NULL REFERENCES keys(id) ON DELETE CASCADE, version INTEGER NOT NULL,"
    " bytes BLOB NOT NULL, created_ms INTEGER NOT NULL, manual INTEGER NOT NULL,"
    " PRIMARY KEY (key_id, version));"
    "CREATE TABLE IF NOT EXISTS aliases ("
    " account TEXT NOT NULL, name TEXT NOT NULL,"
    " key_id TEXT NOT NULL REFERENCES keys(id) ON DELETE CASCADE,"
    " created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL, PRIMARY KEY (account, name));"
    "CREATE TABLE IF NOT EXISTS tags ("
    " key_id TEXT NOT NULL REFERENCES keys(id) ON DELETE CASCADE, name TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY (key_id, name));"
    "CREATE TABLE IF NOT EXISTS grants ("
    " id TEXT PRIMARY KEY, token TEXT NOT NULL,"
    " key_id TEXT NOT NULL REFERENCES keys(id) ON DELETE CASCADE,"
    " grantee TEXT NOT NULL, retiring TEXT NOT NULL, body TEXT NOT NULL,"
    " created_ms INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS audit ("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);";

static clv_status fail_sqlite(clv_db *db, const char *what, clv_error *err)
{
    return clv_fail(err, CLV_STORE_FAILED, "%s: %s", what,
                    db->handle != NULL ? sqlite3_errmsg(db->handle) : "no memory");
}

static clv_status run_script(clv_db *db, const char *script, clv_error *err)
{
    if (sqlite3_exec(db->handle, script, NULL, NULL, NULL) != SQLITE_OK)
        return fail_sqlite(db, "the database's set-up", err);
    return CLV_OK;
}

static clv_status open_file(clv_db *db, const char *path, bool create, clv_error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK)
        return fail_sqlite(db, path, err);
    sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
    CLV_TRY(run_script(db,
                       "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                       "PRAGMA foreign_keys=ON; PRAGMA secure_delete=ON;",
                       err));
    return create ? run_script(db, SCHEMA, err) : CLV_OK;
}

clv_status clv_db_open(const char *path, bool create, clv_db **out, clv_error *err)
{
    clv_auto_ptr(clv_db) db = calloc(1, sizeof *db);
    if (db == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a database handle, found none");
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&db->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    CLV_TRY(open_file(db, path, create, err));
    *out = db;
    db = NULL;
    return CLV_OK;
}

void clv_db_free(clv_db **db)
{
    if (*db == NULL)
        return;
    sqlite3_close_v2((*db)->handle);
    pthread_mutex_destroy(&(*db)->lock);
    free(*db);
    *db = NULL;
}

void clv_rows_drop(clv_rows *rows)
{
    if (rows->db == NULL)
        return;
    sqlite3_finalize(rows->statement);
    pthread_mutex_unlock(&rows->db->lock);
    *rows = (clv_rows)CLV_ROWS_INIT;
}

static int bind_argument(sqlite3_stmt *statement, int index, char type, va_list *arguments)
{
    switch (type) {
    case 't':
        return sqlite3_bind_text(statement, index, va_arg(*arguments, const char *), -1,
                                 SQLITE_TRANSIENT);
    case 'i':
        return sqlite3_bind_int64(statement, index, va_arg(*arguments, int64_t));
    case 'b': {
        const clv_bytes *bytes = va_arg(*arguments, const clv_bytes *);
        return sqlite3_bind_blob64(statement, index, bytes->p, bytes->n, SQLITE_TRANSIENT);
    }
    default:
        return SQLITE_MISUSE;
    }
}

static clv_status start(clv_db *db, clv_rows *rows, const char *sql, const char *types,
                        va_list *arguments, clv_error *err)
{
    clv_rows_drop(rows);
    pthread_mutex_lock(&db->lock);
    rows->db = db;
    if (sqlite3_prepare_v2(db->handle, sql, -1, &rows->statement, NULL) != SQLITE_OK)
        return fail_sqlite(db, sql, err);
    for (int i = 0; types[i] != '\0'; i++) {
        if (bind_argument(rows->statement, i + 1, types[i], arguments) != SQLITE_OK)
            return fail_sqlite(db, sql, err);
    }
    return CLV_OK;
}

clv_status clv_db_query(clv_db *db, clv_rows *rows, clv_error *err, const char *sql,
                        const char *types, ...)
{
    va_list arguments;
    va_start(arguments, types);
    clv_status status = start(db, rows, sql, types, &arguments, err);
    va_end(arguments);
    return status;
}

clv_status clv_rows_next(clv_rows *rows, bool *more, clv_error *err)
{
    int code = sqlite3_step(rows->statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return fail_sqlite(rows->db, sqlite3_sql(rows->statement), err);
    *more = code == SQLITE_ROW;
    return CLV_OK;
}

const char *clv_rows_text(clv_rows *rows, int column)
{
    const unsigned char *text = sqlite3_column_text(rows->statement, column);
    return text != NULL ? (const char *)text : "";
}

int64_t clv_rows_integer(clv_rows *rows, int column)
{
    return sqlite3_column_int64(rows->statement, column);
}

clv_bytes clv_rows_blob(clv_rows *rows, int column)
{
    const void *bytes = sqlite3_column_blob(rows->statement, column);
    return CLV_BYTES(bytes, (size_t)sqlite3_column_bytes(rows->statement, column));
}

clv_status clv_db_run(clv_db *db, int *changed, clv_error *err, const char *sql, const char *types,
                      ...)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    va_list arguments;
    va_start(arguments, types);
    clv_status status = start(db, &rows, sql, types, &arguments, err);
    va_end(arguments);
    CLV_TRY(status);
    bool more = true;
    while (more)
        CLV_TRY(clv_rows_next(&rows, &more, err));
    if (changed != NULL)
        *changed = sqlite3_changes(db->handle);
    return CLV_OK;
}

clv_status clv_db_begin(clv_db *db, clv_transaction *out, clv_error *err)
{
    pthread_mutex_lock(&db->lock);
    clv_status status = run_script(db, "BEGIN IMMEDIATE", err);
    if (status != CLV_OK) {
        pthread_mutex_unlock(&db->lock);
        return status;
    }
    out->db = db;
    return CLV_OK;
}

clv_status clv_transaction_commit(clv_transaction *transaction, clv_error *err)
{
    CLV_TRY(run_script(transaction->db, "COMMIT", err));
    pthread_mutex_unlock(&transaction->db->lock);
    transaction->db = NULL;
    return CLV_OK;
}

void clv_transaction_drop(clv_transaction *transaction)
{
    if (transaction->db == NULL)
        return;
    sqlite3_exec(transaction->db->handle, "ROLLBACK", NULL, NULL, NULL);
    pthread_mutex_unlock(&transaction->db->lock);
    transaction->db = NULL;
}

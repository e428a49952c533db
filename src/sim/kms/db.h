/*
 * The database of the local KMS: SQLite with a write-ahead log and full syncing, one connection
 * behind one lock. SQLite's idioms end here.
 */
#ifndef CLV_SIM_KMS_DB_H
#define CLV_SIM_KMS_DB_H

#include <pthread.h>
#include <sqlite3.h>

#include <claviger/bytes.h>

typedef struct clv_db {
    sqlite3 *handle;
    pthread_mutex_t lock; /* recursive; held while a statement or a transaction is open */
} clv_db;

/* Open, and create with its tables where `create` says so. CLV_STORE_FAILED names the file. */
CLV_NODISCARD clv_status clv_db_open(const char *path, bool create, clv_db **out, clv_error *err);
void clv_db_free(clv_db **db);

/* A statement under way. It holds the database's lock until clv_rows_drop(). */
typedef struct clv_rows {
    clv_db *db;
    sqlite3_stmt *statement;
} clv_rows;

#define CLV_ROWS_INIT \
    {                 \
        NULL, NULL    \
    }
void clv_rows_drop(clv_rows *rows);

/*
 * Prepare and bind. `types` has a letter for each argument: t const char * (NULL binds null),
 * i int64_t, b const clv_bytes *.
 */
CLV_NODISCARD clv_status clv_db_query(clv_db *db, clv_rows *rows, clv_error *err, const char *sql,
                                      const char *types, ...);
/* *more is false behind the last row. */
CLV_NODISCARD clv_status clv_rows_next(clv_rows *rows, bool *more, clv_error *err);
/* Views into the current row; a null text is "". */
const char *clv_rows_text(clv_rows *rows, int column);
int64_t clv_rows_integer(clv_rows *rows, int column);
clv_bytes clv_rows_blob(clv_rows *rows, int column);

/* A statement that gives no rows. *changed (may be NULL) is the number of rows it touched. */
CLV_NODISCARD clv_status clv_db_run(clv_db *db, int *changed, clv_error *err, const char *sql,
                                    const char *types, ...);

/* Several statements or none of them: what is not committed is rolled back when it is dropped. */
typedef struct clv_transaction {
    clv_db *db;
} clv_transaction;

CLV_NODISCARD clv_status clv_db_begin(clv_db *db, clv_transaction *out, clv_error *err);
CLV_NODISCARD clv_status clv_transaction_commit(clv_transaction *transaction, clv_error *err);
void clv_transaction_drop(clv_transaction *transaction);

#endif

/* The embedded engine's inside: the file and what every statement needs. */
#ifndef CLV_PARENT_STORE_SQLITE_H
#define CLV_PARENT_STORE_SQLITE_H

#include <pthread.h>
#include <sqlite3.h>

#include <parent/store_engine.h>

typedef struct sqlite_store {
    sqlite3 *db;
    pthread_mutex_t lock;   /* one statement at a time on the connection */
    pthread_cond_t changed; /* a state was put or deleted through this connection */
} sqlite_store;

/* Opens the file, or makes it where there is none and make says so; one that is another program's
 * is not touched. CLV_STORE_FAILED, CLV_STORE_UNAVAILABLE. */
CLV_NODISCARD clv_status clv_sqlite_open(const char *path, bool make, void **out, clv_error *err);
void clv_sqlite_close(void *self);

/* What SQLite says now: CLV_STORE_UNAVAILABLE where another process holds the file for too long. */
clv_status clv_sqlite_failed(sqlite_store *store, const char *what, clv_error *err);

/* For clv_auto. */
typedef sqlite3_stmt *statement;
void statement_drop(statement *s);
CLV_NODISCARD clv_status clv_sqlite_prepare(sqlite_store *store, const char *sql, statement *out,
                                            clv_error *err);

#endif

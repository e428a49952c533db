/*
 * The parent's store of sealed state and wrapped keys: one interface, two engines.
 *
 *     sqlite:FILE        one file on this machine: a parent of its own
 *     etcd:CONFIG.json   a cluster that several parents share (store_etcd.c says the file's form)
 *
 * What it holds means nothing to the parent: sealed messages and CiphertextBlobs. What it promises
 * is durability (an acknowledged put survives a crash at any instant) and compare-and-swap on the
 * generation, by every engine alike. A handle may be shared by threads, and a store by processes.
 */
#ifndef CLV_PARENT_STORE_H
#define CLV_PARENT_STORE_H

#include <base/json.h>

typedef struct clv_store clv_store;

/* CLV_STORE_FAILED: what is there is no store of ours, or is damaged. Every function may fail with
 * CLV_STORE_UNAVAILABLE: the engine cannot be reached or has no majority; a put that fails so may
 * or may not have happened, and the generation that a get finds then tells which. */
CLV_NODISCARD clv_status clv_store_open(const char *address, clv_store **out, clv_error *err);
/* The same, but a file that is not there is not made: CLV_STORE_FAILED. */
CLV_NODISCARD clv_status clv_store_open_existing(const char *address, clv_store **out,
                                                 clv_error *err);
void clv_store_free(clv_store **store);

/* "sqlite" or "etcd". */
const char *clv_store_engine_name(const clv_store *store);

#define CLV_STORE_NAME_MAX 256
#define CLV_GENERATION_MAX INT64_MAX

/* CLV_STATE_NOT_FOUND. The sealed message is appended to *blob. */
CLV_NODISCARD clv_status clv_store_get(clv_store *store, const char *name, int64_t *generation,
                                       clv_buf *blob, clv_error *err);
/* The generation that the store holds; 0: there is no such state. */
CLV_NODISCARD clv_status clv_store_generation(clv_store *store, const char *name, int64_t *out,
                                              clv_error *err);
/* Only when the store holds generation - 1 (nothing, for 1): CLV_STATE_CONFLICT otherwise. */
CLV_NODISCARD clv_status clv_store_put(clv_store *store, const char *name, int64_t generation,
                                       clv_bytes blob, clv_error *err);
/* The same for a store that another one is copied into: only when it holds generation `before` (0:
 * nothing), which is below `generation`. */
CLV_NODISCARD clv_status clv_store_replace(clv_store *store, const char *name, int64_t before,
                                           int64_t generation, clv_bytes blob, clv_error *err);
/* Only when the store holds this generation: CLV_STATE_CONFLICT, CLV_STATE_NOT_FOUND. */
CLV_NODISCARD clv_status clv_store_delete(clv_store *store, const char *name, int64_t generation,
                                          clv_error *err);

/*
 * A page of the names that begin with prefix and come after `after` ("": from the first), in the
 * order of their bytes, at most limit: [{"name", "generation", "size"}], a new reference. Fewer
 * than limit: it is the last page.
 */
#define CLV_STORE_PAGE_MAX 500
CLV_NODISCARD clv_status clv_store_list(clv_store *store, const char *prefix, const char *after,
                                        size_t limit, json_t **out, clv_error *err);

/*
 * Wait until the store holds another generation of this name than the one given (0: none), at most
 * timeout_ms; *found is what it holds then. CLV_STORE_BUSY: CLV_STORE_WAITING_MAX wait already.
 */
#define CLV_STORE_WAITING_MAX 64
CLV_NODISCARD clv_status clv_store_wait(clv_store *store, const char *name, int64_t generation,
                                        int timeout_ms, int64_t *found, clv_error *err);

CLV_NODISCARD clv_status clv_store_key_get(clv_store *store, const char *name, clv_buf *blob,
                                           clv_error *err);
/* Never overwrites: CLV_STATE_CONFLICT when there is one. */
CLV_NODISCARD clv_status clv_store_key_put(clv_store *store, const char *name, clv_bytes blob,
                                           clv_error *err);
/* As clv_store_list(): [{"name", "size"}]. */
CLV_NODISCARD clv_status clv_store_key_list(clv_store *store, const char *after, size_t limit,
                                            json_t **out, clv_error *err);

/* Look through the engine's own structures; each fault is one sentence to report(). That there
 * are some is no failure of this function. */
typedef void (*clv_store_report)(void *with, const char *fault);
CLV_NODISCARD clv_status clv_store_check(clv_store *store, clv_store_report report, void *with,
                                         clv_error *err);

#endif

/*
 * The parent's store of sealed state and wrapped keys: one interface, two engines.
 *
 *     sqlite:FILE        one file on this machine: a parent of its own
 *     etcd:CONFIG.json   a cluster that several parents share (store_etcd.c says the file's form)
 *
 * What it holds means nothing to the parent: sealed messages and CiphertextBlobs. What it promises
 * is durability (an acknowledged put survives a crash at any instant) and compare-and-swap on the
 * generation, by every engine alike. A handle may be shared by threads.
 */
#ifndef CLV_PARENT_STORE_H
#define CLV_PARENT_STORE_H

#include <base/json.h>

typedef struct clv_store clv_store;

/* CLV_STORE_FAILED: what is there is no store of ours, or is damaged. Every function may fail with
 * CLV_STORE_UNAVAILABLE: the engine cannot be reached or has no majority; a put that fails so may
 * or may not have happened, and the generation that a get finds then tells which. */
CLV_NODISCARD clv_status clv_store_open(const char *address, clv_store **out, clv_error *err);
void clv_store_free(clv_store **store);

#define CLV_STORE_NAME_MAX 256
#define CLV_GENERATION_MAX INT64_MAX

/* CLV_STATE_NOT_FOUND. The sealed message is appended to *blob. */
CLV_NODISCARD clv_status clv_store_get(clv_store *store, const char *name, int64_t *generation,
                                       clv_buf *blob, clv_error *err);
/* Only when the store holds generation - 1 (nothing, for 1): CLV_STATE_CONFLICT otherwise. */
CLV_NODISCARD clv_status clv_store_put(clv_store *store, const char *name, int64_t generation,
                                       clv_bytes blob, clv_error *err);
/* Only when the store holds this generation: CLV_STATE_CONFLICT, CLV_STATE_NOT_FOUND. */
CLV_NODISCARD clv_status clv_store_delete(clv_store *store, const char *name, int64_t generation,
                                          clv_error *err);
/* [{"name", "generation", "size"}] of the names that begin with prefix: a new reference. */
CLV_NODISCARD clv_status clv_store_list(clv_store *store, const char *prefix, json_t **out,
                                        clv_error *err);

CLV_NODISCARD clv_status clv_store_key_get(clv_store *store, const char *name, clv_buf *blob,
                                           clv_error *err);
/* Never overwrites: CLV_STATE_CONFLICT when there is one. */
CLV_NODISCARD clv_status clv_store_key_put(clv_store *store, const char *name, clv_bytes blob,
                                           clv_error *err);

#endif

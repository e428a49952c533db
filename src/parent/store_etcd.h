/*
 * The engine for fleets, inside: what a state is in etcd.
 *
 *     PREFIX state/NAME       {"generation", "size", "chunks", "id"}: what is acknowledged
 *     PREFIX chunk/ID/NNNN    the bytes, CHUNK each; ID is of one put alone
 *     PREFIX key/NAME         a CiphertextBlob
 *
 * A put is one transaction that compares the revision of state/NAME, so that two writers cannot
 * both win, and takes the old chunks away. Bytes that do not fit one request are written before,
 * under a lease: where the transaction never comes they vanish by themselves, and the transaction
 * takes the lease off. A get reads all chunks at the revision of the state that it found.
 */
#ifndef CLV_PARENT_STORE_ETCD_H
#define CLV_PARENT_STORE_ETCD_H

#include <base/log.h>
#include <etcd/kv.h>
#include <parent/store_engine.h>

#define CLV_ETCD_CHUNK      ((size_t)1024 * 1024) /* etcd takes requests of 1.5 MiB, 128 operations */
#define CLV_ETCD_CHUNKS_MAX 100
#define CLV_ETCD_STATE      "state/"
#define CLV_ETCD_CHUNK_KEY  "chunk/"
#define CLV_ETCD_KEY        "key/"
#define CLV_ETCD_CHUNK_NAME 40

typedef struct clv_etcd_meta {
    int64_t revision; /* of the last change; 0: there is none */
    int64_t read_at;  /* the store's revision when it was read */
    int64_t generation, size, chunks;
    char id[CLV_OPERATION_ID_SIZE];
} clv_etcd_meta;

/* CLV_STORE_FAILED: what is there is not of this form. name: for the sentence. */
CLV_NODISCARD clv_status clv_etcd_parse_meta(const json_t *kv, const char *name, clv_etcd_meta *out,
                                             clv_error *err);
/* out->revision is 0 where the store has no such state. */
CLV_NODISCARD clv_status clv_etcd_read_meta(clv_etcd *etcd, const char *name, clv_etcd_meta *out,
                                            clv_error *err);
void clv_etcd_chunk_name(char out[CLV_ETCD_CHUNK_NAME], const char *id, int64_t i);

/* The parts of the engine that read. */
clv_status clv_etcd_store_get(void *self, const char *name, int64_t *generation, clv_buf *blob,
                              clv_error *err);
clv_status clv_etcd_store_generation(void *self, const char *name, int64_t *out, clv_error *err);
clv_status clv_etcd_store_wait(void *self, const char *name, int64_t generation, int timeout_ms,
                               int64_t *found, clv_error *err);
clv_status clv_etcd_store_list(void *self, const char *prefix, const char *after, size_t limit,
                               json_t *out, clv_error *err);
clv_status clv_etcd_store_key_list(void *self, const char *after, size_t limit, json_t *out,
                                   clv_error *err);
clv_status clv_etcd_store_check(void *self, clv_store_report report, void *with, clv_error *err);

#endif

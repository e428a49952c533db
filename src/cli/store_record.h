/*
 * What a store holds, one record after another: from a store or an export, into one or the other.
 *
 * An export is a stream of text lines and the bytes that they announce:
 *
 *     claviger-store-export 1
 *     {"kind":"key","name":K,"sha256":HEX,"size":N}                   then N bytes and a line feed
 *     {"generation":G,"kind":"state","name":S,"sha256":HEX,"size":N}  then N bytes and a line feed
 *     {"keys":COUNT,"kind":"end","states":COUNT}
 *
 * Lines are strict JSON of at most 4096 bytes. Nothing follows the last one; without it the export
 * was cut short.
 */
#ifndef CLV_CLI_STORE_RECORD_H
#define CLV_CLI_STORE_RECORD_H

#include <cli/output.h>
#include <parent/store.h>

typedef struct clv_store_record {
    bool is_key; /* a policy key's CiphertextBlob; otherwise a state */
    const char *name;
    int64_t generation; /* of a state */
    clv_bytes blob;
} clv_store_record;

typedef struct clv_store_counts {
    uint64_t keys, states, bytes;
} clv_store_counts;

/* Takes a record, which is its caller's. */
typedef clv_status (*clv_record_take)(void *with, const clv_store_record *record, clv_error *err);

/* How much there is, for a bar. */
CLV_NODISCARD clv_status clv_store_count(clv_store *store, clv_store_counts *out, clv_error *err);

/* Told of a record that the store cannot read: CLV_STORE_FAILED. */
typedef void (*clv_record_unreadable)(void *with, bool is_key, const char *name,
                                      const clv_error *fault);

/* Every key, then every state, each as it is when its turn comes; what is deleted meanwhile is left
 * out. unreadable: NULL ends the walk at the first record that cannot be read. */
CLV_NODISCARD clv_status clv_store_each(clv_store *store, clv_record_take take,
                                        clv_record_unreadable unreadable, void *with,
                                        clv_error *err);

CLV_NODISCARD clv_status clv_export_begin(clv_output *output, clv_error *err);
CLV_NODISCARD clv_status clv_export_record(clv_output *output, const clv_store_record *record,
                                           clv_error *err);
CLV_NODISCARD clv_status clv_export_end(clv_output *output, const clv_store_counts *counts,
                                        clv_error *err);

/* Each record of an export, its digest checked. CLV_EXPORT_FORMAT, also when it was cut short: the
 * records before were taken. */
CLV_NODISCARD clv_status clv_export_each(int fd, clv_record_take take, void *with, clv_error *err);

#endif

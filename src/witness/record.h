/*
 * What a witness remembers of one thing, and its signed form: the record. The etcd cluster holds
 * records, a caller's receipt is one in base64, and so is the tombstone that a deleted state leaves
 * in the store.
 *
 *     record    = [ statement: bstr, signature: bstr .size 64 ]          deterministic CBOR
 *     statement = [ "claviger-witness-1", kind: tstr, fleet: bstr .size 16, name: tstr,
 *                   generation: uint, digest: bstr, time_ms: uint, by: tstr ]
 *
 * The signature is Ed25519 (RFC 8032) over the statement's bytes, under a key that every enclave
 * of the fleet derives and no one else has.
 */
#ifndef CLV_WITNESS_RECORD_H
#define CLV_WITNESS_RECORD_H

#include <base/crypto.h>
#include <claviger/secret.h>

#define CLV_WITNESS_FLEET    16
#define CLV_WITNESS_NAME_MAX 256 /* "<key>/<name>" of a state */
#define CLV_WITNESS_BY_MAX   256
#define CLV_RECORD_MAX       1024
#define CLV_RECORD_PUBLIC    32

typedef enum clv_record_kind {
    CLV_RECORD_INIT,    /* the witness begins: no name, generation 0, no digest */
    CLV_RECORD_STATE,   /* a sealed state: SHA-384 of the message */
    CLV_RECORD_DELETED, /* no state: no digest */
    CLV_RECORD_ROOT,    /* a policy key's root of derivation: its id, zeros behind it */
    CLV_RECORD_KIND_COUNT
} clv_record_kind;

typedef struct clv_record {
    clv_record_kind kind;
    uint8_t fleet[CLV_WITNESS_FLEET];
    char name[CLV_WITNESS_NAME_MAX + 1];
    uint64_t generation;
    uint8_t digest[CLV_SHA384_SIZE]; /* all zero for the kinds without one */
    uint64_t time_ms;                /* attested, since 1970 */
    char by[CLV_WITNESS_BY_MAX + 1]; /* who asked for it: for people; may be empty */
} clv_record;

/* "init", "state", "deleted", "root". */
const char *clv_record_kind_name(clv_record_kind kind);

/* Sign; the record's bytes are appended. seed: the Ed25519 key, 32 bytes. */
CLV_NODISCARD clv_status clv_record_sign(const clv_record *record, const clv_secret *seed,
                                         clv_buf *out, clv_error *err);

/* Verify and read. CLV_WITNESS_RECORD: malformed, or not signed by this key. */
CLV_NODISCARD clv_status clv_record_open(clv_bytes bytes, const uint8_t key[CLV_RECORD_PUBLIC],
                                         clv_record *out, clv_error *err);

/* Whether the bytes begin as a record does, which no sealed message does. Says nothing more. */
bool clv_record_like(clv_bytes bytes);

/* Whether the bytes are of a tombstone's shape, of this name and generation, for who has no key and
 * cannot say more: CLV_WITNESS_RECORD. */
CLV_NODISCARD clv_status clv_record_tombstone_shape(clv_bytes bytes, const char *name,
                                                    uint64_t generation, clv_error *err);

#endif

/*
 * An operation: everything that one KMS call will say, resolved from the measured policy.
 *
 * It is made by the policy room alone (clv_policy_resolve_*), vouched for by the gate, sent by the
 * kms room. Its canonical encoding is deterministic CBOR (RFC 8949 section 4.2); the schema is
 * published in docs/operation.cddl so that an auditor can recompute a document's user_data.
 */
#ifndef CLAVIGER_OPERATION_H
#define CLAVIGER_OPERATION_H

#include <claviger/bytes.h>

/* The five operations that take a Recipient (AWS KMS developer guide, "Cryptographic attestation
 * support in AWS KMS"). */
typedef enum clv_kms_action {
    CLV_GENERATE_DATA_KEY,
    CLV_DECRYPT,
    CLV_GENERATE_DATA_KEY_PAIR,
    CLV_GENERATE_RANDOM,
    CLV_DERIVE_SHARED_SECRET,
    CLV_KMS_ACTION_COUNT
} clv_kms_action;

/* "GenerateDataKey", …: as in X-Amz-Target and in policies. */
const char *clv_kms_action_name(clv_kms_action action);
/* false when no action has this name. */
bool clv_kms_action_of(const char *name, clv_kms_action *out);

/* Limits of the KMS API reference. */
#define CLV_KEY_ARN_MAX         2048
#define CLV_CIPHERTEXT_BLOB_MAX 6144
#define CLV_DATA_KEY_MAX        1024
#define CLV_KEY_PAIR_SPEC_MAX   64
#define CLV_PUBLIC_KEY_MAX      8192
#define CLV_CONTEXT_PAIRS_MAX   64
#define CLV_CONTEXT_BYTES_MAX   8192 /* keys and values together */
/* In one sealed message: the most that a policy can allow. */
#define CLV_ENCRYPTED_DATA_KEYS_MAX 16

/* An encryption context: pairs sorted by the bytes of the key, keys unique and not empty. */
typedef struct clv_context {
    struct clv_context_pair {
        char *key;
        char *value;
    } * pair;
    size_t count;
} clv_context;

#define CLV_CONTEXT_INIT \
    {                    \
        NULL, 0          \
    }
void clv_context_drop(clv_context *context);
/* Adds a pair in its place. CLV_OPERATION_INVALID: empty or repeated key, not UTF-8, a limit. */
CLV_NODISCARD clv_status clv_context_add(clv_context *context, const char *key, const char *value,
                                         clv_error *err);
CLV_NODISCARD clv_status clv_context_copy(const clv_context *from, clv_context *out,
                                          clv_error *err);
/* The value, or NULL. */
const char *clv_context_get(const clv_context *context, const char *key);
bool clv_context_equal(const clv_context *a, const clv_context *b);

typedef struct clv_operation {
    clv_kms_action action;
    char *key_arn;            /* every action but GenerateRandom: a full key ARN (R10) */
    clv_context context;      /* GenerateDataKey, GenerateDataKeyPair, Decrypt */
    uint32_t number_of_bytes; /* GenerateDataKey, GenerateRandom: 1 to 1024 */
    clv_buf ciphertext;       /* Decrypt: CiphertextBlob, 1 to 6144 bytes */
    char *key_pair_spec;      /* GenerateDataKeyPair: "ECC_NIST_P256", … */
    clv_buf public_key;       /* DeriveSharedSecret: the peer's DER SubjectPublicKeyInfo */
} clv_operation;

#define CLV_OPERATION_INIT                                                                 \
    {                                                                                      \
        CLV_GENERATE_DATA_KEY, NULL, CLV_CONTEXT_INIT, 0, CLV_BUF_INIT, NULL, CLV_BUF_INIT \
    }
void clv_operation_drop(clv_operation *operation);
CLV_NODISCARD clv_status clv_operation_copy(const clv_operation *from, clv_operation *out,
                                            clv_error *err);

/* Whether the members that its action needs are there, within KMS's limits, and no others. */
CLV_NODISCARD clv_status clv_operation_check(const clv_operation *operation, clv_error *err);

/* The canonical encoding, appended. Checks first. */
CLV_NODISCARD clv_status clv_operation_encode(const clv_operation *operation, clv_buf *out,
                                              clv_error *err);

/* SHA-384 of the canonical encoding: the document's user_data (R7). */
#define CLV_OPERATION_DIGEST_SIZE 48
CLV_NODISCARD clv_status clv_operation_digest(const clv_operation *operation,
                                              uint8_t out[CLV_OPERATION_DIGEST_SIZE],
                                              clv_error *err);

#endif

/*
 * CiphertextBlob: what the local KMS hands out for a ciphertext under a symmetric key. KMS calls
 * its own form opaque; this one is
 *
 *     magic "CLVK" | version 1 (u8) | key id (16 bytes, the UUID) | material version (u32)
 *     | IV (12 bytes) | ciphertext | tag (16 bytes)
 *
 * AES-256-GCM (NIST SP 800-38D) under the key's material of that version. The additional data is
 * everything in front of the IV, then the encryption context in its canonical form: the number of
 * pairs (u32), then, sorted by the bytes of the key, each key and value with its length (u32).
 */
#ifndef CLV_SIM_KMS_BLOB_H
#define CLV_SIM_KMS_BLOB_H

#include <jansson.h>

#include <claviger/bytes.h>

#define CLV_SYMMETRIC_SIZE 32 /* AES-256 */
#define CLV_KEY_ID_SIZE    37 /* a UUID as text, with its NUL */

typedef struct clv_blob {
    char key_id[CLV_KEY_ID_SIZE];
    uint32_t version;
    clv_bytes header, iv, ciphertext, tag;
} clv_blob;

/* Read the parts; nothing is decrypted. CLV_KMS_INVALID_CIPHERTEXT. */
CLV_NODISCARD clv_status clv_blob_parse(clv_bytes bytes, clv_blob *out, clv_error *err);

/* context: a JSON object of texts, or NULL for none. */
CLV_NODISCARD clv_status clv_blob_seal(const char *key_id, uint32_t version, clv_bytes material,
                                       const json_t *context, clv_bytes plaintext, clv_buf *out,
                                       clv_error *err);

/* CLV_KMS_INVALID_CIPHERTEXT when the tag does not hold: altered, or another context. */
CLV_NODISCARD clv_status clv_blob_open(const clv_blob *blob, clv_bytes material,
                                       const json_t *context, clv_buf *out, clv_error *err);

/* Decrypt without the context, and so without looking at the tag: for `claviger-kms reveal`. */
CLV_NODISCARD clv_status clv_blob_reveal(const clv_blob *blob, clv_bytes material, clv_buf *out,
                                         clv_error *err);

#endif

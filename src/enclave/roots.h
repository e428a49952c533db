/*
 * Where derivation starts: each policy key's root is a data key made once for the whole fleet. Its
 * CiphertextBlob is kept by the parent under the key's name (docs/protocol.md, key.get and
 * key.put) and opened through Decrypt with the policy's own context, in every enclave of the same
 * policy alike (R15).
 *
 * The parent could hand over another blob of the same key and context. It would gain nothing, but
 * agents would get other keys than before: so the daemon asks for each root once, remembers its
 * blob and its id from the first use on, and an agent may state the id that it expects.
 */
#ifndef CLV_ENCLAVE_ROOTS_H
#define CLV_ENCLAVE_ROOTS_H

#include <pthread.h>

#include <claviger/policy.h>
#include <vault/derive.h>

typedef struct clv_roots {
    pthread_mutex_t lock; /* protects the rest */
    bool known[CLV_POLICY_KEYS_MAX];
    uint8_t id[CLV_POLICY_KEYS_MAX][CLV_DERIVE_ROOT_ID];
    clv_buf blob[CLV_POLICY_KEYS_MAX]; /* CiphertextBlob, as KMS opened it */
} clv_roots;

void clv_roots_init(clv_roots *roots);
void clv_roots_drop(clv_roots *roots);

/* The blob of this key's root, appended; nothing is when it is not known yet. */
CLV_NODISCARD clv_status clv_roots_find(clv_roots *roots, size_t key_index, clv_buf *blob,
                                        clv_error *err);

/* Remember this key's root, or compare it with the one remembered: CLV_ROOT_CHANGED. */
CLV_NODISCARD clv_status clv_roots_check(clv_roots *roots, size_t key_index, clv_bytes blob,
                                         const uint8_t id[CLV_DERIVE_ROOT_ID], clv_error *err);

#endif

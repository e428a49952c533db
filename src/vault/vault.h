/*
 * The vault: a data key is opened, used and wiped in one function's extent (R12).
 *
 * Nobody receives a key. A caller hands in what is to be done with it; the vault resolves the
 * operation from the policy, has it vouched for, opens the answer, runs the use, and wipes the key
 * on every path out. Only where the policy turns a key's cache on does a data key outlive its use;
 * a thread of the vault's own then wipes it when it is too old.
 */
#ifndef CLV_VAULT_H
#define CLV_VAULT_H

#include <claviger/kms.h>

typedef struct clv_vault clv_vault;

/* gate and kms must outlive the vault. */
CLV_NODISCARD clv_status clv_vault_open(clv_gate *gate, clv_kms *kms, clv_vault **out,
                                        clv_error *err);
void clv_vault_free(clv_vault **vault);
clv_gate *clv_vault_gate(clv_vault *vault);

/*
 * Told of each call to KMS that succeeded: what was asked for and the document that vouched for
 * it, and never a key. Called on the caller's thread; one observer, set before the first call.
 */
typedef void (*clv_vault_observer)(void *with, const clv_policy_key *key,
                                   const clv_operation *operation, clv_bytes document);
void clv_vault_set_observer(clv_vault *vault, clv_vault_observer observer, void *with);

/* What came with the key: valid during the use only. */
typedef struct clv_key_facts {
    const clv_policy_key *key;
    const clv_context *context; /* the whole context that the key is bound to */
    clv_bytes encrypted_key;    /* CiphertextBlob */
    clv_bytes document;         /* the voucher's document: evidence */
} clv_key_facts;

/* The use: data_key is valid until it returns, and is wiped then. */
typedef clv_status (*clv_key_use)(void *with, const clv_secret *data_key,
                                  const clv_key_facts *facts, clv_error *err);

/* A new 32 byte data key from GenerateDataKey. extra as in clv_policy_resolve_generate. */
CLV_NODISCARD clv_status clv_vault_with_new_key(clv_vault *vault, const clv_policy_key *key,
                                                const clv_context *extra, clv_key_use use,
                                                void *with, clv_error *err);

/* A message whose size is not known before: its data key is neither taken from a cache nor kept. */
#define CLV_VAULT_SIZE_UNKNOWN UINT64_MAX

/*
 * Like clv_vault_with_new_key, for a message of `size` bytes: where the policy turns the key's
 * cache on, a data key that sealed before may serve again (vault/cache.h). facts->document is empty
 * then.
 */
CLV_NODISCARD clv_status clv_vault_with_sealing_key(clv_vault *vault, const clv_policy_key *key,
                                                    const clv_context *extra, uint64_t size,
                                                    clv_key_use use, void *with, clv_error *err);

/* The data key behind a CiphertextBlob, through Decrypt under the policy's key and context;
 * kept where the policy turns the key's cache on, each use counting as a message. */
CLV_NODISCARD clv_status clv_vault_with_key(clv_vault *vault, const clv_policy_key *key,
                                            const clv_context *extra, clv_bytes encrypted_key,
                                            clv_key_use use, void *with, clv_error *err);

/* The same to open a message, whose size counts. */
CLV_NODISCARD clv_status clv_vault_with_unsealing_key(clv_vault *vault, const clv_policy_key *key,
                                                      const clv_context *extra,
                                                      clv_bytes encrypted_key, uint64_t size,
                                                      clv_key_use use, void *with, clv_error *err);

/*
 * The secret that KMS derives with the key's peer_public_key (DeriveSharedSecret), 32, 48 or 66
 * bytes: the same each time, and nothing of it is stored anywhere. facts->encrypted_key is empty.
 */
CLV_NODISCARD clv_status clv_vault_with_shared_secret(clv_vault *vault, const clv_policy_key *key,
                                                      clv_key_use use, void *with, clv_error *err);

/*
 * The parent's key setup: resolve the request, generate, and keep nothing but the facts. The use
 * gets no key. */
typedef clv_status (*clv_setup_use)(void *with, const clv_key_facts *facts, clv_error *err);
CLV_NODISCARD clv_status clv_vault_setup(clv_vault *vault, clv_bytes request, clv_setup_use use,
                                         void *with, clv_error *err);

#endif

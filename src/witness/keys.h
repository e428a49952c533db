/*
 * The fleet's witness secret, and what is derived from it: the key that signs records, and the key
 * that opens TLS to the etcd cluster.
 *
 * The secret is a data key of KMS under the policy's key, in a context that no state and no agent
 * can have ("claviger:name" "/witness": a state's name does not begin with "/"). Its
 * CiphertextBlob is kept by the parent, which cannot open it; every enclave of the policy can. What
 * is derived stays in guarded memory while the daemon runs: each acknowledgement needs it.
 */
#ifndef CLV_WITNESS_KEYS_H
#define CLV_WITNESS_KEYS_H

#include <vault/derive.h>
#include <vault/vault.h>
#include <witness/record.h>

typedef struct clv_witness_keys {
    clv_secret *sign;                  /* Ed25519 seed */
    uint8_t verify[CLV_RECORD_PUBLIC]; /* its public half */
    EVP_PKEY *tls;                     /* P-256 */
} clv_witness_keys;

void clv_witness_keys_drop(clv_witness_keys *keys);

/* A new secret: its CiphertextBlob is appended. */
CLV_NODISCARD clv_status clv_witness_keys_make(clv_vault *vault, const clv_policy_key *key,
                                               clv_buf *blob, clv_error *err);
/* From the blob; the contexts of predecessors are tried too, so that a release keeps the secret. */
CLV_NODISCARD clv_status clv_witness_keys_open(clv_vault *vault, const clv_policy_key *key,
                                               clv_bytes blob, clv_witness_keys *out,
                                               clv_error *err);

/*
 * A PKCS #10 request (RFC 2986) for the TLS key, DER. Its subject is O "claviger witness", OU the
 * enclave's name, without a CN: etcd's gateway refuses certificates that have one.
 */
CLV_NODISCARD clv_status clv_witness_csr(const clv_witness_keys *keys, const char *enclave,
                                         clv_buf *der, clv_error *err);

/* A certificate in PEM that must be of the TLS key: CLV_WITNESS_CERTIFICATE. */
CLV_NODISCARD clv_status clv_witness_certificate(const clv_witness_keys *keys, clv_bytes pem,
                                                 X509 **out, clv_error *err);

#endif

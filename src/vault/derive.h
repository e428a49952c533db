/*
 * Derivation: one root data key, any number of unrelated keys (R15).
 *
 *     PRK = HKDF-Extract(SHA-512, salt "claviger derivation v1", root)     RFC 5869 section 2.2
 *     OKM = HKDF-Expand(SHA-512, PRK, info, L)                             RFC 5869 section 2.3
 *
 * info is deterministic CBOR (RFC 8949 section 4.2) of the array
 *
 *     [ "claviger-derive-1", key ARN, { encryption context }, algorithm, length, purpose, path ]
 *
 * so that a change of any of them gives another key. docs/derivation.md has test vectors. What the
 * output becomes:
 *
 *     raw           the bytes, 1 to CLV_DERIVE_MAX
 *     hmac-sha256   a key of 32 bytes for RFC 2104
 *     hmac-sha512   a key of 64 bytes
 *     ed25519       a seed of 32 bytes (RFC 8032 section 5.1.5)
 *     x25519        a scalar of 32 bytes, clamped where it is used (RFC 7748 section 5)
 *     p256          48 bytes c become the scalar (c mod (n-1)) + 1 (FIPS 186-5 appendix A.2.1),
 *     secp256k1     32 bytes big-endian
 *
 * Pure: nothing here asks KMS. The root comes from the vault and stays there.
 */
#ifndef CLV_VAULT_DERIVE_H
#define CLV_VAULT_DERIVE_H

#include <openssl/evp.h>

#include <claviger/operation.h>
#include <claviger/secret.h>

#define CLV_DERIVE_MAX         1024
#define CLV_DERIVE_TEXT_MAX    128 /* purpose and path, bytes */
#define CLV_DERIVE_ROOT_ID     16
#define CLV_DERIVE_PUBLIC_MAX  65
#define CLV_DERIVE_MESSAGE_MAX ((size_t)1024 * 1024)

typedef enum clv_derive_algorithm {
    CLV_DERIVE_RAW,
    CLV_DERIVE_HMAC_SHA256,
    CLV_DERIVE_HMAC_SHA512,
    CLV_DERIVE_ED25519,
    CLV_DERIVE_X25519,
    CLV_DERIVE_P256,
    CLV_DERIVE_SECP256K1,
    CLV_DERIVE_ALGORITHM_COUNT
} clv_derive_algorithm;

/* "raw", …: as in requests and in info. */
const char *clv_derive_algorithm_name(clv_derive_algorithm algorithm);
/* CLV_DERIVE_INVALID names the algorithms there are. */
CLV_NODISCARD clv_status clv_derive_algorithm_of(const char *name, clv_derive_algorithm *out,
                                                 clv_error *err);

typedef struct clv_derivation {
    clv_derive_algorithm algorithm;
    uint32_t length;     /* of the key in bytes; 0 for the algorithm's own */
    const char *purpose; /* both: 1 to CLV_DERIVE_TEXT_MAX bytes of printable ASCII */
    const char *path;
} clv_derivation;

/* Whether it can be derived, and length made definite. CLV_DERIVE_INVALID names the member. */
CLV_NODISCARD clv_status clv_derivation_check(clv_derivation *derivation, clv_error *err);

/* The info, appended. The derivation must have been checked. */
CLV_NODISCARD clv_status clv_derivation_info(const clv_derivation *derivation, const char *key_arn,
                                             const clv_context *context, clv_buf *info,
                                             clv_error *err);

/* The key itself, derivation->length bytes. */
CLV_NODISCARD clv_status clv_derive_key(const clv_secret *root, const clv_derivation *derivation,
                                        const char *key_arn, const clv_context *context,
                                        clv_secret **out, clv_error *err);

/* What tells roots apart and says nothing about them: HKDF with info "claviger-root-id-1". */
CLV_NODISCARD clv_status clv_derive_root_id(const clv_secret *root, uint8_t out[CLV_DERIVE_ROOT_ID],
                                            clv_error *err);

/* Whether keys of this algorithm have a public half. */
bool clv_derive_has_public(clv_derive_algorithm algorithm);

/*
 * The public key, appended: 32 bytes (ed25519: RFC 8032; x25519: RFC 7748), or an uncompressed
 * point of 65 bytes (SEC 1 section 2.3.3). CLV_DERIVE_INVALID: the algorithm has none.
 */
CLV_NODISCARD clv_status clv_derive_public(clv_derive_algorithm algorithm, const clv_secret *key,
                                           clv_buf *public_key, clv_error *err);

/* The key pair as an object of OpenSSL's, for what takes one (TLS): the curves and ed25519, x25519.
 * Its private half is in OpenSSL's locked heap. */
CLV_NODISCARD clv_status clv_derive_open(clv_derive_algorithm algorithm, const clv_secret *key,
                                         EVP_PKEY **out, clv_error *err);

/*
 * Sign, 64 bytes appended. ed25519: the message itself (RFC 8032). p256, secp256k1: r || s over
 * the SHA-256 of the message, or over `message` as a digest of 32 bytes when it is one; s is the
 * lower of its two values (BIP 62), so that wallets accept it. CLV_DERIVE_INVALID: the algorithm
 * does not sign, or the digest is not 32 bytes.
 */
CLV_NODISCARD clv_status clv_derive_sign(clv_derive_algorithm algorithm, const clv_secret *key,
                                         clv_bytes message, bool is_digest, clv_buf *signature,
                                         clv_error *err);

/* HMAC (RFC 2104) with a key of one of the hmac algorithms; the whole tag is appended. */
CLV_NODISCARD clv_status clv_derive_hmac(clv_derive_algorithm algorithm, const clv_secret *key,
                                         clv_bytes message, clv_buf *tag, clv_error *err);

#endif

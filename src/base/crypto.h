/* The few primitives that every room shares, over OpenSSL; its error queue ends here. */
#ifndef CLV_BASE_CRYPTO_H
#define CLV_BASE_CRYPTO_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <claviger/bytes.h>

#define CLV_SHA256_SIZE 32
#define CLV_SHA384_SIZE 48

CLV_NODISCARD clv_status clv_sha256(clv_bytes data, uint8_t out[CLV_SHA256_SIZE], clv_error *err);
CLV_NODISCARD clv_status clv_sha384(clv_bytes data, uint8_t out[CLV_SHA384_SIZE], clv_error *err);

/* Fail with this code, the sentence, and the newest reason in OpenSSL's queue, which is emptied. */
clv_status clv_fail_openssl(clv_error *err, clv_status code, const char *what);

/* For clv_auto: owned OpenSSL objects. */
typedef EVP_PKEY *clv_pkey;
void clv_pkey_drop(clv_pkey *pkey);
typedef X509 *clv_x509;
void clv_x509_drop(clv_x509 *x509);

/* The DER SubjectPublicKeyInfo (RFC 5280 section 4.1) of a key, appended. */
CLV_NODISCARD clv_status clv_spki_append(clv_buf *out, EVP_PKEY *key, clv_error *err);

/* Read one, with nothing behind it. CLV_BAD_ENCODING. */
CLV_NODISCARD clv_status clv_spki_parse(clv_bytes der, EVP_PKEY **out, clv_error *err);

/*
 * How many bytes a shared secret has that KMS derives with this public key (AWS KMS API reference,
 * DeriveSharedSecret: the x coordinate on P-256, P-384, P-521 or SM2). CLV_BAD_ENCODING: it is not
 * the SubjectPublicKeyInfo of a key on one of these curves, named and not written out.
 */
CLV_NODISCARD clv_status clv_spki_shared_size(clv_bytes der, size_t *size, clv_error *err);

#endif

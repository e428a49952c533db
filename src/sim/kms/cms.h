/*
 * CiphertextForRecipient as KMS writes it: a CMS EnvelopedData (RFC 5652 section 6) in BER with
 * indefinite lengths outside and DER inside, written by hand so that every byte is ours to choose.
 *
 *     ContentInfo (indefinite) { envelopedData, [0] (indefinite) EnvelopedData (indefinite) {
 *       2, SET { KeyTransRecipientInfo { 2, [0] SHA-256 of the recipient's SubjectPublicKeyInfo,
 *                rsaesOaep { SHA-256, MGF1 with SHA-256 } (RFC 4055), encrypted key } },
 *       EncryptedContentInfo (indefinite) { data, aes256-CBC (RFC 3565), [0] content } } }
 */
#ifndef CLV_SIM_KMS_CMS_H
#define CLV_SIM_KMS_CMS_H

#include <openssl/evp.h>

#include <claviger/bytes.h>

/* How encryptedContent is cut: all three occur in KMS's answers. */
typedef enum clv_cms_shape {
    CLV_CMS_ONE,       /* constructed [0] of indefinite length with one OCTET STRING */
    CLV_CMS_MANY,      /* constructed [0] of indefinite length with several */
    CLV_CMS_PRIMITIVE, /* primitive [0] */
    CLV_CMS_SHAPE_COUNT
} clv_cms_shape;

/* "one", "many", "primitive"; false when there is no such shape. */
bool clv_cms_shape_of(const char *name, clv_cms_shape *out);

/* Encrypt for an RSA key given by its DER SubjectPublicKeyInfo, under a fresh content key. */
CLV_NODISCARD clv_status clv_cms_seal(clv_bytes spki, clv_bytes plaintext, clv_cms_shape shape,
                                      clv_buf *out, clv_error *err);

/* The outside alone, from parts: for tests that compare with KMS's own bytes. */
typedef struct clv_cms_parts {
    uint8_t key_identifier[32];
    clv_bytes encrypted_key;
    uint8_t iv[16];
    clv_bytes content;
} clv_cms_parts;

CLV_NODISCARD clv_status clv_cms_encode(const clv_cms_parts *parts, clv_cms_shape shape,
                                        clv_buf *out, clv_error *err);

#endif

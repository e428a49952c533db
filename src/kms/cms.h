/*
 * CMS EnvelopedData (RFC 5652 section 6) as AWS KMS makes it, read without a library's generality:
 * BER (X.690) with definite or indefinite lengths, one KeyTransRecipientInfo by
 * subjectKeyIdentifier, RSAES-OAEP with SHA-256 and MGF1-SHA-256 named explicitly (RFC 4055 section
 * 4.1) and no label, AES-256-CBC (RFC 3565), and nothing behind it.
 */
#ifndef CLV_KMS_CMS_H
#define CLV_KMS_CMS_H

#include <claviger/kms.h>

#define CLV_CMS_RECIPIENT_ID_SIZE 32 /* SHA-256 of the SubjectPublicKeyInfo */
#define CLV_CMS_CONTENT_KEY_SIZE  32 /* AES-256 */
#define CLV_CMS_BLOCK_SIZE        16

/* The parts. The views point into the bytes that were parsed. */
typedef struct clv_cms {
    clv_bytes recipient_id;  /* CLV_CMS_RECIPIENT_ID_SIZE bytes */
    clv_bytes encrypted_key; /* the content key under RSAES-OAEP */
    clv_bytes iv;            /* CLV_CMS_BLOCK_SIZE bytes */
    clv_buf content;         /* AES-256-CBC, a positive multiple of the block, joined */
} clv_cms;

#define CLV_CMS_INIT                                   \
    {                                                  \
        {NULL, 0}, {NULL, 0}, {NULL, 0}, CLV_BUF_INIT, \
    }
void clv_cms_drop(clv_cms *cms);

/* CLV_CMS_FORMAT for the structure, CLV_CMS_ALGORITHM for an algorithm or its parameters. */
CLV_NODISCARD clv_status clv_cms_parse(clv_bytes bytes, clv_cms *out, clv_error *err);

/*
 * Decrypt the content with its key (CLV_CMS_CONTENT_KEY_SIZE bytes) into guarded memory and take
 * the padding off. A wrong key and wrong padding are both CLV_CMS_OPEN; the check of the padding
 * takes the same time whatever it finds.
 */
CLV_NODISCARD clv_status clv_cms_decrypt(const clv_cms *cms, const clv_secret *content_key,
                                         clv_secret **out, clv_error *err);

#endif

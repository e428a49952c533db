/*
 * What is sent to KMS and what comes back (AWS KMS API reference; protocol JSON 1.1). Pure: an
 * operation and a document become a body, a body becomes an answer.
 */
#ifndef CLV_KMS_MESSAGE_H
#define CLV_KMS_MESSAGE_H

#include <claviger/kms.h>

/* The largest answer that is read: two base64 values of CLV_CMS_MAX and CLV_PUBLIC_KEY_MAX bytes
 * and a CiphertextBlob, with room for the rest. */
#define CLV_KMS_BODY_MAX ((size_t)65536)

/* The request's JSON, appended. Every value is the operation's; the Recipient carries the
 * document. CLV_OPERATION_INVALID: a member that KMS would not take. */
CLV_NODISCARD clv_status clv_kms_request(const clv_operation *operation, clv_bytes document,
                                         clv_buf *out, clv_error *err);

/* What a successful answer holds, before anything is decrypted. */
typedef struct clv_kms_body {
    clv_buf recipient_ciphertext; /* CiphertextForRecipient: CMS */
    clv_buf ciphertext_blob;
    clv_buf public_key;
} clv_kms_body;

#define CLV_KMS_BODY_INIT                        \
    {                                            \
        CLV_BUF_INIT, CLV_BUF_INIT, CLV_BUF_INIT \
    }
void clv_kms_body_drop(clv_kms_body *body);

/*
 * Read the body of an answer with status 200. CLV_KMS_PLAINTEXT: a member that only a request
 * without a Recipient may get is not null. CLV_KMS_KEY_MISMATCH: KeyId is not the operation's.
 * CLV_KMS_RESPONSE: anything else that is missing, malformed or out of bounds.
 */
CLV_NODISCARD clv_status clv_kms_response(const clv_operation *operation, clv_bytes text,
                                          clv_kms_body *out, clv_error *err);

/* Whether this plaintext can be what the operation asked for: of its length, and for a key pair one
 * DER value to its end (PKCS #8). CLV_KMS_RESPONSE. */
CLV_NODISCARD clv_status clv_kms_check_plaintext(const clv_operation *operation,
                                                 const clv_secret *plaintext, clv_error *err);

#endif

/*
 * Makes CMS EnvelopedData as KMS does, and with any one element replaced: the tests' own encoder,
 * which shares nothing with the reader under test.
 */
#ifndef CLV_TESTS_CMS_WRITER_H
#define CLV_TESTS_CMS_WRITER_H

#include <openssl/evp.h>

#include <claviger/bytes.h>

/* In the order in which they stand in the message. The END ones are what follows inside a
 * container: nothing, by default. */
typedef enum cms_element {
    CMS_OUTER_OID,
    CMS_VERSION,
    CMS_ORIGINATOR,
    CMS_RECIPIENT_VERSION,
    CMS_RECIPIENT_ID,
    CMS_KEY_ALGORITHM,
    CMS_OAEP_HASH,
    CMS_OAEP_MASK,
    CMS_OAEP_LABEL,
    CMS_OAEP_END,
    CMS_KEY_ALGORITHM_END,
    CMS_ENCRYPTED_KEY,
    CMS_RECIPIENT_END,
    CMS_RECIPIENTS_END,
    CMS_CONTENT_TYPE,
    CMS_CIPHER,
    CMS_IV,
    CMS_CIPHER_END,
    CMS_CONTENT,
    CMS_CONTENT_END,
    CMS_ENVELOPED_END,
    CMS_EXPLICIT_END,
    CMS_OUTER_END,
    CMS_TRAILING,
    CMS_ELEMENT_COUNT
} cms_element;

typedef enum cms_content_form {
    CMS_ONE_PIECE, /* constructed [0], one OCTET STRING */
    CMS_SEVERAL_PIECES,
    CMS_PRIMITIVE,
} cms_content_form;

typedef struct cms_shape {
    bool definite;     /* lengths of the containers KMS leaves indefinite */
    bool long_lengths; /* four octets for each definite length */
    bool no_null;      /* SHA-256 without its NULL parameters */
    cms_content_form form;
    /* In the place of the element, when p is set: its whole encoding. */
    clv_bytes replaced[CMS_ELEMENT_COUNT];
    size_t key_length; /* of the content key that is wrapped; 0: 32 */
    bool keep_padding; /* the plaintext comes padded already */
} cms_shape;

/* Exits the test on any failure: what it needs is there. */
void cms_write(const cms_shape *shape, EVP_PKEY *recipient, clv_bytes plaintext, clv_buf *out);

/* One encoding, appended. */
void ber_write(clv_buf *out, uint8_t tag, clv_bytes content);

#endif

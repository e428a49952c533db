/*
 * Sealed messages: the AWS Encryption SDK message format, version 2, suite 0x0478
 * (AES-256-GCM, HKDF-SHA-512, key commitment, no signature), framed body
 * (github.com/awslabs/aws-encryption-sdk-specification: data-format/message-header.md,
 * data-format/message-body.md, framework/algorithm-suites.md).
 *
 * This header is the format alone: a data key comes in, a stream goes out. Where the data key
 * comes from, and which key and context a message may name, is the vault's and policy's part.
 */
#ifndef CLAVIGER_SEAL_H
#define CLAVIGER_SEAL_H

#include <claviger/operation.h>
#include <claviger/secret.h>

#define CLV_SEAL_SUITE_ID   0x0478
#define CLV_SEAL_FRAME      4096 /* plaintext bytes a frame, the SDKs' default */
#define CLV_SEAL_FRAME_MAX  (1024 * 1024)
#define CLV_SEAL_KEY_SIZE   32
#define CLV_SEAL_HEADER_MAX 65536
#define CLV_SEAL_PROVIDER   "aws-kms"

/* One of a message's encrypted data keys, which all hold the same data key. */
typedef struct clv_seal_data_key {
    clv_bytes provider; /* CLV_SEAL_PROVIDER for a key of KMS */
    clv_bytes key_arn;  /* the provider's information: KMS's is the key's ARN */
    clv_bytes encrypted;
} clv_seal_data_key;

/* What a header says. Nothing of it is believed: the caller compares it with the policy. */
typedef struct clv_seal_header {
    clv_bytes raw; /* the authenticated bytes, from version to commitment */
    uint16_t suite;
    clv_bytes message_id; /* 32 bytes */
    clv_context context;
    clv_seal_data_key data_key[CLV_ENCRYPTED_DATA_KEYS_MAX];
    size_t data_key_count; /* 1 to CLV_ENCRYPTED_DATA_KEYS_MAX */
    uint32_t frame_length;
    clv_bytes commitment; /* 32 bytes */
    size_t length;        /* of the whole header, authentication tag included */
    clv_bytes iv_tag;     /* header authentication: the 16 byte tag */
} clv_seal_header;
void clv_seal_header_drop(clv_seal_header *header);

/* CLV_TRUNCATED: more bytes are needed. Views point into bytes. */
CLV_NODISCARD clv_status clv_seal_header_parse(clv_bytes bytes, clv_seal_header *out,
                                               clv_error *err);

/* Where output goes, a piece at a time. A failure stops the stream. */
typedef clv_status (*clv_sink)(void *to, clv_bytes piece, clv_error *err);
/* A sink that appends to a clv_buf. */
clv_status clv_sink_buf(void *buf, clv_bytes piece, clv_error *err);

typedef struct clv_sealer clv_sealer;
/* Writes the header to the sink. */
CLV_NODISCARD clv_status clv_sealer_new(const clv_secret *data_key, const char *key_arn,
                                        clv_bytes encrypted_data_key, const clv_context *context,
                                        uint32_t frame_length, clv_sink sink, void *to,
                                        clv_sealer **out, clv_error *err);
/* The bytes that a body of n bytes of plaintext takes. */
size_t clv_sealer_room(const clv_sealer *sealer, size_t n);
CLV_NODISCARD clv_status clv_sealer_update(clv_sealer *sealer, clv_bytes plaintext, clv_error *err);
CLV_NODISCARD clv_status clv_sealer_finish(clv_sealer *sealer, clv_error *err);
void clv_sealer_free(clv_sealer **sealer);

typedef struct clv_unsealer clv_unsealer;
/*
 * header: parsed and already compared. Checks commitment and header tag at once. Feed it the bytes
 * that follow the header. A frame's plaintext reaches the sink only after its tag verified; what
 * a stream released before a failure must be thrown away by the caller (docs/sealing.md).
 */
CLV_NODISCARD clv_status clv_unsealer_new(const clv_secret *data_key, const clv_seal_header *header,
                                          clv_sink sink, void *to, clv_unsealer **out,
                                          clv_error *err);
CLV_NODISCARD clv_status clv_unsealer_update(clv_unsealer *unsealer, clv_bytes ciphertext,
                                             clv_error *err);
/* CLV_TRUNCATED when the final frame has not come, CLV_SEAL_TRAILING when bytes followed it. */
CLV_NODISCARD clv_status clv_unsealer_finish(clv_unsealer *unsealer, clv_error *err);
void clv_unsealer_free(clv_unsealer **unsealer);

#endif

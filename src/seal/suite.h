/*
 * Suite 0x0478 for one message: what it derives from the data key, and its AES-256-GCM.
 *
 * framework/algorithm-suites.md: HKDF with SHA-512, salt = message id; the encryption key has the
 * info "<suite id>DERIVEKEY", the commitment key "COMMITKEY" (client-apis/key-derivation.md). The
 * data key itself encrypts nothing, so that one data key may serve several messages.
 */
#ifndef CLV_SEAL_SUITE_H
#define CLV_SEAL_SUITE_H

#include <claviger/seal.h>

#define CLV_SEAL_MESSAGE_ID_SIZE 32
#define CLV_SEAL_COMMITMENT_SIZE 32
#define CLV_SEAL_IV_SIZE         12
#define CLV_SEAL_TAG_SIZE        16

typedef struct clv_suite clv_suite;

typedef enum clv_suite_direction {
    CLV_SUITE_OPEN = 0, /* as EVP_CipherInit_ex() numbers them */
    CLV_SUITE_SEAL = 1,
} clv_suite_direction;

/* Derives both keys. CLV_INTERNAL when the data key is not CLV_SEAL_KEY_SIZE bytes. */
CLV_NODISCARD clv_status clv_suite_new(const clv_secret *data_key, clv_bytes message_id,
                                       clv_suite_direction direction, clv_suite **out,
                                       clv_error *err);
void clv_suite_free(clv_suite **suite);

/* CLV_SEAL_COMMITMENT_SIZE bytes, valid as long as the suite. */
clv_bytes clv_suite_commitment(const clv_suite *suite);

/*
 * The header's authentication tag: GCM over nothing with the header body as additional data and an
 * IV of zeros (data-format/message-header.md, "Header Authentication Version 2.0").
 */
CLV_NODISCARD clv_status clv_suite_seal_header(clv_suite *suite, clv_bytes body,
                                               uint8_t tag[CLV_SEAL_TAG_SIZE], clv_error *err);
/* CLV_SEAL_AUTHENTICATION. */
CLV_NODISCARD clv_status clv_suite_open_header(clv_suite *suite, clv_bytes body, clv_bytes tag,
                                               clv_error *err);

/*
 * The IV of a frame that is written: its sequence number, padded to the left
 * (client-apis/encrypt.md).
 */
void clv_suite_frame_iv(uint32_t sequence, uint8_t iv[CLV_SEAL_IV_SIZE]);

/*
 * One frame's content, with the additional data of data-format/message-body-aad.md. `to` has room
 * for content.n bytes. Opening compares the tag (CLV_SEAL_AUTHENTICATION, and `to` is wiped). Its
 * iv is what the frame carries (data-format/message-body.md, "Regular Frame IV"): messages whose
 * IVs are not their sequence numbers are among the published test vectors. The tag covers the
 * sequence number all the same.
 */
CLV_NODISCARD clv_status clv_suite_seal_frame(clv_suite *suite, bool final, uint32_t sequence,
                                              clv_bytes content, uint8_t *to,
                                              uint8_t tag[CLV_SEAL_TAG_SIZE], clv_error *err);
CLV_NODISCARD clv_status clv_suite_open_frame(clv_suite *suite, bool final, uint32_t sequence,
                                              clv_bytes iv, clv_bytes content, clv_bytes tag,
                                              uint8_t *to, clv_error *err);

#endif

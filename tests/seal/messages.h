/* Messages to test with: one key, one context, any size and frame length. */
#ifndef CLV_TESTS_SEAL_MESSAGES_H
#define CLV_TESTS_SEAL_MESSAGES_H

#include "../check.h"

#include <claviger/seal.h>

#define TEST_ARN           "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define TEST_ENCRYPTED_KEY "the data key as KMS gave it"

static inline void test_key(uint8_t first, clv_secret **out)
{
    assert_ok(clv_secret_new(CLV_SEAL_KEY_SIZE, out, err));
    for (size_t i = 0; i < CLV_SEAL_KEY_SIZE; i++)
        clv_secret_writable(*out)[i] = (uint8_t)(first + i);
}

static inline void test_context(clv_context *out)
{
    assert_ok(clv_context_add(out, "Purpose", "AgentSecrets", err));
    assert_ok(clv_context_add(out, "claviger:name", "wallet", err));
    assert_ok(clv_context_add(out, "claviger:generation", "7", err));
}

static inline void test_plaintext(size_t n, clv_buf *out)
{
    for (size_t i = 0; i < n; i++)
        assert_ok(clv_buf_u8(out, (uint8_t)(i * 31 + i / 251), err));
}

static inline void test_seal(const clv_secret *key, clv_bytes plaintext, uint32_t frame_length,
                             clv_buf *sealed)
{
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    test_context(&context);
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of(TEST_ENCRYPTED_KEY), &context,
                             frame_length, clv_sink_buf, sealed, &sealer, err));
    assert_ok(clv_sealer_update(sealer, plaintext, err));
    assert_ok(clv_sealer_finish(sealer, err));
}

/* Header, then the rest in pieces of `step` bytes (0: at once); all that was released in *out. */
static inline clv_status test_unseal(const clv_secret *key, clv_bytes sealed, size_t step,
                                     clv_buf *out, clv_error *err)
{
    clv_auto(clv_seal_header) header = {0};
    clv_auto_ptr(clv_unsealer) unsealer = NULL;
    CLV_TRY(clv_seal_header_parse(sealed, &header, err));
    CLV_TRY(clv_unsealer_new(key, &header, clv_sink_buf, out, &unsealer, err));
    clv_cursor c = clv_cursor_of(sealed);
    clv_bytes piece;
    CLV_TRY(clv_cursor_take(&c, header.length, &piece, err));
    while (c.rest.n > 0) {
        CLV_TRY(clv_cursor_take(&c, step == 0 || step > c.rest.n ? c.rest.n : step, &piece, err));
        CLV_TRY(clv_unsealer_update(unsealer, piece, err));
    }
    return clv_unsealer_finish(unsealer, err);
}

#endif

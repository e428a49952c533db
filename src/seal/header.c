#include <seal/header.h>

#include <stdlib.h>

#include <seal/suite.h>

void clv_seal_header_drop(clv_seal_header *header)
{
    clv_context_drop(&header->context);
    *header = (clv_seal_header){0};
}

clv_status clv_seal_frame_length_check(uint32_t frame_length, clv_error *err)
{
    if (frame_length == 0 || frame_length > CLV_SEAL_FRAME_MAX)
        return clv_fail(err, CLV_SEAL_FRAME_LENGTH,
                        "expected frames of 1 to %d bytes, found a frame length of %u",
                        CLV_SEAL_FRAME_MAX, frame_length);
    return CLV_OK;
}

/* A string with its u16 length in front: the shape of every variable field. */
static clv_status put_field(clv_buf *out, clv_bytes bytes, clv_error *err)
{
    if (bytes.n > UINT16_MAX)
        return clv_fail(err, CLV_TOO_LARGE, "expected a field of at most %d bytes, found %zu",
                        UINT16_MAX, bytes.n);
    CLV_TRY(clv_buf_u16(out, (uint16_t)bytes.n, err));
    return clv_buf_append(out, bytes, err);
}

static clv_status take_field(clv_cursor *c, clv_bytes *out, clv_error *err)
{
    uint16_t n;
    CLV_TRY(clv_cursor_u16(c, &n, err));
    return clv_cursor_take(c, n, out, err);
}

/* "AAD": nothing but a length of zero when the context is empty. */
static clv_status put_context(clv_buf *out, const clv_context *context, clv_error *err)
{
    clv_auto(clv_buf) pairs = CLV_BUF_LIMITED(UINT16_MAX);
    if (context->count > 0)
        CLV_TRY(clv_buf_u16(&pairs, (uint16_t)context->count, err));
    for (size_t i = 0; i < context->count; i++) {
        CLV_TRY(put_field(&pairs, clv_bytes_of(context->pair[i].key), err));
        CLV_TRY(put_field(&pairs, clv_bytes_of(context->pair[i].value), err));
    }
    return put_field(out, clv_buf_bytes(&pairs), err);
}

clv_status clv_seal_header_append(clv_buf *out, clv_bytes message_id, const clv_context *context,
                                  const char *key_arn, clv_bytes encrypted_data_key,
                                  uint32_t frame_length, clv_bytes commitment, clv_error *err)
{
    CLV_TRY(clv_seal_frame_length_check(frame_length, err));
    CLV_TRY(clv_buf_u8(out, CLV_SEAL_MESSAGE_VERSION, err));
    CLV_TRY(clv_buf_u16(out, CLV_SEAL_SUITE_ID, err));
    CLV_TRY(clv_buf_append(out, message_id, err));
    CLV_TRY(put_context(out, context, err));
    CLV_TRY(clv_buf_u16(out, 1, err)); /* encrypted data keys */
    CLV_TRY(put_field(out, clv_bytes_of(CLV_SEAL_PROVIDER), err));
    CLV_TRY(put_field(out, clv_bytes_of(key_arn), err));
    CLV_TRY(put_field(out, encrypted_data_key, err));
    CLV_TRY(clv_buf_u8(out, CLV_SEAL_CONTENT_FRAMED, err));
    CLV_TRY(clv_buf_u32(out, frame_length, err));
    return clv_buf_append(out, commitment, err);
}

/* One pair of the context; pairs stand in the order of their keys' bytes, each key once. */
static clv_status take_pair(clv_cursor *c, clv_context *context, clv_error *err)
{
    clv_bytes key_bytes;
    clv_bytes value_bytes;
    clv_auto(clv_text) key = NULL;
    clv_auto(clv_text) value = NULL;
    CLV_TRY(take_field(c, &key_bytes, err));
    CLV_TRY(take_field(c, &value_bytes, err));
    if (!clv_utf8_valid(key_bytes) || !clv_utf8_valid(value_bytes))
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected UTF-8 without NUL in the encryption context, found other bytes");
    CLV_TRY(clv_text_dup(key_bytes, &key, err));
    CLV_TRY(clv_text_dup(value_bytes, &value, err));
    if (context->count > 0 && strcmp(context->pair[context->count - 1].key, key) >= 0)
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected the encryption context in the order of its keys, each once, "
                        "found them otherwise");
    return clv_context_add(context, key, value, err);
}

static clv_status parse_pairs(clv_bytes pairs, clv_context *context, clv_error *err)
{
    clv_cursor c = clv_cursor_of(pairs);
    uint16_t count;
    CLV_TRY(clv_cursor_u16(&c, &count, err));
    if (count == 0 || count > CLV_CONTEXT_PAIRS_MAX)
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected 1 to %d pairs in an encryption context that is there, found %u",
                        CLV_CONTEXT_PAIRS_MAX, count);
    for (uint16_t i = 0; i < count; i++)
        CLV_TRY(take_pair(&c, context, err));
    if (c.rest.n != 0)
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected the encryption context to fill its length, found %zu bytes more",
                        c.rest.n);
    return CLV_OK;
}

static clv_status take_context(clv_cursor *c, clv_context *context, clv_error *err)
{
    clv_bytes pairs;
    CLV_TRY(take_field(c, &pairs, err));
    if (pairs.n == 0)
        return CLV_OK;
    clv_status status = parse_pairs(pairs, context, err);
    /* Inside a field whose length is known, what is missing will not come. */
    if (status == CLV_TRUNCATED || status == CLV_OPERATION_INVALID)
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected pairs of text in the encryption context, found them malformed");
    return status;
}

static clv_status take_data_key(clv_cursor *c, clv_seal_data_key *out, clv_error *err)
{
    CLV_TRY(take_field(c, &out->provider, err));
    CLV_TRY(take_field(c, &out->key_arn, err));
    CLV_TRY(take_field(c, &out->encrypted, err));
    if (out->key_arn.n > CLV_KEY_ARN_MAX || out->encrypted.n == 0 ||
        out->encrypted.n > CLV_CIPHERTEXT_BLOB_MAX)
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected an encrypted data key of 1 to %d bytes under a key name of at "
                        "most %d, found %zu and %zu",
                        CLV_CIPHERTEXT_BLOB_MAX, CLV_KEY_ARN_MAX, out->encrypted.n, out->key_arn.n);
    return CLV_OK;
}

static clv_status take_data_keys(clv_cursor *c, clv_seal_header *out, clv_error *err)
{
    uint16_t count;
    CLV_TRY(clv_cursor_u16(c, &count, err));
    if (count == 0 || count > CLV_ENCRYPTED_DATA_KEYS_MAX)
        return clv_fail(err, CLV_SEAL_DATA_KEYS, "expected 1 to %d encrypted data keys, found %u",
                        CLV_ENCRYPTED_DATA_KEYS_MAX, count);
    for (uint16_t i = 0; i < count; i++)
        CLV_TRY(take_data_key(c, &out->data_key[i], err));
    out->data_key_count = count;
    return CLV_OK;
}

static clv_status take_version_and_suite(clv_cursor *c, clv_seal_header *out, clv_error *err)
{
    uint8_t version;
    CLV_TRY(clv_cursor_u8(c, &version, err));
    if (version != CLV_SEAL_MESSAGE_VERSION)
        return clv_fail(err, CLV_SEAL_VERSION, "expected message version %d, found %u",
                        CLV_SEAL_MESSAGE_VERSION, version);
    CLV_TRY(clv_cursor_u16(c, &out->suite, err));
    if (out->suite != CLV_SEAL_SUITE_ID)
        return clv_fail(err, CLV_SEAL_SUITE,
                        "expected algorithm suite 0x%04x, which commits to its key, found 0x%04x",
                        CLV_SEAL_SUITE_ID, out->suite);
    return CLV_OK;
}

static clv_status take_framing(clv_cursor *c, clv_seal_header *out, clv_error *err)
{
    uint8_t content_type;
    CLV_TRY(clv_cursor_u8(c, &content_type, err));
    if (content_type != CLV_SEAL_CONTENT_FRAMED)
        return clv_fail(err, CLV_SEAL_UNFRAMED,
                        "expected a framed body (%d), found content type %u",
                        CLV_SEAL_CONTENT_FRAMED, content_type);
    CLV_TRY(clv_cursor_u32(c, &out->frame_length, err));
    return clv_seal_frame_length_check(out->frame_length, err);
}

static clv_status parse(clv_bytes bytes, clv_seal_header *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    CLV_TRY(take_version_and_suite(&c, out, err));
    CLV_TRY(clv_cursor_take(&c, CLV_SEAL_MESSAGE_ID_SIZE, &out->message_id, err));
    CLV_TRY(take_context(&c, &out->context, err));
    CLV_TRY(take_data_keys(&c, out, err));
    CLV_TRY(take_framing(&c, out, err));
    CLV_TRY(clv_cursor_take(&c, CLV_SEAL_COMMITMENT_SIZE, &out->commitment, err));
    out->raw = CLV_BYTES(bytes.p, bytes.n - c.rest.n);
    CLV_TRY(clv_cursor_take(&c, CLV_SEAL_TAG_SIZE, &out->iv_tag, err));
    out->length = bytes.n - c.rest.n;
    return CLV_OK;
}

clv_status clv_seal_header_parse(clv_bytes bytes, clv_seal_header *out, clv_error *err)
{
    clv_auto(clv_seal_header) header = {0};
    clv_status status = parse(bytes, &header, err);
    if (status == CLV_TRUNCATED && bytes.n >= CLV_SEAL_HEADER_MAX)
        return clv_fail(err, CLV_SEAL_FORMAT, "expected a header of at most %d bytes, found more",
                        CLV_SEAL_HEADER_MAX);
    CLV_TRY(status);
    *out = header;
    header = (clv_seal_header){0};
    return CLV_OK;
}

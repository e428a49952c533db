#include <seal/sealer.h>

#include <stdlib.h>

#include <sodium.h>

#include <seal/header.h>
#include <seal/suite.h>

/* End marker, sequence number, IV, content length: what stands before the final frame's content. */
#define FINAL_HEAD (4 + 4 + CLV_SEAL_IV_SIZE + 4)

struct clv_sealer {
    clv_suite *suite;
    uint32_t frame_length;
    uint32_t sequence; /* of the next frame, from 1 */
    clv_sink sink;
    void *to;
    clv_buf pending; /* plaintext of a frame that may still turn out to be the last */
    clv_buf frame;   /* where a frame is made */
    clv_status broken;
    bool finished;
};

void clv_sealer_free(clv_sealer **sealer)
{
    if (*sealer == NULL)
        return;
    clv_suite_free(&(*sealer)->suite);
    clv_buf_drop(&(*sealer)->pending);
    clv_buf_drop(&(*sealer)->frame);
    free(*sealer);
    *sealer = NULL;
}

clv_status clv_sink_buf(void *buf, clv_bytes piece, clv_error *err)
{
    return clv_buf_append(buf, piece, err);
}

static clv_status write_header(clv_sealer *sealer, clv_bytes message_id, const char *key_arn,
                               clv_bytes encrypted_data_key, const clv_context *context,
                               clv_error *err)
{
    clv_auto(clv_buf) header = CLV_BUF_LIMITED(CLV_SEAL_HEADER_MAX);
    uint8_t tag[CLV_SEAL_TAG_SIZE];
    CLV_TRY(clv_seal_header_append(&header, message_id, context, key_arn, encrypted_data_key,
                                   sealer->frame_length, clv_suite_commitment(sealer->suite), err));
    CLV_TRY(clv_suite_seal_header(sealer->suite, clv_buf_bytes(&header), tag, err));
    CLV_TRY(clv_buf_append(&header, CLV_BYTES(tag, sizeof tag), err));
    return sealer->sink(sealer->to, clv_buf_bytes(&header), err);
}

clv_status clv_sealer_new(const clv_secret *data_key, const char *key_arn,
                          clv_bytes encrypted_data_key, const clv_context *context,
                          uint32_t frame_length, clv_sink sink, void *to, clv_sealer **out,
                          clv_error *err)
{
    CLV_TRY(clv_seal_frame_length_check(frame_length, err));
    clv_auto_ptr(clv_sealer) sealer = calloc(1, sizeof *sealer);
    uint8_t message_id[CLV_SEAL_MESSAGE_ID_SIZE];
    uint8_t *room;
    if (sealer == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a sealer");
    sealer->frame_length = frame_length;
    sealer->sequence = 1;
    sealer->sink = sink;
    sealer->to = to;
    CLV_TRY(clv_buf_reserve(&sealer->pending, frame_length, &room, err));
    CLV_TRY(
        clv_buf_reserve(&sealer->frame, FINAL_HEAD + frame_length + CLV_SEAL_TAG_SIZE, &room, err));

    randombytes_buf(message_id, sizeof message_id);
    clv_bytes id = CLV_BYTES(message_id, sizeof message_id);
    CLV_TRY(clv_suite_new(data_key, id, CLV_SUITE_SEAL, &sealer->suite, err));
    CLV_TRY(write_header(sealer, id, key_arn, encrypted_data_key, context, err));
    *out = sealer;
    sealer = NULL;
    return CLV_OK;
}

size_t clv_sealer_room(const clv_sealer *sealer, size_t n)
{
    size_t regular = n > 0 ? (n - 1) / sealer->frame_length : 0;
    return n + regular * (4 + CLV_SEAL_IV_SIZE + CLV_SEAL_TAG_SIZE) + FINAL_HEAD +
           CLV_SEAL_TAG_SIZE;
}

static clv_status put_head(clv_sealer *sealer, bool final, size_t length, clv_error *err)
{
    uint8_t iv[CLV_SEAL_IV_SIZE];
    clv_suite_frame_iv(sealer->sequence, iv);
    sealer->frame.n = 0;
    if (final)
        CLV_TRY(clv_buf_u32(&sealer->frame, CLV_SEAL_END_MARKER, err));
    CLV_TRY(clv_buf_u32(&sealer->frame, sealer->sequence, err));
    CLV_TRY(clv_buf_append(&sealer->frame, CLV_BYTES(iv, sizeof iv), err));
    return final ? clv_buf_u32(&sealer->frame, (uint32_t)length, err) : CLV_OK;
}

static clv_status emit(clv_sealer *sealer, bool final, clv_bytes content, clv_error *err)
{
    /* The last number is the end marker: only a final frame could carry it. */
    if (!final && sealer->sequence == CLV_SEAL_END_MARKER)
        return clv_fail(err, CLV_TOO_LARGE,
                        "expected at most 2^32 - 1 frames of %u bytes in a message, found more",
                        sealer->frame_length);
    uint8_t *to;
    CLV_TRY(put_head(sealer, final, content.n, err));
    CLV_TRY(clv_buf_reserve(&sealer->frame, content.n + CLV_SEAL_TAG_SIZE, &to, err));
    CLV_TRY(clv_suite_seal_frame(sealer->suite, final, sealer->sequence, content, to,
                                 to + content.n, err));
    sealer->frame.n += content.n + CLV_SEAL_TAG_SIZE;
    CLV_TRY(sealer->sink(sealer->to, clv_buf_bytes(&sealer->frame), err));
    sealer->sequence++;
    return CLV_OK;
}

/* A full frame is sealed only when a byte follows it: it might be the final one. */
static clv_status update(clv_sealer *sealer, clv_bytes plaintext, clv_error *err)
{
    clv_cursor c = clv_cursor_of(plaintext);
    clv_bytes piece;
    while (sealer->pending.n + c.rest.n > sealer->frame_length) {
        size_t n = sealer->frame_length - sealer->pending.n;
        CLV_TRY(clv_cursor_take(&c, n, &piece, err));
        if (sealer->pending.n > 0) {
            CLV_TRY(clv_buf_append(&sealer->pending, piece, err));
            piece = clv_buf_bytes(&sealer->pending);
        }
        CLV_TRY(emit(sealer, false, piece, err));
        sealer->pending.n = 0;
    }
    return clv_buf_append(&sealer->pending, c.rest, err);
}

static clv_status check_usable(const clv_sealer *sealer, clv_error *err)
{
    if (sealer->broken != CLV_OK)
        return clv_fail(err, sealer->broken, "the stream failed before");
    if (sealer->finished)
        return clv_fail(err, CLV_INTERNAL, "the stream was finished before");
    return CLV_OK;
}

clv_status clv_sealer_update(clv_sealer *sealer, clv_bytes plaintext, clv_error *err)
{
    CLV_TRY(check_usable(sealer, err));
    sealer->broken = update(sealer, plaintext, err);
    return sealer->broken;
}

clv_status clv_sealer_finish(clv_sealer *sealer, clv_error *err)
{
    CLV_TRY(check_usable(sealer, err));
    sealer->finished = true;
    sealer->broken = emit(sealer, true, clv_buf_bytes(&sealer->pending), err);
    return sealer->broken;
}

void clv_sealer_skip_to(clv_sealer *sealer, uint32_t sequence)
{
    sealer->sequence = sequence;
}

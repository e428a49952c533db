#include <stdlib.h>

#include <seal/header.h>
#include <seal/sealer.h>
#include <seal/suite.h>

/* Bytes of a regular frame around its content. */
#define REGULAR_OVERHEAD (4 + CLV_SEAL_IV_SIZE + CLV_SEAL_TAG_SIZE)
/* End marker, sequence number, IV, content length: what tells a final frame's size. */
#define FINAL_HEAD (4 + 4 + CLV_SEAL_IV_SIZE + 4)

struct clv_unsealer {
    clv_suite *suite;
    uint32_t frame_length;
    uint32_t sequence; /* of the next frame, from 1 */
    clv_sink sink;
    void *to;
    clv_buf held;  /* the part of a frame that has come */
    clv_buf plain; /* where a frame is opened */
    clv_status broken;
    bool final_seen;
};

void clv_unsealer_free(clv_unsealer **unsealer)
{
    if (*unsealer == NULL)
        return;
    clv_suite_free(&(*unsealer)->suite);
    clv_buf_drop(&(*unsealer)->held);
    clv_buf_drop(&(*unsealer)->plain);
    free(*unsealer);
    *unsealer = NULL;
}

clv_status clv_unsealer_new(const clv_secret *data_key, const clv_seal_header *header,
                            clv_sink sink, void *to, clv_unsealer **out, clv_error *err)
{
    CLV_TRY(clv_seal_frame_length_check(header->frame_length, err));
    clv_auto_ptr(clv_unsealer) unsealer = calloc(1, sizeof *unsealer);
    if (unsealer == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an unsealer");
    unsealer->frame_length = header->frame_length;
    unsealer->sequence = 1;
    unsealer->sink = sink;
    unsealer->to = to;
    CLV_TRY(clv_suite_new(data_key, header->message_id, CLV_SUITE_OPEN, &unsealer->suite, err));
    if (!clv_bytes_equal_secret(header->commitment, clv_suite_commitment(unsealer->suite)))
        return clv_fail(err, CLV_SEAL_COMMITMENT,
                        "expected the commitment of the data key that KMS gave, found another");
    CLV_TRY(clv_suite_open_header(unsealer->suite, header->raw, header->iv_tag, err));
    *out = unsealer;
    unsealer = NULL;
    return CLV_OK;
}

/* A frame, taken apart. */
typedef struct frame {
    bool final;
    uint32_t sequence;
    clv_bytes iv;
    clv_bytes content;
    clv_bytes tag;
} frame;

/*
 * How many bytes the frame that begins like this needs; fewer than a head tell only how many are
 * needed to know more.
 */
static clv_status frame_size(const clv_unsealer *unsealer, clv_bytes start, size_t *out,
                             clv_error *err)
{
    clv_cursor c = clv_cursor_of(start);
    uint32_t first;
    uint32_t length;
    clv_bytes between;
    *out = 4;
    if (start.n < *out)
        return CLV_OK;
    CLV_TRY(clv_cursor_u32(&c, &first, err));
    if (first != CLV_SEAL_END_MARKER) {
        *out = REGULAR_OVERHEAD + (size_t)unsealer->frame_length;
        return CLV_OK;
    }
    *out = FINAL_HEAD;
    if (start.n < *out)
        return CLV_OK;
    CLV_TRY(clv_cursor_take(&c, 4 + CLV_SEAL_IV_SIZE, &between, err));
    CLV_TRY(clv_cursor_u32(&c, &length, err));
    if (length > unsealer->frame_length)
        return clv_fail(err, CLV_SEAL_FORMAT,
                        "expected a final frame of at most %u bytes, found %u",
                        unsealer->frame_length, length);
    *out = FINAL_HEAD + (size_t)length + CLV_SEAL_TAG_SIZE;
    return CLV_OK;
}

static clv_status take_frame(clv_bytes bytes, frame *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    uint32_t length;
    CLV_TRY(clv_cursor_u32(&c, &out->sequence, err));
    out->final = out->sequence == CLV_SEAL_END_MARKER;
    if (out->final)
        CLV_TRY(clv_cursor_u32(&c, &out->sequence, err));
    CLV_TRY(clv_cursor_take(&c, CLV_SEAL_IV_SIZE, &out->iv, err));
    if (out->final)
        CLV_TRY(clv_cursor_u32(&c, &length, err));
    CLV_TRY(clv_cursor_take(&c, c.rest.n - CLV_SEAL_TAG_SIZE, &out->content, err));
    return clv_cursor_take(&c, CLV_SEAL_TAG_SIZE, &out->tag, err);
}

static clv_status open_frame(clv_unsealer *unsealer, clv_bytes bytes, clv_error *err)
{
    frame f;
    uint8_t *to;
    CLV_TRY(take_frame(bytes, &f, err));
    if (f.sequence != unsealer->sequence)
        return clv_fail(err, CLV_SEAL_AUTHENTICATION, "expected frame %u, found frame %u",
                        unsealer->sequence, f.sequence);
    CLV_TRY(clv_buf_reserve(&unsealer->plain, f.content.n, &to, err));
    CLV_TRY(clv_suite_open_frame(unsealer->suite, f.final, f.sequence, f.iv, f.content, f.tag, to,
                                 err));
    unsealer->sequence++;
    unsealer->final_seen = f.final;
    return unsealer->sink(unsealer->to, CLV_BYTES(to, f.content.n), err);
}

/* Whole frames are opened where they lie; only one that came in parts is put together first. */
static clv_status update(clv_unsealer *unsealer, clv_bytes ciphertext, clv_error *err)
{
    clv_cursor c = clv_cursor_of(ciphertext);
    while (c.rest.n > 0) {
        if (unsealer->final_seen)
            return clv_fail(err, CLV_SEAL_TRAILING,
                            "expected the message to end with its final frame, found %zu bytes "
                            "more",
                            c.rest.n);
        bool whole = unsealer->held.n == 0;
        clv_bytes start = whole ? c.rest : clv_buf_bytes(&unsealer->held);
        clv_bytes piece;
        size_t size;
        CLV_TRY(frame_size(unsealer, start, &size, err));
        if (whole && c.rest.n >= size) {
            CLV_TRY(clv_cursor_take(&c, size, &piece, err));
            CLV_TRY(open_frame(unsealer, piece, err));
            continue;
        }
        size_t missing = size - unsealer->held.n;
        CLV_TRY(clv_cursor_take(&c, missing < c.rest.n ? missing : c.rest.n, &piece, err));
        CLV_TRY(clv_buf_append(&unsealer->held, piece, err));
        CLV_TRY(frame_size(unsealer, clv_buf_bytes(&unsealer->held), &size, err));
        if (unsealer->held.n < size)
            continue;
        CLV_TRY(open_frame(unsealer, clv_buf_bytes(&unsealer->held), err));
        unsealer->held.n = 0;
    }
    return CLV_OK;
}

static clv_status check_usable(const clv_unsealer *unsealer, clv_error *err)
{
    if (unsealer->broken != CLV_OK)
        return clv_fail(err, unsealer->broken, "the stream failed before");
    return CLV_OK;
}

clv_status clv_unsealer_update(clv_unsealer *unsealer, clv_bytes ciphertext, clv_error *err)
{
    CLV_TRY(check_usable(unsealer, err));
    unsealer->broken = update(unsealer, ciphertext, err);
    return unsealer->broken;
}

clv_status clv_unsealer_finish(clv_unsealer *unsealer, clv_error *err)
{
    CLV_TRY(check_usable(unsealer, err));
    if (!unsealer->final_seen)
        return clv_fail(err, CLV_TRUNCATED,
                        "expected the message's final frame, found its end within frame %u",
                        unsealer->sequence);
    return CLV_OK;
}

void clv_unsealer_skip_to(clv_unsealer *unsealer, uint32_t sequence)
{
    unsealer->sequence = sequence;
}

/*
 * Reading sealed messages. The first byte chooses:
 *   even  the rest is a header, and a body for a key that does not fit it;
 *   odd   a message is sealed, changed where the input says, and opened: either nothing was
 *         changed, or it is refused and what came out is the beginning of what went in.
 * What opens also has a whole shape to those who have no key.
 */
#include <stdlib.h>

#include <seal/state.h>

#define FRAME          16
#define PLAINTEXT_SIZE 50

static clv_secret *key;
static clv_buf plaintext = CLV_BUF_INIT;
static clv_buf sealed = CLV_BUF_INIT;

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void start(void)
{
    clv_context none = CLV_CONTEXT_INIT;
    clv_sealer *sealer = NULL;
    require(clv_secret_start(NULL) == CLV_OK);
    require(clv_secret_random(CLV_SEAL_KEY_SIZE, &key, NULL) == CLV_OK);
    for (int i = 0; i < PLAINTEXT_SIZE; i++)
        require(clv_buf_u8(&plaintext, (uint8_t)i, NULL) == CLV_OK);
    require(clv_sealer_new(key, "arn", clv_bytes_of("key"), &none, FRAME, clv_sink_buf, &sealed,
                           &sealer, NULL) == CLV_OK);
    require(clv_sealer_update(sealer, clv_buf_bytes(&plaintext), NULL) == CLV_OK);
    require(clv_sealer_finish(sealer, NULL) == CLV_OK);
    clv_sealer_free(&sealer);
}

static clv_status unseal(clv_bytes message, size_t step, clv_buf *out)
{
    clv_auto(clv_seal_header) header = {0};
    clv_auto_ptr(clv_unsealer) unsealer = NULL;
    clv_cursor c = clv_cursor_of(message);
    clv_bytes piece;
    CLV_TRY(clv_seal_header_parse(message, &header, NULL));
    CLV_TRY(clv_unsealer_new(key, &header, clv_sink_buf, out, &unsealer, NULL));
    CLV_TRY(clv_cursor_take(&c, header.length, &piece, NULL));
    while (c.rest.n > 0) {
        CLV_TRY(clv_cursor_take(&c, step < c.rest.n ? step : c.rest.n, &piece, NULL));
        CLV_TRY(clv_unsealer_update(unsealer, piece, NULL));
    }
    return clv_unsealer_finish(unsealer, NULL);
}

/* Each three bytes: two of a place, one to exclusive-or there. */
static void change(clv_cursor *c, clv_buf *message)
{
    uint16_t at;
    uint8_t with;
    while (clv_cursor_u16(c, &at, NULL) == CLV_OK && clv_cursor_u8(c, &with, NULL) == CLV_OK)
        message->p[at % message->n] ^= with;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (key == NULL)
        start();
    clv_cursor c = clv_cursor_of(CLV_BYTES(data, size));
    clv_auto(clv_buf) message = CLV_BUF_INIT;
    clv_auto(clv_buf) out = CLV_BUF_INIT;
    uint8_t choice;
    if (clv_cursor_u8(&c, &choice, NULL) != CLV_OK)
        return 0;
    if (choice % 2 == 0) {
        require(unseal(c.rest, 1 + choice, &out) != CLV_OK);
        clv_status shape = clv_state_shape_check("key/name", 1, c.rest, NULL);
        require(shape != CLV_INTERNAL);
        return 0;
    }
    require(clv_buf_append(&message, clv_buf_bytes(&sealed), NULL) == CLV_OK);
    change(&c, &message);
    clv_status status = unseal(clv_buf_bytes(&message), 1 + choice / 2, &out);
    bool same = clv_bytes_equal(clv_buf_bytes(&message), clv_buf_bytes(&sealed));
    require((status == CLV_OK) == same);
    /* The message names no state: that is the last thing to be looked at. */
    clv_status shape = clv_state_shape_check("key/name", 1, clv_buf_bytes(&message), NULL);
    require(!same || shape == CLV_SEAL_CONTEXT);
    require(out.n <= plaintext.n && (!same || out.n == plaintext.n));
    require(out.n == 0 || memcmp(out.p, plaintext.p, out.n) == 0);
    return 0;
}

/* Every change to a sealed message is refused (R17): bytes, lengths, order of frames. */
#include "messages.h"

#define FRAME   16
#define REGULAR (4 + 12 + FRAME + 16)

typedef struct message {
    clv_secret *key;
    clv_buf plaintext;
    clv_buf sealed;
    size_t header_length;
} message;

/* Three regular frames and a final one that is not full. */
static void message_make(message *m)
{
    clv_auto(clv_seal_header) header = {0};
    *m = (message){0};
    test_key(1, &m->key);
    test_plaintext(3 * FRAME + 5, &m->plaintext);
    test_seal(m->key, clv_buf_bytes(&m->plaintext), FRAME, &m->sealed);
    assert_ok(clv_seal_header_parse(clv_buf_bytes(&m->sealed), &header, err));
    m->header_length = header.length;
}

static void message_drop(message *m)
{
    clv_secret_free(&m->key);
    clv_buf_drop(&m->plaintext);
    clv_buf_drop(&m->sealed);
}

/* Refused, and what was released before is the beginning of what was sealed, frame by frame. */
static clv_status refused(const message *m, clv_bytes changed, const char *what, size_t where)
{
    clv_auto(clv_buf) opened = CLV_BUF_INIT;
    clv_status status = test_unseal(m->key, changed, 0, &opened, NULL);
    if (status == CLV_OK)
        fail_msg("%s %zu: expected it to be refused, found it accepted", what, where);
    assert_true(opened.n <= m->plaintext.n);
    if (opened.n > 0)
        assert_memory_equal(opened.p, m->plaintext.p, opened.n);
    return status;
}

static void refuses_every_flipped_bit_of_every_byte(void **state)
{
    (void)state;
    clv_auto(message) m;
    message_make(&m);
    for (size_t at = 0; at < m.sealed.n; at++)
        for (int bit = 0; bit < 8; bit++) {
            m.sealed.p[at] ^= (uint8_t)(1 << bit);
            refused(&m, clv_buf_bytes(&m.sealed), "flipped byte", at);
            m.sealed.p[at] ^= (uint8_t)(1 << bit);
        }
}

static void releases_nothing_of_a_frame_that_was_changed_or_follows(void **state)
{
    (void)state;
    clv_auto(message) m;
    message_make(&m);
    for (size_t at = 0; at < m.sealed.n; at++) {
        clv_auto(clv_buf) opened = CLV_BUF_INIT;
        size_t intact = at < m.header_length ? 0 : (at - m.header_length) / REGULAR;
        m.sealed.p[at] ^= 0x80;
        assert_int_not_equal(test_unseal(m.key, clv_buf_bytes(&m.sealed), 0, &opened, NULL),
                             CLV_OK);
        assert_int_equal(opened.n, (intact > 3 ? 3 : intact) * FRAME);
        m.sealed.p[at] ^= 0x80;
    }
}

static void refuses_every_length_it_is_cut_to(void **state)
{
    (void)state;
    clv_auto(message) m;
    message_make(&m);
    for (size_t n = 0; n < m.sealed.n; n++)
        assert_int_equal(refused(&m, CLV_BYTES(m.sealed.p, n), "cut to", n), CLV_TRUNCATED);
}

static void refuses_bytes_behind_the_final_frame(void **state)
{
    (void)state;
    clv_auto(message) m;
    message_make(&m);
    assert_ok(clv_buf_u8(&m.sealed, 0, err));
    assert_int_equal(refused(&m, clv_buf_bytes(&m.sealed), "trailing byte at", m.sealed.n),
                     CLV_SEAL_TRAILING);
    for (size_t step = 1; step < 100; step++) {
        clv_auto(clv_buf) opened = CLV_BUF_INIT;
        assert_code(test_unseal(m.key, clv_buf_bytes(&m.sealed), step, &opened, err),
                    CLV_SEAL_TRAILING);
    }
}

/* Frames put together anew, named by their place; 3 is the final one. */
static void refuses_frames_swapped_repeated_dropped_or_added(void **state)
{
    (void)state;
    static const struct {
        const char *order;
        clv_status code;
    } cases[] = {
        {"1023", CLV_SEAL_AUTHENTICATION},
        {"0213", CLV_SEAL_AUTHENTICATION},
        {"0013", CLV_SEAL_AUTHENTICATION},
        {"00123", CLV_SEAL_AUTHENTICATION},
        {"0123", CLV_OK},
        {"123", CLV_SEAL_AUTHENTICATION},
        {"013", CLV_SEAL_AUTHENTICATION},
        {"3", CLV_SEAL_AUTHENTICATION},
        {"012", CLV_TRUNCATED},
        {"", CLV_TRUNCATED},
        {"0132", CLV_SEAL_AUTHENTICATION},
        {"01233", CLV_SEAL_TRAILING},
        {"01230123", CLV_SEAL_TRAILING},
        {"3012", CLV_SEAL_AUTHENTICATION},
    };
    clv_auto(message) m;
    message_make(&m);
    for (size_t i = 0; i < ROWS(cases); i++) {
        clv_auto(clv_buf) changed = CLV_BUF_INIT;
        clv_auto(clv_buf) opened = CLV_BUF_INIT;
        assert_ok(clv_buf_append(&changed, CLV_BYTES(m.sealed.p, m.header_length), err));
        for (const char *f = cases[i].order; *f != '\0'; f++) {
            size_t at = m.header_length + (size_t)(*f - '0') * REGULAR;
            size_t n = *f == '3' ? m.sealed.n - at : REGULAR;
            assert_ok(clv_buf_append(&changed, CLV_BYTES(m.sealed.p + at, n), err));
        }
        clv_status found = test_unseal(m.key, clv_buf_bytes(&changed), 0, &opened, NULL);
        if (found != cases[i].code)
            fail_msg("frames \"%s\": expected %s, found %s", cases[i].order,
                     clv_status_slug(cases[i].code), clv_status_slug(found));
    }
}

static void refuses_frames_of_another_message_of_the_same_key(void **state)
{
    (void)state;
    clv_auto(message) a;
    clv_auto(message) b;
    message_make(&a);
    message_make(&b);
    for (size_t frame = 0; frame < 4; frame++) {
        clv_auto(clv_buf) changed = CLV_BUF_INIT;
        size_t at = a.header_length + frame * REGULAR;
        size_t n = frame == 3 ? a.sealed.n - at : REGULAR;
        assert_ok(clv_buf_append(&changed, clv_buf_bytes(&a.sealed), err));
        memcpy(changed.p + at, b.sealed.p + at, n);
        assert_int_equal(refused(&a, clv_buf_bytes(&changed), "frame of another message", frame),
                         CLV_SEAL_AUTHENTICATION);
    }
}

static void refuses_another_context_in_the_header(void **state)
{
    (void)state;
    clv_auto(message) m;
    message_make(&m);
    uint8_t *at = memmem(m.sealed.p, m.sealed.n, "wallet", 6);
    assert_non_null(at);
    memcpy(at, "walled", 6);
    assert_int_equal(refused(&m, clv_buf_bytes(&m.sealed), "context", 0), CLV_SEAL_AUTHENTICATION);
}

int main(void)
{
    if (clv_secret_start(NULL) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_every_flipped_bit_of_every_byte),
        cmocka_unit_test(releases_nothing_of_a_frame_that_was_changed_or_follows),
        cmocka_unit_test(refuses_every_length_it_is_cut_to),
        cmocka_unit_test(refuses_bytes_behind_the_final_frame),
        cmocka_unit_test(refuses_frames_swapped_repeated_dropped_or_added),
        cmocka_unit_test(refuses_frames_of_another_message_of_the_same_key),
        cmocka_unit_test(refuses_another_context_in_the_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

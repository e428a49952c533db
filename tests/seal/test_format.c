#include "messages.h"

#include <seal/sealer.h>

#define FRAME 32

/* Lengths on the wire: data-format/message-body.md. */
#define REGULAR_FRAME  (4 + 12 + FRAME + 16)
#define FINAL_FRAME(n) (4 + 4 + 12 + 4 + (n) + 16)

static bool takes_the_room_it_says(const clv_secret *key, size_t n, const clv_buf *sealed)
{
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto(clv_seal_header) header = {0};
    clv_auto(clv_buf) none = CLV_BUF_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    assert_ok(clv_seal_header_parse(clv_buf_bytes(sealed), &header, err));
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("k"), &context, FRAME, clv_sink_buf, &none,
                             &sealer, err));
    return sealed->n == header.length + clv_sealer_room(sealer, n);
}

static void what_is_sealed_comes_back_whatever_its_size_and_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 10 * FRAME + 5};
    static const size_t steps[] = {0, 1, 3, 4, 5, 23, 24, 25, 63, 64, 65, 1000};
    clv_auto_ptr(clv_secret) key = NULL;
    test_key(1, &key);
    for (size_t i = 0; i < ROWS(sizes); i++) {
        clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
        clv_auto(clv_buf) sealed = CLV_BUF_INIT;
        test_plaintext(sizes[i], &plaintext);
        test_seal(key, clv_buf_bytes(&plaintext), FRAME, &sealed);
        assert_true(takes_the_room_it_says(key, sizes[i], &sealed));
        for (size_t j = 0; j < ROWS(steps); j++) {
            clv_auto(clv_buf) opened = CLV_BUF_INIT;
            assert_ok(test_unseal(key, clv_buf_bytes(&sealed), steps[j], &opened, err));
            assert_true(clv_bytes_equal(clv_buf_bytes(&opened), clv_buf_bytes(&plaintext)));
        }
    }
}

static void pieces_given_to_the_sealer_do_not_show_in_the_frames(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME};
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    test_key(1, &key);
    test_plaintext(5 * FRAME, &plaintext);
    for (size_t i = 0; i < ROWS(steps); i++) {
        clv_auto(clv_buf) sealed = CLV_BUF_INIT;
        clv_auto(clv_buf) opened = CLV_BUF_INIT;
        clv_auto(clv_context) context = CLV_CONTEXT_INIT;
        clv_auto(clv_seal_header) header = {0};
        clv_auto_ptr(clv_sealer) sealer = NULL;
        assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("k"), &context, FRAME, clv_sink_buf,
                                 &sealed, &sealer, err));
        clv_cursor c = clv_cursor_of(clv_buf_bytes(&plaintext));
        clv_bytes piece;
        while (c.rest.n > 0) {
            size_t n = steps[i] < c.rest.n ? steps[i] : c.rest.n;
            assert_ok(clv_cursor_take(&c, n, &piece, err));
            assert_ok(clv_sealer_update(sealer, piece, err));
        }
        assert_ok(clv_sealer_finish(sealer, err));
        assert_ok(clv_seal_header_parse(clv_buf_bytes(&sealed), &header, err));
        assert_int_equal(sealed.n - header.length, 4 * REGULAR_FRAME + FINAL_FRAME(FRAME));
        assert_ok(test_unseal(key, clv_buf_bytes(&sealed), 0, &opened, err));
        assert_true(clv_bytes_equal(clv_buf_bytes(&opened), clv_buf_bytes(&plaintext)));
    }
}

static void the_header_says_what_was_given(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) sealed = CLV_BUF_INIT;
    clv_auto(clv_seal_header) header = {0};
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    test_key(1, &key);
    test_context(&context);
    test_seal(key, clv_bytes_of("x"), FRAME, &sealed);
    assert_ok(clv_seal_header_parse(clv_buf_bytes(&sealed), &header, err));
    assert_int_equal(header.suite, 0x0478);
    assert_int_equal(header.message_id.n, 32);
    assert_true(clv_context_equal(&header.context, &context));
    assert_int_equal(header.data_key_count, 1);
    assert_bytes(header.data_key[0].provider, "aws-kms");
    assert_bytes(header.data_key[0].key_arn, TEST_ARN);
    assert_bytes(header.data_key[0].encrypted, TEST_ENCRYPTED_KEY);
    assert_int_equal(header.frame_length, FRAME);
    assert_int_equal(header.length, header.raw.n + 16);
    assert_int_equal(sealed.n, header.length + FINAL_FRAME(1));
}

static void two_messages_of_one_key_share_nothing(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) a = CLV_BUF_INIT;
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    clv_auto(clv_seal_header) ha = {0};
    clv_auto(clv_seal_header) hb = {0};
    test_key(1, &key);
    test_seal(key, clv_bytes_of("the same words"), FRAME, &a);
    test_seal(key, clv_bytes_of("the same words"), FRAME, &b);
    assert_ok(clv_seal_header_parse(clv_buf_bytes(&a), &ha, err));
    assert_ok(clv_seal_header_parse(clv_buf_bytes(&b), &hb, err));
    assert_false(clv_bytes_equal(ha.message_id, hb.message_id));
    assert_false(clv_bytes_equal(ha.commitment, hb.commitment));
    /* From the same frame header on: the contents differ. */
    assert_memory_not_equal(a.p + ha.length + 24, b.p + hb.length + 24, 14);
}

static void refuses_another_data_key_before_the_first_frame(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto_ptr(clv_secret) other = NULL;
    clv_auto(clv_buf) sealed = CLV_BUF_INIT;
    clv_auto(clv_buf) opened = CLV_BUF_INIT;
    test_key(1, &key);
    test_key(2, &other);
    test_seal(key, clv_bytes_of("x"), FRAME, &sealed);
    assert_code(test_unseal(other, clv_buf_bytes(&sealed), 0, &opened, err), CLV_SEAL_COMMITMENT);
    assert_int_equal(opened.n, 0);
}

/* A message with one field of its header put otherwise. The context comes first to keep offsets. */
static void refuses_headers_of_another_kind_each_with_its_code(void **state)
{
    (void)state;
    enum {
        PAIR = 2 + 1 + 2 + 1, /* {"k": "v"} */
        CONTEXT = 3 + 32,
        KEYS = CONTEXT + 2 + 2 + PAIR,
        ENTRY = 2 + 7 + 2 + (sizeof TEST_ARN - 1) + 2 + 1,
        CONTENT = KEYS + 2 + ENTRY,
    };
    static const struct {
        const char *what;
        size_t at;
        size_t n;
        uint8_t bytes[6];
        clv_status code;
    } cases[] = {
        {"version 1", 0, 1, {1}, CLV_SEAL_VERSION},
        {"version 3", 0, 1, {3}, CLV_SEAL_VERSION},
        {"base64 text", 0, 1, {'A'}, CLV_SEAL_VERSION},
        {"suite 0x0178: no commitment", 1, 2, {0x01, 0x78}, CLV_SEAL_SUITE},
        {"suite 0x0378: no commitment", 1, 2, {0x03, 0x78}, CLV_SEAL_SUITE},
        {"suite 0x0578: signed", 1, 2, {0x05, 0x78}, CLV_SEAL_SUITE},
        {"no data key", KEYS, 2, {0, 0}, CLV_SEAL_DATA_KEYS},
        {"a data key more than there is", KEYS, 2, {0, 2}, CLV_TRUNCATED},
        {"17 data keys", KEYS, 2, {0, 17}, CLV_SEAL_DATA_KEYS},
        {"65535 data keys", KEYS, 2, {0xff, 0xff}, CLV_SEAL_DATA_KEYS},
        {"an empty encrypted data key", KEYS + 2 + ENTRY - 3, 2, {0, 0}, CLV_SEAL_FORMAT},
        {"a key name beyond its limit", KEYS + 2 + 2 + 7, 2, {0xff, 0xff}, CLV_TRUNCATED},
        {"unframed body", CONTENT, 1, {1}, CLV_SEAL_UNFRAMED},
        {"content type 0", CONTENT, 1, {0}, CLV_SEAL_UNFRAMED},
        {"frames of no bytes", CONTENT + 1, 4, {0, 0, 0, 0}, CLV_SEAL_FRAME_LENGTH},
        {"frames beyond the limit", CONTENT + 1, 4, {0, 0x10, 0, 1}, CLV_SEAL_FRAME_LENGTH},
        {"frames of 4 GiB", CONTENT + 1, 4, {0xff, 0xff, 0xff, 0xff}, CLV_SEAL_FRAME_LENGTH},
        {"a context of no pairs", CONTEXT + 2, 2, {0, 0}, CLV_SEAL_FORMAT},
        {"a pair more than there is", CONTEXT + 2, 2, {0, 2}, CLV_SEAL_FORMAT},
        {"more pairs than allowed", CONTEXT + 2, 2, {0, 65}, CLV_SEAL_FORMAT},
        {"a context longer than its pairs", CONTEXT, 2, {0, PAIR + 3}, CLV_SEAL_FORMAT},
        {"a context shorter than its pairs", CONTEXT, 2, {0, PAIR + 1}, CLV_SEAL_FORMAT},
        {"an empty context key", CONTEXT + 4, 6, {0, 0, 0, 2, 'k', 'v'}, CLV_SEAL_FORMAT},
        {"a NUL in a context key", CONTEXT + 6, 1, {0}, CLV_SEAL_FORMAT},
        {"a context value that is not UTF-8", CONTEXT + 9, 1, {0xff}, CLV_SEAL_FORMAT},
    };
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) sealed = CLV_BUF_INIT;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    test_key(1, &key);
    assert_ok(clv_context_add(&context, "k", "v", err));
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, FRAME, clv_sink_buf,
                             &sealed, &sealer, err));
    for (size_t i = 0; i < ROWS(cases); i++) {
        clv_auto(clv_buf) changed = CLV_BUF_INIT;
        clv_auto(clv_seal_header) header = {0};
        clv_error why = {0};
        assert_ok(clv_buf_append(&changed, clv_buf_bytes(&sealed), err));
        memcpy(changed.p + cases[i].at, cases[i].bytes, cases[i].n);
        clv_status found = clv_seal_header_parse(clv_buf_bytes(&changed), &header, &why);
        if (found != cases[i].code)
            fail_msg("%s: expected %s, found %s: %s", cases[i].what, clv_status_slug(cases[i].code),
                     clv_status_slug(found), why.text);
    }
}

static void refuses_contexts_out_of_order_or_repeated(void **state)
{
    (void)state;
    /* Two pairs whose keys can be renamed in place. */
    static const struct {
        char first, second;
        clv_status code;
    } cases[] = {{'a', 'b', CLV_OK}, {'b', 'a', CLV_SEAL_FORMAT}, {'a', 'a', CLV_SEAL_FORMAT}};
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto(clv_buf) sealed = CLV_BUF_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    test_key(1, &key);
    assert_ok(clv_context_add(&context, "a", "", err));
    assert_ok(clv_context_add(&context, "b", "", err));
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, FRAME, clv_sink_buf,
                             &sealed, &sealer, err));
    for (size_t i = 0; i < ROWS(cases); i++) {
        clv_auto(clv_seal_header) header = {0};
        sealed.p[3 + 32 + 4 + 2] = (uint8_t)cases[i].first;
        sealed.p[3 + 32 + 4 + 5 + 2] = (uint8_t)cases[i].second;
        assert_int_equal(clv_seal_header_parse(clv_buf_bytes(&sealed), &header, NULL),
                         cases[i].code);
    }
}

static void a_header_that_never_ends_is_refused_at_the_limit(void **state)
{
    (void)state;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_auto(clv_seal_header) header = {0};
    uint8_t *to;
    assert_ok(clv_buf_reserve(&bytes, CLV_SEAL_HEADER_MAX, &to, err));
    memset(to, 0xff, CLV_SEAL_HEADER_MAX);
    memcpy(to, "\x02\x04\x78", 3);
    bytes.n = CLV_SEAL_HEADER_MAX - 1;
    assert_code(clv_seal_header_parse(clv_buf_bytes(&bytes), &header, err), CLV_TRUNCATED);
    bytes.n = CLV_SEAL_HEADER_MAX;
    assert_code(clv_seal_header_parse(clv_buf_bytes(&bytes), &header, err), CLV_SEAL_FORMAT);
}

static void refuses_parameters_outside_the_format(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto_ptr(clv_secret) short_key = NULL;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto(clv_buf) sealed = CLV_BUF_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    test_key(1, &key);
    assert_ok(clv_secret_new(16, &short_key, err));
    assert_code(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, 0, clv_sink_buf, &sealed,
                               &sealer, err),
                CLV_SEAL_FRAME_LENGTH);
    assert_code(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, CLV_SEAL_FRAME_MAX + 1,
                               clv_sink_buf, &sealed, &sealer, err),
                CLV_SEAL_FRAME_LENGTH);
    assert_code(clv_sealer_new(short_key, TEST_ARN, clv_bytes_of("e"), &context, FRAME,
                               clv_sink_buf, &sealed, &sealer, err),
                CLV_INTERNAL);
    assert_int_equal(sealed.n, 0);
}

/* Frame numbers end at 2^32 - 1, which only a final frame may carry: the marker is the same. */
static void frame_numbers_end_before_they_repeat(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto(clv_buf) sealed = CLV_BUF_INIT;
    clv_auto(clv_buf) opened = CLV_BUF_INIT;
    clv_auto(clv_seal_header) header = {0};
    clv_auto_ptr(clv_sealer) sealer = NULL;
    clv_auto_ptr(clv_unsealer) unsealer = NULL;
    test_key(1, &key);
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, 1, clv_sink_buf, &sealed,
                             &sealer, err));
    clv_sealer_skip_to(sealer, UINT32_MAX - 1);
    assert_ok(clv_sealer_update(sealer, clv_bytes_of("ab"), err));
    assert_code(clv_sealer_update(sealer, clv_bytes_of("c"), err), CLV_TOO_LARGE);
    assert_code(clv_sealer_finish(sealer, err), CLV_TOO_LARGE);

    clv_sealer_free(&sealer);
    sealed.n = 0;
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, 1, clv_sink_buf, &sealed,
                             &sealer, err));
    clv_sealer_skip_to(sealer, UINT32_MAX - 1);
    assert_ok(clv_sealer_update(sealer, clv_bytes_of("ab"), err));
    assert_ok(clv_sealer_finish(sealer, err));
    assert_ok(clv_seal_header_parse(clv_buf_bytes(&sealed), &header, err));
    assert_ok(clv_unsealer_new(key, &header, clv_sink_buf, &opened, &unsealer, err));
    clv_unsealer_skip_to(unsealer, UINT32_MAX - 1);
    assert_ok(clv_unsealer_update(
        unsealer, CLV_BYTES(sealed.p + header.length, sealed.n - header.length), err));
    assert_ok(clv_unsealer_finish(unsealer, err));
    assert_bytes(clv_buf_bytes(&opened), "ab");
}

static clv_status failing_sink(void *to, clv_bytes piece, clv_error *err)
{
    size_t *room = to;
    if (piece.n > *room)
        return clv_fail(err, CLV_SYSTEM, "the disk is full");
    *room -= piece.n;
    return CLV_OK;
}

static void a_sink_that_fails_stops_the_stream_for_good(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    size_t room = 1000;
    test_key(1, &key);
    test_plaintext(2000, &plaintext);
    assert_ok(clv_sealer_new(key, TEST_ARN, clv_bytes_of("e"), &context, FRAME, failing_sink, &room,
                             &sealer, err));
    assert_code(clv_sealer_update(sealer, clv_buf_bytes(&plaintext), err), CLV_SYSTEM);
    room = 100000;
    assert_code(clv_sealer_update(sealer, clv_bytes_of("x"), err), CLV_SYSTEM);
    assert_code(clv_sealer_finish(sealer, err), CLV_SYSTEM);
}

int main(void)
{
    if (clv_secret_start(NULL) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_sealed_comes_back_whatever_its_size_and_pieces),
        cmocka_unit_test(pieces_given_to_the_sealer_do_not_show_in_the_frames),
        cmocka_unit_test(the_header_says_what_was_given),
        cmocka_unit_test(two_messages_of_one_key_share_nothing),
        cmocka_unit_test(refuses_another_data_key_before_the_first_frame),
        cmocka_unit_test(refuses_headers_of_another_kind_each_with_its_code),
        cmocka_unit_test(refuses_contexts_out_of_order_or_repeated),
        cmocka_unit_test(a_header_that_never_ends_is_refused_at_the_limit),
        cmocka_unit_test(refuses_parameters_outside_the_format),
        cmocka_unit_test(frame_numbers_end_before_they_repeat),
        cmocka_unit_test(a_sink_that_fails_stops_the_stream_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

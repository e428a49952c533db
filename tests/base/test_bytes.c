#include "../check.h"

static void buffer_keeps_what_is_appended_across_growth(void **state)
{
    (void)state;
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    for (int i = 0; i < 5000; i++)
        assert_ok(clv_buf_u16(&b, (uint16_t)i, err));
    assert_int_equal(b.n, 10000);
    clv_cursor c = clv_cursor_of(clv_buf_bytes(&b));
    for (int i = 0; i < 5000; i++) {
        uint16_t found;
        assert_ok(clv_cursor_u16(&c, &found, err));
        assert_int_equal(found, i);
    }
    assert_int_equal(c.rest.n, 0);
}

static void buffer_refuses_to_pass_its_limit_and_stays_as_it_was(void **state)
{
    (void)state;
    clv_auto(clv_buf) b = CLV_BUF_LIMITED(4);
    assert_ok(clv_buf_append_text(&b, "abc", err));
    assert_code(clv_buf_append_text(&b, "de", err), CLV_TOO_LARGE);
    assert_bytes(clv_buf_bytes(&b), "abc");
    assert_code(clv_buf_append(&b, CLV_BYTES("", SIZE_MAX), err), CLV_TOO_LARGE);
    assert_ok(clv_buf_append_text(&b, "d", err));
}

static void buffer_text_ends_with_a_nul_that_is_not_counted(void **state)
{
    (void)state;
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    const char *text;
    assert_ok(clv_buf_text(&b, &text, err));
    assert_string_equal(text, "");
    assert_ok(clv_buf_printf(&b, err, "%d-%s", 7, "x"));
    assert_ok(clv_buf_text(&b, &text, err));
    assert_string_equal(text, "7-x");
    assert_int_equal(b.n, 3);
}

static void cursor_never_runs_past_its_end(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    clv_cursor c = clv_cursor_of(CLV_BYTES(bytes, sizeof bytes));
    uint32_t wide;
    uint16_t narrow;
    clv_bytes taken;
    assert_code(clv_cursor_u32(&c, &wide, err), CLV_TRUNCATED);
    assert_code(clv_cursor_take(&c, SIZE_MAX, &taken, err), CLV_TRUNCATED);
    assert_int_equal(c.rest.n, 3);
    assert_ok(clv_cursor_u16(&c, &narrow, err));
    assert_int_equal(narrow, 0x0102);
    assert_ok(clv_cursor_take(&c, 0, &taken, err));
    assert_int_equal(c.rest.n, 1);
}

static void hex_reads_both_cases_and_nothing_else(void **state)
{
    (void)state;
    static const char *const bad[] = {"0", "0g", "0 ", " 00", "0x00", "00\n", "é0"};
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    assert_ok(clv_hex_decode(clv_bytes_of("00fFAb"), &b, err));
    assert_bytes(clv_buf_bytes(&b), "\x00\xff\xab");
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_code(clv_hex_decode(clv_bytes_of(bad[i]), &b, err), CLV_BAD_ENCODING);
        assert_int_equal(b.n, 3);
    }
    uint8_t two[2];
    assert_code(clv_hex_decode_exact(clv_bytes_of("aabbcc"), two, 2, err), CLV_BAD_ENCODING);
    assert_code(clv_hex_decode_exact(clv_bytes_of("aabb00"), two, 2, err), CLV_BAD_ENCODING);
}

static void base64_round_trips_every_length(void **state)
{
    (void)state;
    uint8_t bytes[67];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37);
    for (size_t n = 0; n <= sizeof bytes; n++) {
        clv_auto(clv_buf) text = CLV_BUF_INIT;
        clv_auto(clv_buf) back = CLV_BUF_INIT;
        assert_ok(clv_base64_append(&text, CLV_BYTES(bytes, n), err));
        assert_int_equal(text.n, (n + 2) / 3 * 4);
        assert_ok(clv_base64_decode(clv_buf_bytes(&text), &back, err));
        assert_true(clv_bytes_equal(clv_buf_bytes(&back), CLV_BYTES(bytes, n)));
    }
}

static void base64_refuses_what_is_not_canonical(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "A",    "AA",   "AAA",  "AA=",    "A===",  "AAAA=",
        "AB==", "AAB=", "AA-_", "AAAA\n", " AAAA", "AA==AA==",
    };
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    for (size_t i = 0; i < ROWS(bad); i++) {
        assert_code(clv_base64_decode(clv_bytes_of(bad[i]), &b, err), CLV_BAD_ENCODING);
        assert_int_equal(b.n, 0);
    }
}

static void utf8_is_judged_by_rfc_3629(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool valid;
    } row[] = {
        {"", true},
        {"plain", true},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x94\x91", true},
        {"\xc0\x80", false},         /* overlong NUL */
        {"\xe0\x80\xaf", false},     /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* beyond U+10FFFF */
        {"\xc3", false},
        {"\x80", false},
        {"\xff", false},
    };
    for (size_t i = 0; i < ROWS(row); i++)
        assert_int_equal(clv_utf8_valid(clv_bytes_of(row[i].text)), row[i].valid);
    assert_false(clv_utf8_valid(CLV_BYTES("a\0b", 3)));
}

static void comparison_needs_equal_length_and_content(void **state)
{
    (void)state;
    clv_bytes a = clv_bytes_of("same");
    assert_true(clv_bytes_equal(a, clv_bytes_of("same")));
    assert_false(clv_bytes_equal(a, clv_bytes_of("sam")));
    assert_false(clv_bytes_equal_secret(a, clv_bytes_of("samf")));
    assert_false(clv_bytes_equal_secret(a, clv_bytes_of("same ")));
    assert_true(clv_bytes_equal_secret(CLV_BYTES(NULL, 0), CLV_BYTES("", 0)));
    assert_true(clv_bytes_all_zero(CLV_BYTES("\0\0", 2)));
    assert_false(clv_bytes_all_zero(CLV_BYTES("\0\1", 2)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_keeps_what_is_appended_across_growth),
        cmocka_unit_test(buffer_refuses_to_pass_its_limit_and_stays_as_it_was),
        cmocka_unit_test(buffer_text_ends_with_a_nul_that_is_not_counted),
        cmocka_unit_test(cursor_never_runs_past_its_end),
        cmocka_unit_test(hex_reads_both_cases_and_nothing_else),
        cmocka_unit_test(base64_round_trips_every_length),
        cmocka_unit_test(base64_refuses_what_is_not_canonical),
        cmocka_unit_test(utf8_is_judged_by_rfc_3629),
        cmocka_unit_test(comparison_needs_equal_length_and_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* CBOR and JSON: the two strict readers. */
#include "../check.h"

#include <base/cbor.h>
#include <base/json.h>

static clv_bytes hex(clv_buf *to, const char *text)
{
    to->n = 0;
    assert_ok(clv_hex_decode(clv_bytes_of(text), to, err));
    return clv_buf_bytes(to);
}

static void cbor_reads_each_type_of_item(void **state)
{
    (void)state;
    /* RFC 8949 appendix A. */
    static const struct {
        const char *hex;
        clv_cbor_type type;
        uint64_t value;
        bool indefinite, minimal;
    } row[] = {
        {"00", CLV_CBOR_UINT, 0, false, true},
        {"17", CLV_CBOR_UINT, 23, false, true},
        {"1818", CLV_CBOR_UINT, 24, false, true},
        {"1817", CLV_CBOR_UINT, 23, false, false},
        {"190017", CLV_CBOR_UINT, 23, false, false},
        {"1a000f4240", CLV_CBOR_UINT, 1000000, false, true},
        {"1bffffffffffffffff", CLV_CBOR_UINT, UINT64_MAX, false, true},
        {"3822", CLV_CBOR_NEGINT, 34, false, true},
        {"4401020304", CLV_CBOR_BYTES, 4, false, true},
        {"580401020304", CLV_CBOR_BYTES, 4, false, false},
        {"6449455446", CLV_CBOR_TEXT, 4, false, true},
        {"84", CLV_CBOR_ARRAY, 4, false, true},
        {"a9", CLV_CBOR_MAP, 9, false, true},
        {"bf", CLV_CBOR_MAP, 0, true, true},
        {"9f", CLV_CBOR_ARRAY, 0, true, true},
        {"5f", CLV_CBOR_BYTES, 0, true, true},
        {"7f", CLV_CBOR_TEXT, 0, true, true},
        {"d2", CLV_CBOR_TAG, 18, false, true},
        {"f5", CLV_CBOR_BOOL, 1, false, true},
        {"f6", CLV_CBOR_NULL, 0, false, true},
        {"f7", CLV_CBOR_OTHER, 0, false, true},
        {"f90000", CLV_CBOR_OTHER, 0, false, true},
        {"ff", CLV_CBOR_BREAK, 0, false, true},
    };
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_cursor c = clv_cursor_of(hex(&b, row[i].hex));
        clv_cbor_item item;
        assert_ok(clv_cbor_next(&c, &item, err));
        assert_int_equal(item.type, row[i].type);
        assert_int_equal(item.value, row[i].value);
        assert_int_equal(item.indefinite, row[i].indefinite);
        assert_int_equal(item.minimal, row[i].minimal);
        assert_int_equal(c.rest.n, 0);
    }
}

static void cbor_refuses_what_is_malformed_or_cut(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "18",
        "19ff",
        "1bffffffffffffff",
        "44010203",
        "5bffffffffffffffff",
        "7bffffffffffffffff",
        "1c",
        "5c",
        "fe",
        "f8",
    };
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    for (size_t i = 0; i < ROWS(bad); i++) {
        clv_cursor c = clv_cursor_of(hex(&b, bad[i]));
        size_t before = c.rest.n;
        clv_cbor_item item;
        assert_code(clv_cbor_next(&c, &item, err), CLV_CBOR_MALFORMED);
        assert_int_equal(c.rest.n, before);
    }
}

static void cbor_expectation_refuses_other_types_and_stays_in_place(void **state)
{
    (void)state;
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    clv_cbor_item item;
    clv_cursor c = clv_cursor_of(hex(&b, "4101"));
    assert_code(clv_cbor_expect(&c, CLV_CBOR_TEXT, &item, err), CLV_CBOR_TYPE);
    assert_ok(clv_cbor_expect(&c, CLV_CBOR_BYTES, &item, err));
    c = clv_cursor_of(hex(&b, "5f4101ff"));
    assert_code(clv_cbor_expect(&c, CLV_CBOR_BYTES, &item, err), CLV_CBOR_TYPE);
}

static void cbor_writes_shortest_heads(void **state)
{
    (void)state;
    clv_auto(clv_buf) b = CLV_BUF_INIT;
    clv_auto(clv_buf) expected = CLV_BUF_INIT;
    assert_ok(clv_cbor_put_map(&b, 2, err));
    assert_ok(clv_cbor_put_text(&b, "a", err));
    assert_ok(clv_cbor_put_uint(&b, 65536, err));
    assert_ok(clv_cbor_put_negint(&b, 34, err));
    assert_ok(clv_cbor_put_array(&b, 4, err));
    assert_ok(clv_cbor_put_bytes(&b, clv_bytes_of("xy"), err));
    assert_ok(clv_cbor_put_bool(&b, true, err));
    assert_ok(clv_cbor_put_null(&b, err));
    assert_ok(clv_cbor_put_tag(&b, 18, err));
    assert_true(clv_bytes_equal(clv_buf_bytes(&b), hex(&expected, "a261611a0001000038228442"
                                                                  "7879f5f6d2")));
}

static void json_refuses_what_is_not_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "{} x",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,}",
        "// no\n{}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\xff\"}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    };
    for (size_t i = 0; i < ROWS(bad); i++) {
        clv_auto(clv_json) json = NULL;
        assert_code(clv_json_parse(clv_bytes_of(bad[i]), 1000, &json, err), CLV_JSON_MALFORMED);
        assert_null(json);
    }
    clv_auto(clv_json) json = NULL;
    assert_code(clv_json_parse(clv_bytes_of("{\"a\":12345}"), 5, &json, err), CLV_TOO_LARGE);
}

/* Text that no parser gets through, and the place that the sentence must name. */
static const struct {
    const char *text, *place;
} place_table[] = {
    {"{\"a\":1,\"a\":2}", "a, line 1, column 10: a member occurs twice"},
    {"{\"a\":{\"b\":1,\n\"b\":2}}", "a.b, line 2, column 3: a member occurs twice"},
    {"{\"a\":[{},{\"b\":{\"c\":1,\"c\":2}}]}", "a[1].b.c, line"},
    {"{\"a\":[[1,2],[3,4,x]]}", "a[1][2], line"},
    {"{\"a\":{\"b\":1},\"c\":{\"d\":/* no */1}}", "c.d, line 1, column 23: expected strict JSON, "
                                                  "found a comment"},
    {"{\"a\":{\"b\":1 # no\n}}", "a.b, line 1, column 13: expected strict JSON, found a comment"},
    {"{\"a\":{\"b\":99999999999999999999}}", "a.b, line 1, column 30: expected a number of at most "
                                             "64 bits"},
    {"{\"a\":{\"b\":1e999}}", "a.b, line"},
    {"{\"a\":{\"b\":\"\\u0000\"}}", "a.b, line 1, column 18: expected no NUL"},
    {"{\"a\":[\"\xff\"]}", "a[0], line 1, column 7: expected UTF-8"},
    {"{\"a\":[1,2", "a[1], line 1, column 9: expected the whole of the JSON"},
    {"{\"a\":1} {", "line 1, column 9: expected nothing behind"},
    {"{\"a\\\"]}\":{\"b\":tru}}", "a\\\"]}.b, line"},
    {"{\"a \x01\":1}", "line 1, column 4: the text"},
    {"{\"\xc3\xa9\":{\"\xc3\xa9\":1,\"\xc3\xa9\":1}}", "??.??, line"},
    {"{\"a\":\"{[,\",\"b\":[\"]\",}]}", "b, line"},
    {"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
     "[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]}}}}}}}}",
     "a.a.a.a.a.a.a.a[0][0]"},
};

static void json_that_cannot_be_read_is_an_error_at_a_member(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(place_table); i++) {
        clv_auto(clv_json) json = NULL;
        clv_error fault = {.code = CLV_OK};
        clv_status found = clv_json_parse(clv_bytes_of(place_table[i].text), 1000, &json, &fault);
        const char *place = place_table[i].place;
        if (found != CLV_JSON_MALFORMED || strncmp(fault.text, place, strlen(place)) != 0)
            fail_msg("%s: expected \"%s\" first, found %s: %s", place_table[i].text, place,
                     clv_status_slug(found), fault.text);
    }
}

/* However deep or long, and wherever it ends, a place is found without reading past it. */
static void the_place_in_a_text_can_be_asked_for_at_every_byte(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":[{\"b\":[1,{\"\\\"\":[[[[\"x\\\\\",true]]]]}]},null],\"c\":{}}";
    char place[24], deep[4001];
    for (size_t n = 0; n <= sizeof text; n++) {
        clv_json_place(CLV_BYTES(text, strlen(text)), n, place, sizeof place);
        assert_true(strlen(place) < sizeof place);
    }
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    clv_auto(clv_json) json = NULL;
    clv_error fault = {.code = CLV_OK};
    assert_int_equal(clv_json_parse(clv_bytes_of(deep), 4000, &json, &fault), CLV_JSON_MALFORMED);
    assert_non_null(strstr(fault.text, "levels"));
}

static void json_errors_name_the_members_path(void **state)
{
    (void)state;
    clv_auto(clv_json) json = NULL;
    assert_ok(clv_json_parse(clv_bytes_of("{\"n\":5,\"t\":\"x\",\"z\":null}"), 1000, &json, err));
    clv_json_reader r;
    clv_error fault = {0};
    int64_t n = 0;
    const char *text;
    assert_ok(clv_json_open(&r, json, "keys.a", err));
    assert_int_equal(clv_json_need_integer(&r, "n", 6, 9, &n, &fault), CLV_JSON_VALUE);
    assert_string_equal(fault.text, "keys.a.n: expected 6 to 9, found 5");
    assert_int_equal(clv_json_need_text(&r, "n", &text, &fault), CLV_JSON_TYPE);
    assert_string_equal(fault.text, "keys.a.n: expected a string, found an integer");
    assert_int_equal(clv_json_need_text(&r, "u", &text, &fault), CLV_JSON_MISSING);
    assert_string_equal(fault.text, "keys.a.u: expected a string, found nothing");
    assert_int_equal(clv_json_done(&r, &fault), CLV_JSON_UNKNOWN);
    assert_string_equal(fault.text, "keys.a.t: no such member is known");
    assert_ok(clv_json_need_text(&r, "t", &text, err));
    assert_string_equal(text, "x");
    json_t *value;
    assert_ok(clv_json_value(&r, "z", &value, err));
    assert_true(json_is_null(value));
    assert_ok(clv_json_done(&r, err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cbor_reads_each_type_of_item),
        cmocka_unit_test(cbor_refuses_what_is_malformed_or_cut),
        cmocka_unit_test(cbor_expectation_refuses_other_types_and_stays_in_place),
        cmocka_unit_test(cbor_writes_shortest_heads),
        cmocka_unit_test(json_refuses_what_is_not_strict),
        cmocka_unit_test(json_that_cannot_be_read_is_an_error_at_a_member),
        cmocka_unit_test(the_place_in_a_text_can_be_asked_for_at_every_byte),
        cmocka_unit_test(json_errors_name_the_members_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

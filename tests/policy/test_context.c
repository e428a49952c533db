#include "../check.h"

#include <claviger/operation.h>

static void pairs_stand_in_the_order_of_their_keys_bytes(void **state)
{
    (void)state;
    clv_auto(clv_context) c = CLV_CONTEXT_INIT;
    assert_ok(clv_context_add(&c, "b", "2", err));
    assert_ok(clv_context_add(&c, "\xc3\xa4", "4", err));
    assert_ok(clv_context_add(&c, "B", "1", err));
    assert_ok(clv_context_add(&c, "bb", "", err));
    static const char *const expected[] = {"B", "b", "bb", "\xc3\xa4"};
    assert_int_equal(c.count, ROWS(expected));
    for (size_t i = 0; i < c.count; i++)
        assert_string_equal(c.pair[i].key, expected[i]);
    assert_string_equal(clv_context_get(&c, "bb"), "");
    assert_null(clv_context_get(&c, "a"));
}

static void refuses_what_kms_would_refuse_and_stays_as_it_was(void **state)
{
    (void)state;
    clv_auto(clv_context) c = CLV_CONTEXT_INIT;
    char large[CLV_CONTEXT_BYTES_MAX + 1];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    assert_ok(clv_context_add(&c, "k", "v", err));
    assert_code(clv_context_add(&c, "", "v", err), CLV_OPERATION_INVALID);
    assert_code(clv_context_add(&c, "k", "w", err), CLV_OPERATION_INVALID);
    assert_code(clv_context_add(&c, "\xff", "v", err), CLV_OPERATION_INVALID);
    assert_code(clv_context_add(&c, "l", "\xc3", err), CLV_OPERATION_INVALID);
    assert_code(clv_context_add(&c, "l", large, err), CLV_OPERATION_INVALID);
    assert_int_equal(c.count, 1);
    assert_string_equal(clv_context_get(&c, "k"), "v");
}

static void refuses_more_pairs_than_the_limit(void **state)
{
    (void)state;
    clv_auto(clv_context) c = CLV_CONTEXT_INIT;
    char key[16];
    for (int i = 0; i < CLV_CONTEXT_PAIRS_MAX; i++) {
        snprintf(key, sizeof key, "k%d", i);
        assert_ok(clv_context_add(&c, key, "v", err));
    }
    assert_code(clv_context_add(&c, "one more", "v", err), CLV_OPERATION_INVALID);
}

static void a_copy_is_equal_until_one_pair_differs(void **state)
{
    (void)state;
    clv_auto(clv_context) a = CLV_CONTEXT_INIT;
    clv_auto(clv_context) b = CLV_CONTEXT_INIT;
    assert_ok(clv_context_add(&a, "k", "v", err));
    assert_ok(clv_context_copy(&a, &b, err));
    assert_true(clv_context_equal(&a, &b));
    b.pair[0].value[0] = 'w';
    assert_false(clv_context_equal(&a, &b));
    b.pair[0].value[0] = 'v';
    assert_ok(clv_context_add(&b, "l", "", err));
    assert_false(clv_context_equal(&a, &b));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_stand_in_the_order_of_their_keys_bytes),
        cmocka_unit_test(refuses_what_kms_would_refuse_and_stays_as_it_was),
        cmocka_unit_test(refuses_more_pairs_than_the_limit),
        cmocka_unit_test(a_copy_is_equal_until_one_pair_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

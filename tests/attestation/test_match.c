/* Whether a genuine document is the one wanted: registers, binding, debug mode. */
#include "../check.h"

#include <claviger/attestation.h>

static void set_pcr(clv_pcrs *pcrs, unsigned index, int byte)
{
    pcrs->present |= UINT32_C(1) << index;
    memset(pcrs->value[index], byte, CLV_PCR_SIZE);
}

static clv_pcrs document_pcrs(void)
{
    clv_pcrs pcrs = {0};
    set_pcr(&pcrs, 0, 1);
    set_pcr(&pcrs, 1, 2);
    set_pcr(&pcrs, 2, 3);
    set_pcr(&pcrs, 3, 0);
    return pcrs;
}

static void matches_registers_that_are_equal(void **state)
{
    (void)state;
    clv_pcrs found = document_pcrs(), pins = {0};
    set_pcr(&pins, 0, 1);
    set_pcr(&pins, 2, 3);
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_OK);
}

static void refuses_a_register_of_another_value(void **state)
{
    (void)state;
    clv_pcrs found = document_pcrs(), pins = {0};
    clv_error err = {0};
    set_pcr(&pins, 0, 1);
    set_pcr(&pins, 1, 2);
    pins.value[1][CLV_PCR_SIZE - 1] ^= 1;
    assert_int_equal(clv_pcrs_match(&found, &pins, &err), CLV_ATT_PCR_MISMATCH);
    assert_non_null(strstr(err.text, "PCR1"));
}

static void refuses_a_register_that_is_absent(void **state)
{
    (void)state;
    clv_pcrs found = document_pcrs(), pins = {0};
    set_pcr(&pins, 16, 0);
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_ATT_PCR_MISSING);
    /* Absent is absent, even when the pin says zeros as an empty slot has. */
    found.present = 0;
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_ATT_PCR_MISSING);
}

static void refuses_no_pins_at_all(void **state)
{
    (void)state;
    clv_pcrs found = document_pcrs(), pins = {0};
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_ATT_PCR_MISSING);
}

static void refuses_zero_registers_even_when_the_pin_is_zero(void **state)
{
    (void)state;
    clv_pcrs found = document_pcrs(), pins = {0};
    set_pcr(&pins, 3, 0);
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_ATT_PCR_ZERO);
    set_pcr(&pins, 3, 9);
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_ATT_PCR_ZERO);
    memset(&pins, 0, sizeof pins);
    set_pcr(&pins, 0, 0);
    assert_int_equal(clv_pcrs_match(&found, &pins, NULL), CLV_ATT_PCR_ZERO);
}

static void debug_mode_is_a_zero_or_absent_pcr0(void **state)
{
    (void)state;
    clv_pcrs pcrs = document_pcrs();
    assert_false(clv_pcrs_debug(&pcrs));
    pcrs.value[0][0] = 0;
    assert_false(clv_pcrs_debug(&pcrs));
    set_pcr(&pcrs, 0, 0);
    assert_true(clv_pcrs_debug(&pcrs));
    set_pcr(&pcrs, 0, 1);
    pcrs.present &= ~UINT32_C(1);
    assert_true(clv_pcrs_debug(&pcrs));
}

#define GIVEN(text)                   \
    {                                 \
        true, CLV_BYTES_LITERAL(text) \
    }
#define CLV_BYTES_LITERAL(text)                   \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }
#define NONE        \
    {               \
        false,      \
        {           \
            NULL, 0 \
        }           \
    }

static void refuses_a_member_that_differs(void **state)
{
    (void)state;
    static const struct {
        clv_optional found, expected;
        bool same;
    } cases[] = {
        {GIVEN("value"), GIVEN("value"), true},
        {NONE, NONE, true},
        {GIVEN(""), GIVEN(""), true},
        {GIVEN("value"), GIVEN("valuE"), false},
        {GIVEN("value"), GIVEN("valu"), false},
        {GIVEN("value"), GIVEN("value2"), false},
        {GIVEN("value"), GIVEN(""), false},
        {GIVEN(""), GIVEN("value"), false},
        {GIVEN("value"), NONE, false},
        {NONE, GIVEN("value"), false},
        {NONE, GIVEN(""), false},
        {GIVEN(""), NONE, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        clv_document d = {0};
        clv_binding b = {0};
        d.nonce = cases[i].found;
        b.nonce = cases[i].expected;
        assert_int_equal(clv_document_match_binding(&d, &b, NULL),
                         cases[i].same ? CLV_OK : CLV_ATT_NONCE);
        d = (clv_document){.user_data = cases[i].found};
        b = (clv_binding){.user_data = cases[i].expected};
        assert_int_equal(clv_document_match_binding(&d, &b, NULL),
                         cases[i].same ? CLV_OK : CLV_ATT_USER_DATA);
        d = (clv_document){.public_key = cases[i].found};
        b = (clv_binding){.public_key = cases[i].expected};
        assert_int_equal(clv_document_match_binding(&d, &b, NULL),
                         cases[i].same ? CLV_OK : CLV_ATT_PUBLIC_KEY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_registers_that_are_equal),
        cmocka_unit_test(refuses_a_register_of_another_value),
        cmocka_unit_test(refuses_a_register_that_is_absent),
        cmocka_unit_test(refuses_no_pins_at_all),
        cmocka_unit_test(refuses_zero_registers_even_when_the_pin_is_zero),
        cmocka_unit_test(debug_mode_is_a_zero_or_absent_pcr0),
        cmocka_unit_test(refuses_a_member_that_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

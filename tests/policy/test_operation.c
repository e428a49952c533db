/* The canonical encoding: one operation, one encoding, and none for what KMS would not take. */
#include "../check.h"

#include <claviger/operation.h>

#define ARN "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

static void fill(clv_operation *o, clv_kms_action action)
{
    o->action = action;
    if (action != CLV_GENERATE_RANDOM)
        assert_ok(clv_text_dup(clv_bytes_of(ARN), &o->key_arn, err));
    if (action == CLV_GENERATE_DATA_KEY || action == CLV_GENERATE_RANDOM)
        o->number_of_bytes = 32;
    if (action == CLV_DECRYPT)
        assert_ok(clv_buf_append_text(&o->ciphertext, "blob", err));
    if (action == CLV_GENERATE_DATA_KEY_PAIR)
        assert_ok(clv_text_dup(clv_bytes_of("ECC_NIST_P256"), &o->key_pair_spec, err));
    if (action == CLV_DERIVE_SHARED_SECRET)
        assert_ok(clv_buf_append_text(&o->public_key, "spki", err));
}

static void encode_as(clv_operation *o, const char *expected)
{
    clv_auto(clv_buf) found = CLV_BUF_INIT;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    const char *hex;
    assert_ok(clv_operation_encode(o, &found, err));
    assert_ok(clv_hex_append(&text, clv_buf_bytes(&found), err));
    assert_ok(clv_buf_text(&text, &hex, err));
    assert_string_equal(hex, expected);
}

static void keys_stand_in_the_order_of_their_encodings(void **state)
{
    (void)state;
    clv_auto(clv_operation) o = CLV_OPERATION_INIT;
    fill(&o, CLV_GENERATE_RANDOM);
    encode_as(&o, "a366616374696f6e6e47656e657261746552616e646f6d66736368656d6174636c6176696765722f"
                  "6f7065726174696f6e2f316f6e756d6265725f6f665f62797465731820");
}

/* RFC 8949 section 4.2.1: "bb" stands behind "c", although it sorts before it as text. */
static void a_contexts_shorter_names_stand_first(void **state)
{
    (void)state;
    clv_auto(clv_operation) o = CLV_OPERATION_INIT;
    clv_auto(clv_buf) found = CLV_BUF_INIT;
    fill(&o, CLV_DECRYPT);
    assert_ok(clv_context_add(&o.context, "bb", "1", err));
    assert_ok(clv_context_add(&o.context, "c", "2", err));
    assert_ok(clv_operation_encode(&o, &found, err));
    static const char expected[] = "\xa2\x61"
                                   "c"
                                   "\x61"
                                   "2"
                                   "\x62"
                                   "bb"
                                   "\x61"
                                   "1";
    assert_non_null(memmem(found.p, found.n, expected, sizeof expected - 1));
}

static void every_parameter_changes_the_digest(void **state)
{
    (void)state;
    uint8_t first[CLV_OPERATION_DIGEST_SIZE], other[CLV_OPERATION_DIGEST_SIZE];
    clv_auto(clv_operation) o = CLV_OPERATION_INIT;
    fill(&o, CLV_DECRYPT);
    assert_ok(clv_context_add(&o.context, "a", "1", err));
    assert_ok(clv_operation_digest(&o, first, err));

    o.ciphertext.p[0] ^= 1;
    assert_ok(clv_operation_digest(&o, other, err));
    assert_memory_not_equal(first, other, sizeof first);
    o.ciphertext.p[0] ^= 1;

    o.key_arn[strlen(ARN) - 1] ^= 1;
    assert_ok(clv_operation_digest(&o, other, err));
    assert_memory_not_equal(first, other, sizeof first);
    o.key_arn[strlen(ARN) - 1] ^= 1;

    o.context.pair[0].value[0] ^= 1;
    assert_ok(clv_operation_digest(&o, other, err));
    assert_memory_not_equal(first, other, sizeof first);
    o.context.pair[0].value[0] ^= 1;

    o.context.pair[0].key[0] ^= 1;
    assert_ok(clv_operation_digest(&o, other, err));
    assert_memory_not_equal(first, other, sizeof first);
    o.context.pair[0].key[0] ^= 1;

    assert_ok(clv_operation_digest(&o, other, err));
    assert_memory_equal(first, other, sizeof first);
}

static void an_operation_has_what_it_needs_and_nothing_else(void **state)
{
    (void)state;
    for (unsigned action = 0; action < CLV_KMS_ACTION_COUNT; action++) {
        clv_auto(clv_operation) good = CLV_OPERATION_INIT;
        clv_auto(clv_operation) empty = CLV_OPERATION_INIT;
        clv_auto(clv_operation) more = CLV_OPERATION_INIT;
        fill(&good, (clv_kms_action)action);
        assert_ok(clv_operation_check(&good, err));
        empty.action = (clv_kms_action)action;
        assert_code(clv_operation_check(&empty, err), CLV_OPERATION_INVALID);
        fill(&more, (clv_kms_action)action);
        if (action == CLV_DECRYPT)
            more.number_of_bytes = 32;
        else
            assert_ok(clv_buf_append_text(&more.ciphertext, "blob", err));
        assert_code(clv_operation_check(&more, err), CLV_OPERATION_INVALID);
    }
}

static void limits_of_kms_are_kept(void **state)
{
    (void)state;
    clv_auto(clv_operation) o = CLV_OPERATION_INIT;
    fill(&o, CLV_GENERATE_DATA_KEY);
    o.number_of_bytes = CLV_DATA_KEY_MAX;
    assert_ok(clv_operation_check(&o, err));
    o.number_of_bytes = CLV_DATA_KEY_MAX + 1;
    assert_code(clv_operation_check(&o, err), CLV_OPERATION_INVALID);

    clv_auto(clv_operation) decrypt = CLV_OPERATION_INIT;
    static const uint8_t blob[CLV_CIPHERTEXT_BLOB_MAX];
    fill(&decrypt, CLV_DECRYPT);
    assert_ok(clv_buf_append(&decrypt.ciphertext, CLV_BYTES(blob, sizeof blob - 4), err));
    assert_ok(clv_operation_check(&decrypt, err));
    assert_ok(clv_buf_u8(&decrypt.ciphertext, 0, err));
    assert_code(clv_operation_check(&decrypt, err), CLV_OPERATION_INVALID);
}

static void actions_are_known_by_kmss_names(void **state)
{
    (void)state;
    clv_kms_action action;
    for (unsigned i = 0; i < CLV_KMS_ACTION_COUNT; i++) {
        assert_true(clv_kms_action_of(clv_kms_action_name((clv_kms_action)i), &action));
        assert_int_equal(action, i);
    }
    assert_false(clv_kms_action_of("Encrypt", &action));
    assert_false(clv_kms_action_of("decrypt", &action));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_stand_in_the_order_of_their_encodings),
        cmocka_unit_test(a_contexts_shorter_names_stand_first),
        cmocka_unit_test(every_parameter_changes_the_digest),
        cmocka_unit_test(an_operation_has_what_it_needs_and_nothing_else),
        cmocka_unit_test(limits_of_kms_are_kept),
        cmocka_unit_test(actions_are_known_by_kmss_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

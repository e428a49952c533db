/* Derivation: the published vectors, and what each algorithm's key can do. */
#include "../check.h"

#include <base/crypto.h>
#include <base/file.h>
#include <base/json.h>
#include <vault/derive.h>

/* tests/vault/derivation.py, which shares no line with the library, made and checks this file. */
static json_t *vectors(void)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    char path[512];
    json_t *json = NULL;
    snprintf(path, sizeof path, "%s/../docs/derivation-vectors.json", getenv("CLAVIGER_FIXTURES"));
    assert_ok(clv_file_read(path, 65536, &text, err));
    assert_ok(clv_json_parse(clv_buf_bytes(&text), 65536, &json, err));
    return json;
}

static const char *text_of(const json_t *row, const char *name)
{
    return json_string_value(json_object_get(row, name));
}

static void assert_hex(clv_bytes found, const char *expected)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text = NULL;
    assert_ok(clv_hex_append(&hex, found, err));
    assert_ok(clv_buf_text(&hex, &text, err));
    assert_string_equal(text, expected);
}

static void read_secret(const char *hex, clv_secret **out)
{
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    assert_ok(clv_hex_decode(clv_bytes_of(hex), &bytes, err));
    assert_ok(clv_secret_copy(clv_buf_bytes(&bytes), out, err));
}

static void check_row(const json_t *row)
{
    clv_auto_ptr(clv_secret) root = NULL;
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto(clv_buf) info = CLV_BUF_INIT;
    clv_auto(clv_buf) public_key = CLV_BUF_INIT;
    uint8_t root_id[CLV_DERIVE_ROOT_ID];
    const char *name;
    json_t *value;

    read_secret(text_of(row, "root"), &root);
    json_object_foreach(json_object_get(row, "context"), name, value)
        assert_ok(clv_context_add(&context, name, json_string_value(value), err));
    clv_derivation d = {.length = (uint32_t)json_integer_value(json_object_get(row, "length")),
                        .purpose = text_of(row, "purpose"),
                        .path = text_of(row, "path")};
    assert_ok(clv_derive_algorithm_of(text_of(row, "algorithm"), &d.algorithm, err));
    assert_ok(clv_derivation_check(&d, err));

    const char *arn = text_of(row, "key_arn");
    assert_ok(clv_derivation_info(&d, arn, &context, &info, err));
    assert_hex(clv_buf_bytes(&info), text_of(row, "info"));
    assert_ok(clv_derive_key(root, &d, arn, &context, &key, err));
    assert_hex(clv_secret_bytes(key), text_of(row, "key"));
    assert_ok(clv_derive_root_id(root, root_id, err));
    assert_hex(CLV_BYTES(root_id, sizeof root_id), text_of(row, "root_id"));
    if (text_of(row, "public_key") != NULL) {
        assert_ok(clv_derive_public(d.algorithm, key, &public_key, err));
        assert_hex(clv_buf_bytes(&public_key), text_of(row, "public_key"));
    } else {
        assert_code(clv_derive_public(d.algorithm, key, &public_key, err), CLV_DERIVE_INVALID);
    }
}

static void published_vectors_hold(void **state)
{
    (void)state;
    clv_auto(clv_json) rows = vectors();
    assert_true(json_array_size(rows) >= 17);
    for (size_t i = 0; i < json_array_size(rows); i++)
        check_row(json_array_get(rows, i));
}

static void refuses_parameters_outside_their_limits(void **state)
{
    (void)state;
    char longest[CLV_DERIVE_TEXT_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    const clv_derivation bad[] = {
        {CLV_DERIVE_RAW, CLV_DERIVE_MAX + 1, "p", "q"},
        {CLV_DERIVE_ED25519, 31, "p", "q"},
        {CLV_DERIVE_HMAC_SHA256, 64, "p", "q"},
        {CLV_DERIVE_P256, 48, "p", "q"},
        {CLV_DERIVE_RAW, 0, "", "q"},
        {CLV_DERIVE_RAW, 0, "p", ""},
        {CLV_DERIVE_RAW, 0, "p", longest},
        {CLV_DERIVE_RAW, 0, longest, "q"},
        {CLV_DERIVE_RAW, 0, "p", "a\nb"},
        {CLV_DERIVE_RAW, 0, "p", "\xc3\xa9"},
        {CLV_DERIVE_RAW, 0, "p\x7f", "q"},
    };
    for (size_t i = 0; i < ROWS(bad); i++) {
        clv_derivation d = bad[i];
        assert_code(clv_derivation_check(&d, err), CLV_DERIVE_INVALID);
    }
    clv_derivation d = {CLV_DERIVE_HMAC_SHA512, 0, "p", "q"};
    assert_ok(clv_derivation_check(&d, err));
    assert_int_equal(d.length, 64);
    clv_derive_algorithm algorithm;
    assert_code(clv_derive_algorithm_of("ED25519", &algorithm, err), CLV_DERIVE_INVALID);
    assert_code(clv_derive_algorithm_of("", &algorithm, err), CLV_DERIVE_INVALID);
}

static void a_key_for(clv_derive_algorithm algorithm, clv_secret **key, clv_buf *public_key)
{
    clv_auto_ptr(clv_secret) root = NULL;
    clv_context context = CLV_CONTEXT_INIT;
    clv_derivation d = {algorithm, 0, "test", "signing"};
    assert_ok(clv_secret_copy(clv_bytes_of("0123456789abcdef0123456789abcdef"), &root, err));
    assert_ok(clv_derivation_check(&d, err));
    assert_ok(clv_derive_key(root, &d, "arn", &context, key, err));
    if (public_key != NULL)
        assert_ok(clv_derive_public(algorithm, *key, public_key, err));
}

static void ed25519_signatures_verify_under_the_public_key(void **state)
{
    (void)state;
    static const char *const message[] = {"", "a message"};
    for (size_t i = 0; i < ROWS(message); i++) {
        clv_auto_ptr(clv_secret) key = NULL;
        clv_auto(clv_buf) public_key = CLV_BUF_INIT;
        clv_auto(clv_buf) signature = CLV_BUF_INIT;
        a_key_for(CLV_DERIVE_ED25519, &key, &public_key);
        assert_ok(clv_derive_sign(CLV_DERIVE_ED25519, key, clv_bytes_of(message[i]), false,
                                  &signature, err));
        clv_auto(clv_pkey) pkey =
            EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key.p, public_key.n);
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey), 1);
        assert_int_equal(EVP_DigestVerify(ctx, signature.p, signature.n,
                                          (const uint8_t *)message[i], strlen(message[i])),
                         1);
        signature.p[5] ^= 1;
        assert_int_not_equal(EVP_DigestVerify(ctx, signature.p, signature.n,
                                              (const uint8_t *)message[i], strlen(message[i])),
                             1);
        EVP_MD_CTX_free(ctx);
    }
}

static void a_signature_over_a_message_is_one_over_its_digest(void **state)
{
    (void)state;
    static const clv_derive_algorithm algorithm[] = {CLV_DERIVE_P256, CLV_DERIVE_SECP256K1};
    for (size_t i = 0; i < ROWS(algorithm); i++) {
        clv_auto_ptr(clv_secret) key = NULL;
        clv_auto(clv_buf) signature = CLV_BUF_INIT;
        uint8_t digest[CLV_SHA256_SIZE];
        a_key_for(algorithm[i], &key, NULL);
        assert_ok(clv_derive_sign(algorithm[i], key, clv_bytes_of("m"), false, &signature, err));
        assert_ok(clv_sha256(clv_bytes_of("m"), digest, err));
        assert_ok(clv_derive_sign(algorithm[i], key, CLV_BYTES(digest, sizeof digest), true,
                                  &signature, err));
        assert_int_equal(signature.n, 128);
        assert_code(
            clv_derive_sign(algorithm[i], key, CLV_BYTES(digest, 31), true, &signature, err),
            CLV_DERIVE_INVALID);
        /* The lower s: its first bit is never set. */
        assert_int_equal(signature.p[32] & 0x80, 0);
        assert_int_equal(signature.p[96] & 0x80, 0);
    }
}

static void keys_do_only_what_their_algorithm_is_for(void **state)
{
    (void)state;
    for (unsigned a = 0; a < CLV_DERIVE_ALGORITHM_COUNT; a++) {
        clv_derive_algorithm algorithm = (clv_derive_algorithm)a;
        bool hmac = algorithm == CLV_DERIVE_HMAC_SHA256 || algorithm == CLV_DERIVE_HMAC_SHA512;
        bool signs = algorithm == CLV_DERIVE_ED25519 || algorithm == CLV_DERIVE_P256 ||
                     algorithm == CLV_DERIVE_SECP256K1;
        clv_auto_ptr(clv_secret) key = NULL;
        clv_auto(clv_buf) out = CLV_BUF_INIT;
        a_key_for(algorithm, &key, NULL);
        clv_status sign = clv_derive_sign(algorithm, key, clv_bytes_of("m"), false, &out, NULL);
        clv_status tag = clv_derive_hmac(algorithm, key, clv_bytes_of("m"), &out, NULL);
        assert_int_equal(sign, signs ? CLV_OK : CLV_DERIVE_INVALID);
        assert_int_equal(tag, hmac ? CLV_OK : CLV_DERIVE_INVALID);
    }
}

static void tags_are_those_of_rfc_4231(void **state)
{
    (void)state;
    /* Test case 6: a key longer than the block, as RFC 4231 section 4.7 has it. */
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) tag = CLV_BUF_INIT;
    uint8_t long_key[131];
    memset(long_key, 0xaa, sizeof long_key);
    assert_ok(clv_secret_copy(CLV_BYTES(long_key, sizeof long_key), &key, err));
    assert_ok(clv_derive_hmac(
        CLV_DERIVE_HMAC_SHA256, key,
        clv_bytes_of("Test Using Larger Than Block-Size Key - Hash Key First"), &tag, err));
    assert_hex(clv_buf_bytes(&tag),
               "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

int main(void)
{
    clv_error err;
    if (clv_secret_start(&err) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_hold),
        cmocka_unit_test(refuses_parameters_outside_their_limits),
        cmocka_unit_test(ed25519_signatures_verify_under_the_public_key),
        cmocka_unit_test(a_signature_over_a_message_is_one_over_its_digest),
        cmocka_unit_test(keys_do_only_what_their_algorithm_is_for),
        cmocka_unit_test(tags_are_those_of_rfc_4231),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The CiphertextBlob of the local KMS: what was encrypted comes back under the same key and
 * context, and under nothing else. */
#include "../check.h"

#include <base/json.h>
#include <sim/kms/blob.h>

#define KEY_ID "1234abcd-12ab-34cd-56ef-1234567890ab"

static const uint8_t MATERIAL[CLV_SYMMETRIC_SIZE] = {1, 2, 3};

static json_t *context_of(const char *text)
{
    json_t *json = NULL;
    assert_ok(clv_json_parse(clv_bytes_of(text), 4096, &json, err));
    return json;
}

static void seal(const char *context, clv_buf *out)
{
    clv_auto(clv_json) json = context_of(context);
    assert_ok(clv_blob_seal(KEY_ID, 7, CLV_BYTES(MATERIAL, sizeof MATERIAL), json,
                            clv_bytes_of("plaintext"), out, err));
}

static clv_status open_blob(clv_bytes bytes, const char *context, clv_buf *out, clv_error *err)
{
    clv_auto(clv_json) json = context_of(context);
    clv_blob blob;
    CLV_TRY(clv_blob_parse(bytes, &blob, err));
    return clv_blob_open(&blob, CLV_BYTES(MATERIAL, sizeof MATERIAL), json, out, err);
}

static void opens_under_its_context_in_any_order(void **state)
{
    (void)state;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    seal("{\"b\":\"2\",\"a\":\"1\"}", &blob);
    assert_ok(open_blob(clv_buf_bytes(&blob), "{\"a\":\"1\",\"b\":\"2\"}", &plaintext, err));
    assert_bytes(clv_buf_bytes(&plaintext), "plaintext");
}

static void names_its_key_and_version(void **state)
{
    (void)state;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_blob blob;
    seal("{}", &bytes);
    assert_ok(clv_blob_parse(clv_buf_bytes(&bytes), &blob, err));
    assert_string_equal(blob.key_id, KEY_ID);
    assert_int_equal(blob.version, 7);
}

static void refuses_every_other_context(void **state)
{
    (void)state;
    static const char *const others[] = {
        "{}",
        "{\"a\":\"1\"}",
        "{\"a\":\"1\",\"b\":\"3\"}",
        "{\"a\":\"1\",\"B\":\"2\"}",
        "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}",
        "{\"a\":\"1b\",\"\":\"2\"}",
        "{\"a1\":\"\",\"b\":\"2\"}",
    };
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    seal("{\"a\":\"1\",\"b\":\"2\"}", &blob);
    for (size_t i = 0; i < ROWS(others); i++) {
        clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
        assert_code(open_blob(clv_buf_bytes(&blob), others[i], &plaintext, err),
                    CLV_KMS_INVALID_CIPHERTEXT);
        assert_int_equal(plaintext.n, 0);
    }
}

static void refuses_any_changed_byte_and_any_length(void **state)
{
    (void)state;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    seal("{\"a\":\"1\"}", &blob);
    for (size_t i = 0; i < blob.n; i++) {
        clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
        blob.p[i] ^= 1;
        assert_code(open_blob(clv_buf_bytes(&blob), "{\"a\":\"1\"}", &plaintext, err),
                    CLV_KMS_INVALID_CIPHERTEXT);
        blob.p[i] ^= 1;
        assert_code(open_blob(CLV_BYTES(blob.p, i), "{\"a\":\"1\"}", &plaintext, err),
                    CLV_KMS_INVALID_CIPHERTEXT);
    }
}

static void reveals_without_the_context(void **state)
{
    (void)state;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    clv_blob blob;
    seal("{\"a\":\"1\"}", &bytes);
    assert_ok(clv_blob_parse(clv_buf_bytes(&bytes), &blob, err));
    assert_ok(clv_blob_reveal(&blob, CLV_BYTES(MATERIAL, sizeof MATERIAL), &plaintext, err));
    assert_bytes(clv_buf_bytes(&plaintext), "plaintext");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_under_its_context_in_any_order),
        cmocka_unit_test(names_its_key_and_version),
        cmocka_unit_test(refuses_every_other_context),
        cmocka_unit_test(refuses_any_changed_byte_and_any_length),
        cmocka_unit_test(reveals_without_the_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

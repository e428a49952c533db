#include "../check.h"

#include <claviger/kms.h>

#define ID     "\"AccessKeyId\":\"ASIAIOSFODNN7EXAMPLE\""
#define SECRET "\"SecretAccessKey\":\"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\""

static void reads_what_each_source_gives(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *token; /* NULL: none */
        uint64_t expires_ms;
        const char *account;
    } row[] = {
        /* IMDSv2 */
        {"{\"Code\":\"Success\",\"LastUpdated\":\"2026-11-23T20:00:00Z\",\"Type\":\"AWS-HMAC\"," ID
         "," SECRET ",\"Token\":\"to/ken==\",\"Expiration\":\"2026-11-24T02:00:00Z\"}",
         "to/ken==", UINT64_C(1795485600000), ""},
        /* ECS */
        {"{\"RoleArn\":\"arn:aws:iam::123456789012:role/task\"," ID "," SECRET
         ",\"Token\":\"t\",\"Expiration\":\"2026-11-24T02:00:00Z\"}",
         "t", UINT64_C(1795485600000), "123456789012"},
        /* EKS Pod Identity */
        {"{" ID "," SECRET ",\"Token\":\"t\",\"AccountId\":\"210987654321\","
         "\"Expiration\":\"2026-11-24T02:00:00Z\"}",
         "t", UINT64_C(1795485600000), "210987654321"},
        /* credential_process */
        {"{\"Version\":1," ID "," SECRET ",\"SessionToken\":\"s\"}", "s", 0, ""},
        /* an IAM user, from the environment */
        {"{" ID "," SECRET "}", NULL, 0, ""},
        {"{" ID "," SECRET ",\"Token\":\"\"}", NULL, 0, ""},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_auto(clv_credentials) c = CLV_CREDENTIALS_INIT;
        assert_ok(clv_credentials_parse(clv_bytes_of(row[i].text), &c, err));
        assert_string_equal(c.access_key_id, "ASIAIOSFODNN7EXAMPLE");
        assert_bytes(clv_secret_bytes(c.secret_access_key),
                     "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        assert_int_equal(c.expires_ms, row[i].expires_ms);
        assert_string_equal(c.account, row[i].account);
        assert_int_equal(c.session_token != NULL, row[i].token != NULL);
        if (row[i].token != NULL)
            assert_true(
                clv_bytes_equal(clv_secret_bytes(c.session_token), clv_bytes_of(row[i].token)));
    }
}

/* The word that the sentence must hold, so that the reader knows which member is meant. */
static void refuses_malformed_credentials_by_member_and_shows_no_value(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *named;
    } row[] = {
        {"", "credentials"},
        {"[]", "object"},
        {"{" ID "," SECRET "", "line"},
        {"{" ID "," SECRET "}x", "line"},
        {"{" ID "," ID "," SECRET "}", "twice"},
        {"{" SECRET "}", "AccessKeyId"},
        {"{" ID "}", "SecretAccessKey"},
        {"{\"AccessKeyId\":7," SECRET "}", "AccessKeyId"},
        {"{\"AccessKeyId\":\"AKIA\"," SECRET "}", "AccessKeyId"},
        {"{\"AccessKeyId\":\"AKIAIOSFODNN7EXA/PLE\"," SECRET "}", "AccessKeyId"},
        {"{\"AccessKeyId\":\"AKIAIOSFODNN7\\r\\nX: y\"," SECRET "}", "AccessKeyId"},
        {"{" ID ",\"SecretAccessKey\":\"\"}", "SecretAccessKey"},
        {"{" ID ",\"SecretAccessKey\":\"LEAKED secret\"}", "SecretAccessKey"},
        {"{" ID ",\"SecretAccessKey\":null}", "SecretAccessKey"},
        {"{" ID "," SECRET ",\"Token\":\"LEAKED\\r\\nX-Amz-Target: other\"}", "Token"},
        {"{" ID "," SECRET ",\"Token\":\"LEAKED\\u00e9\"}", "Token"},
        {"{" ID "," SECRET ",\"Token\":[\"LEAKED\"]}", "Token"},
        {"{" ID "," SECRET ",\"Token\":\"LEAKED\",\"SessionToken\":\"LEAKED\"}", "SessionToken"},
        {"{" ID "," SECRET ",\"Expiration\":\"LEAKED\"}", "Expiration"},
        {"{" ID "," SECRET ",\"Expiration\":\"2026-11-24\"}", "Expiration"},
        {"{" ID "," SECRET ",\"Expiration\":1795485600}", "Expiration"},
        {"{\"Code\":\"AssumeRoleUnauthorizedAccess\"," ID "," SECRET "}", "Code"},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_credentials c = CLV_CREDENTIALS_INIT;
        clv_error err = {0};
        assert_int_equal(clv_credentials_parse(clv_bytes_of(row[i].text), &c, &err),
                         CLV_KMS_CREDENTIALS);
        if (strstr(err.text, row[i].named) == NULL)
            fail_msg("%s: expected a sentence about %s, found %s", row[i].text, row[i].named,
                     err.text);
        assert_null(strstr(err.text, "LEAKED"));
        assert_null(strstr(err.text, "wJalr"));
        assert_null(c.secret_access_key);
        assert_null(c.session_token);
    }
}

static void refuses_values_without_bound(void **state)
{
    (void)state;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    assert_ok(clv_buf_append_text(&text, "{" ID "," SECRET ",\"Token\":\"", err));
    for (int i = 0; i < 16385; i++)
        assert_ok(clv_buf_u8(&text, 'a', err));
    assert_ok(clv_buf_append_text(&text, "\"}", err));
    clv_credentials c = CLV_CREDENTIALS_INIT;
    assert_code(clv_credentials_parse(clv_buf_bytes(&text), &c, err), CLV_KMS_CREDENTIALS);
    for (int i = 0; i < 20000; i++)
        assert_ok(clv_buf_u8(&text, ' ', err));
    assert_code(clv_credentials_parse(clv_buf_bytes(&text), &c, err), CLV_KMS_CREDENTIALS);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_each_source_gives),
        cmocka_unit_test(refuses_malformed_credentials_by_member_and_shows_no_value),
        cmocka_unit_test(refuses_values_without_bound),
    };
    clv_error err = {0};
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One voucher, one call: what goes out, and what may come back. Over real TLS sockets. */
#include "../check.h"
#include "stage.h"

#include <signal.h>

#include <base/crypto.h>
#include <base/json.h>

static stage s;

static int open_stage(void **state)
{
    (void)state;
    static const stage_options options = {0};
    stage_open(&s, &options);
    return 0;
}

static int close_stage(void **state)
{
    (void)state;
    stage_close(&s);
    return 0;
}

static void rewind_server(const reply *script, size_t length)
{
    tls_server_script(&s.server, script, length);
    s.plaintext = clv_bytes_of(STAGE_SECRET);
    s.key_id = STAGE_KEY_ARN;
}

static const reply as_asked[] = {{.kind = REPLY_ANSWER}};

static void every_operation_opens_its_answer(void **state)
{
    (void)state;
    for (unsigned action = 0; action < CLV_KMS_ACTION_COUNT; action++) {
        rewind_server(as_asked, 1);
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_ok(stage_call(&s, (clv_kms_action)action, &answer, NULL, err));
        assert_bytes(clv_secret_bytes(answer.plaintext), STAGE_SECRET);
        assert_string_equal(answer.request_id, "6f1a4e0c-test");
        assert_true(answer.document.n > 1000);
        bool blob = action == CLV_GENERATE_DATA_KEY || action == CLV_GENERATE_DATA_KEY_PAIR;
        assert_int_equal(answer.ciphertext_blob.n, blob ? 4 : 0);
        assert_int_equal(answer.public_key.n,
                         action == CLV_GENERATE_DATA_KEY_PAIR ? STAGE_PUBLIC_KEY_SIZE : 0);
        assert_int_equal(s.server.requests, 1);
    }
}

/* The members of each request beside Recipient, as AWS's API reference has them. */
static void sends_exactly_what_the_operation_says(void **state)
{
    (void)state;
    static const struct {
        clv_kms_action action;
        const char *members;
    } row[] = {
        {CLV_GENERATE_DATA_KEY, "{\"EncryptionContext\":{\"a\":\"b\"},\"KeyId\":\"" STAGE_KEY_ARN
                                "\",\"NumberOfBytes\":32}"},
        {CLV_DECRYPT, "{\"CiphertextBlob\":\"YmxvYg==\",\"EncryptionContext\":{\"a\":\"b\"},"
                      "\"KeyId\":\"" STAGE_KEY_ARN "\"}"},
        {CLV_GENERATE_DATA_KEY_PAIR,
         "{\"EncryptionContext\":{\"a\":\"b\"},\"KeyId\":\"" STAGE_KEY_ARN
         "\",\"KeyPairSpec\":\"ECC_NIST_P256\"}"},
        {CLV_GENERATE_RANDOM, "{\"NumberOfBytes\":32}"},
        {CLV_DERIVE_SHARED_SECRET, "{\"KeyAgreementAlgorithm\":\"ECDH\",\"KeyId\":\"" STAGE_KEY_ARN
                                   "\",\"PublicKey\":\"" STAGE_PUBLIC_KEY "\"}"},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        rewind_server(as_asked, 1);
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_ok(stage_call(&s, row[i].action, &answer, NULL, err));
        clv_auto(clv_json) sent = NULL;
        clv_auto(clv_buf) text = CLV_BUF_INIT, document = CLV_BUF_INIT;
        assert_ok(clv_json_parse(clv_buf_bytes(&s.server.body), s.server.body.n, &sent, err));
        json_t *recipient = json_object_get(sent, "Recipient");
        assert_int_equal(json_object_size(recipient), 2);
        assert_string_equal(json_string_value(json_object_get(recipient, "KeyEncryptionAlgorithm")),
                            "RSAES_OAEP_SHA_256");
        assert_ok(clv_base64_decode(
            clv_bytes_of(json_string_value(json_object_get(recipient, "AttestationDocument"))),
            &document, err));
        assert_true(clv_bytes_equal(clv_buf_bytes(&document), clv_buf_bytes(&answer.document)));
        json_object_del(sent, "Recipient");
        assert_ok(clv_json_append(&text, sent, err));
        const char *found;
        assert_ok(clv_buf_text(&text, &found, err));
        assert_string_equal(found, row[i].members);
    }
}

/* The date is the module's, of 2023, whatever the machine's clock says (R25). */
static void signs_at_the_attested_time_for_the_endpoint(void **state)
{
    (void)state;
    rewind_server(as_asked, 1);
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    assert_ok(stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, err));
    const char *head;
    assert_ok(clv_buf_text(&s.server.head, &head, err));
    static const char *const expected[] = {
        "POST / HTTP/1.1\r\n",
        "\r\nHost: " STAGE_HOST "\r\n",
        "\r\nx-amz-date: 202311",
        "\r\nx-amz-target: TrentService.GenerateRandom\r\n",
        "\r\ncontent-type: application/x-amz-json-1.1\r\n",
        "\r\nx-amz-security-token: session-token\r\n",
        "Credential=ASIATESTCREDENTIAL00/202311",
        "/us-east-1/kms/aws4_request",
        "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, ",
    };
    for (size_t i = 0; i < ROWS(expected); i++) {
        if (strstr(head, expected[i]) == NULL)
            fail_msg("expected %s in the request's head, found %s", expected[i], head);
    }
    static const char *const unexpected[] = {"Accept", "Expect", "User-Agent", "secret\r\n"};
    for (size_t i = 0; i < ROWS(unexpected); i++)
        assert_null(strstr(head, unexpected[i]));
    assert_string_equal(s.server.sni, STAGE_HOST);
}

#define CIPHERTEXT "\"CiphertextForRecipient\":\"AAAA\""
#define KEY_ID     "\"KeyId\":\"" STAGE_KEY_ARN "\""
#define BLOB       "\"CiphertextBlob\":\"YmxvYg==\""

/* Each answer of status 200 to a GenerateDataKey that must not be taken, and why. */
static const struct answer_case {
    const char *name;
    const char *body;
    clv_status expected;
} bad_answers[] = {
    {"plaintext beside the recipient's",
     "{" CIPHERTEXT "," KEY_ID "," BLOB ",\"Plaintext\":\"AA==\"}", CLV_KMS_PLAINTEXT},
    {"plaintext in place of the recipient's", "{" KEY_ID "," BLOB ",\"Plaintext\":\"AA==\"}",
     CLV_KMS_PLAINTEXT},
    {"empty plaintext", "{" CIPHERTEXT "," KEY_ID "," BLOB ",\"Plaintext\":\"\"}",
     CLV_KMS_PLAINTEXT},
    {"plaintext of another type", "{" CIPHERTEXT "," KEY_ID "," BLOB ",\"Plaintext\":false}",
     CLV_KMS_PLAINTEXT},
    {"private key in the clear",
     "{" CIPHERTEXT "," KEY_ID "," BLOB ",\"PrivateKeyPlaintext\":\"AA==\"}", CLV_KMS_PLAINTEXT},
    {"shared secret in the clear", "{" CIPHERTEXT "," KEY_ID "," BLOB ",\"SharedSecret\":\"AA==\"}",
     CLV_KMS_PLAINTEXT},
    {"another key",
     "{" CIPHERTEXT "," BLOB
     ",\"KeyId\":\"arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000\"}",
     CLV_KMS_KEY_MISMATCH},
    {"the key's bare id",
     "{" CIPHERTEXT "," BLOB ",\"KeyId\":\"1234abcd-12ab-34cd-56ef-1234567890ab\"}",
     CLV_KMS_KEY_MISMATCH},
    {"a longer key id", "{" CIPHERTEXT "," BLOB ",\"KeyId\":\"" STAGE_KEY_ARN "0\"}",
     CLV_KMS_KEY_MISMATCH},
    {"no key id", "{" CIPHERTEXT "," BLOB "}", CLV_KMS_RESPONSE},
    {"a key id of another type", "{" CIPHERTEXT "," BLOB ",\"KeyId\":7}", CLV_KMS_RESPONSE},
    {"no recipient's ciphertext", "{" KEY_ID "," BLOB "}", CLV_KMS_RESPONSE},
    {"a null recipient's ciphertext", "{" KEY_ID "," BLOB ",\"CiphertextForRecipient\":null}",
     CLV_KMS_RESPONSE},
    {"an empty recipient's ciphertext", "{" KEY_ID "," BLOB ",\"CiphertextForRecipient\":\"\"}",
     CLV_KMS_RESPONSE},
    {"base64 without padding", "{" KEY_ID "," BLOB ",\"CiphertextForRecipient\":\"AAA\"}",
     CLV_KMS_RESPONSE},
    {"base64url", "{" KEY_ID "," BLOB ",\"CiphertextForRecipient\":\"__-A\"}", CLV_KMS_RESPONSE},
    {"base64 with a line break", "{" KEY_ID "," BLOB ",\"CiphertextForRecipient\":\"AAAA\\n\"}",
     CLV_KMS_RESPONSE},
    {"no blob", "{" CIPHERTEXT "," KEY_ID "}", CLV_KMS_RESPONSE},
    {"an empty blob", "{" CIPHERTEXT "," KEY_ID ",\"CiphertextBlob\":\"\"}", CLV_KMS_RESPONSE},
    {"ciphertext that is no CMS", "{" CIPHERTEXT "," KEY_ID "," BLOB "}", CLV_CMS_FORMAT},
    {"a member twice", "{" CIPHERTEXT "," KEY_ID "," KEY_ID "," BLOB "}", CLV_KMS_RESPONSE},
    {"JSON cut short", "{" CIPHERTEXT "," KEY_ID, CLV_KMS_RESPONSE},
    {"an array", "[]", CLV_KMS_RESPONSE},
    {"an error page", "<html><body>It works!</body></html>", CLV_KMS_RESPONSE},
    {"nothing", "", CLV_KMS_RESPONSE},
};

static void refuses_answers_that_are_not_what_was_asked(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(bad_answers); i++) {
        const reply script[] = {{.kind = REPLY_ANSWER, .body = bad_answers[i].body}};
        rewind_server(script, 1);
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        clv_error err = {0};
        clv_kms_failure failure = {0};
        clv_status found = stage_call(&s, CLV_GENERATE_DATA_KEY, &answer, &failure, &err);
        if (found != bad_answers[i].expected)
            fail_msg("%s: expected %s, found %s: %s", bad_answers[i].name,
                     clv_status_slug(bad_answers[i].expected), clv_status_slug(found), err.text);
        assert_null(answer.plaintext);
        assert_int_equal(answer.ciphertext_blob.n, 0);
        assert_int_equal(failure.http_status, 200);
        assert_string_equal(failure.request_id, "6f1a4e0c-test");
        assert_false(failure.retryable);
    }
    rewind_server(as_asked, 1);
}

static void refuses_a_blob_or_ciphertext_beyond_its_limit(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        size_t n;
    } row[] = {
        {"{" CIPHERTEXT "," KEY_ID ",\"CiphertextBlob\":\"", "\"}", CLV_CIPHERTEXT_BLOB_MAX + 3},
        {"{" KEY_ID "," BLOB ",\"CiphertextForRecipient\":\"", "\"}", CLV_CMS_MAX + 3},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_auto(clv_buf) body = CLV_BUF_INIT;
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        const char *text;
        assert_ok(clv_buf_append_text(&body, row[i].before, err));
        for (size_t k = 0; k < row[i].n / 3; k++)
            assert_ok(clv_buf_append_text(&body, "AAAA", err));
        assert_ok(clv_buf_append_text(&body, row[i].after, err));
        assert_ok(clv_buf_text(&body, &text, err));
        const reply script[] = {{.kind = REPLY_ANSWER, .body = text}};
        rewind_server(script, 1);
        assert_code(stage_call(&s, CLV_GENERATE_DATA_KEY, &answer, NULL, err), CLV_KMS_RESPONSE);
        rewind_server(as_asked, 1);
    }
}

/* A key on this curve, as the other side of an agreement. */
static void use_peer_on(const char *curve, clv_operation *operation)
{
    EVP_PKEY *key = EVP_EC_gen(curve);
    assert_non_null(key);
    clv_buf_drop(&operation->public_key);
    assert_ok(clv_spki_append(&operation->public_key, key, err));
    EVP_PKEY_free(key);
}

static void refuses_plaintexts_of_another_length(void **state)
{
    (void)state;
    static const char long_text[5000] = "x";
    static const struct {
        clv_kms_action action;
        const char *curve;
        size_t n;
        clv_status expected;
    } row[] = {
        {CLV_GENERATE_DATA_KEY, NULL, 31, CLV_KMS_RESPONSE},
        {CLV_GENERATE_DATA_KEY, NULL, 33, CLV_KMS_RESPONSE},
        {CLV_GENERATE_RANDOM, NULL, 1, CLV_KMS_RESPONSE},
        {CLV_DERIVE_SHARED_SECRET, "P-256", 31, CLV_KMS_RESPONSE},
        {CLV_DERIVE_SHARED_SECRET, "P-256", 32, CLV_OK},
        {CLV_DERIVE_SHARED_SECRET, "P-256", 48, CLV_KMS_RESPONSE},
        {CLV_DERIVE_SHARED_SECRET, "P-384", 32, CLV_KMS_RESPONSE},
        {CLV_DERIVE_SHARED_SECRET, "P-384", 48, CLV_OK},
        {CLV_DERIVE_SHARED_SECRET, "P-521", 65, CLV_KMS_RESPONSE},
        {CLV_DERIVE_SHARED_SECRET, "P-521", 66, CLV_OK},
        {CLV_DERIVE_SHARED_SECRET, "SM2", 32, CLV_OK},
        {CLV_DECRYPT, NULL, 1, CLV_OK},
        {CLV_DECRYPT, NULL, 4096, CLV_OK},
        {CLV_DECRYPT, NULL, 4097, CLV_KMS_RESPONSE},
        {CLV_GENERATE_DATA_KEY_PAIR, NULL, 4097, CLV_KMS_RESPONSE},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        rewind_server(as_asked, 1);
        s.plaintext = CLV_BYTES(long_text, row[i].n);
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        clv_error err = {0};
        stage_operation(row[i].action, &operation);
        if (row[i].curve != NULL)
            use_peer_on(row[i].curve, &operation);
        clv_status found = stage_call_operation(&s, &operation, &answer, NULL, &err);
        if (found != row[i].expected)
            fail_msg("%s of %zu bytes: expected %s, found %s: %s",
                     clv_kms_action_name(row[i].action), row[i].n, clv_status_slug(row[i].expected),
                     clv_status_slug(found), err.text);
        assert_int_equal(answer.plaintext != NULL, row[i].expected == CLV_OK);
    }
    rewind_server(as_asked, 1);
}

static void refuses_a_key_pair_that_is_none(void **state)
{
    (void)state;
    static const char *const private_keys[] = {"x",
                                               "0\x1d"
                                               "a plaintext of 32 bytes in all",
                                               "0\x1f"
                                               "a plaintext of 32 bytes in all",
                                               "0"};
    static const char *const public_keys[] = {"", "cHVibGlj", STAGE_PUBLIC_KEY "AAAA"};
    for (size_t i = 0; i < ROWS(private_keys); i++) {
        rewind_server(as_asked, 1);
        s.plaintext = clv_bytes_of(private_keys[i]);
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_code(stage_call(&s, CLV_GENERATE_DATA_KEY_PAIR, &answer, NULL, err),
                    CLV_KMS_RESPONSE);
        assert_null(answer.plaintext);
    }
    for (size_t i = 0; i < ROWS(public_keys); i++) {
        char body[600];
        snprintf(body, sizeof body,
                 "{" CIPHERTEXT "," KEY_ID ",\"PrivateKeyCiphertextBlob\":\"AAAA\","
                 "\"PublicKey\":\"%s\"}",
                 public_keys[i]);
        const reply script[] = {{.kind = REPLY_ANSWER, .body = body}};
        rewind_server(script, 1);
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_code(stage_call(&s, CLV_GENERATE_DATA_KEY_PAIR, &answer, NULL, err),
                    CLV_KMS_RESPONSE);
    }
    rewind_server(as_asked, 1);
}

static void sends_no_peer_that_kms_cannot_agree_with(void **state)
{
    (void)state;
    rewind_server(as_asked, 1);
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    stage_operation(CLV_DERIVE_SHARED_SECRET, &operation);
    use_peer_on("secp256k1", &operation);
    assert_code(stage_call_operation(&s, &operation, &answer, NULL, err), CLV_OPERATION_INVALID);
    clv_buf_drop(&operation.public_key);
    assert_ok(clv_buf_append_text(&operation.public_key, "public", err));
    assert_code(stage_call_operation(&s, &operation, &answer, NULL, err), CLV_OPERATION_INVALID);
    assert_int_equal(s.server.requests, 0);
}

static void a_voucher_is_good_for_one_call_of_its_own_operation(void **state)
{
    (void)state;
    rewind_server(as_asked, 1);
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_auto_ptr(clv_voucher) voucher = NULL;
    stage_operation(CLV_GENERATE_DATA_KEY, &operation);

    assert_code(clv_kms_call(s.kms, &voucher, &operation, &answer, NULL, err), CLV_VOUCHER_SPENT);
    assert_ok(clv_gate_vouch(s.gate, &operation, &voucher, err));
    assert_ok(clv_voucher_spend(voucher, &operation, err));
    assert_code(clv_kms_call(s.kms, &voucher, &operation, &answer, NULL, err), CLV_VOUCHER_SPENT);
    assert_null(voucher);

    assert_ok(clv_gate_vouch(s.gate, &operation, &voucher, err));
    operation.number_of_bytes++;
    assert_code(clv_kms_call(s.kms, &voucher, &operation, &answer, NULL, err),
                CLV_VOUCHER_MISMATCH);
    assert_null(voucher);
    assert_int_equal(s.server.requests, 0);
}

static void answers_for_another_voucher_do_not_open(void **state)
{
    (void)state;
    static const reply first[] = {{.kind = REPLY_ANSWER}};
    rewind_server(first, 1);
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_auto(clv_buf) body = CLV_BUF_INIT;
    const char *text;
    assert_ok(stage_call(&s, CLV_GENERATE_DATA_KEY, &answer, NULL, err));
    s.server.options.make_body(&s, clv_buf_bytes(&s.server.body), &body);
    assert_ok(clv_buf_text(&body, &text, err));
    const reply replayed[] = {{.kind = REPLY_ANSWER, .body = text}};
    rewind_server(replayed, 1);
    clv_auto(clv_kms_answer) again = CLV_KMS_ANSWER_INIT;
    assert_code(stage_call(&s, CLV_GENERATE_DATA_KEY, &again, NULL, err), CLV_CMS_RECIPIENT);
    rewind_server(as_asked, 1);
}

static void keeps_connections_and_resumes_sessions(void **state)
{
    (void)state;
    static const reply closing[] = {{.kind = REPLY_ANSWER, .last = true}, {.kind = REPLY_ANSWER}};
    rewind_server(as_asked, 1);
    size_t before = s.server.connections;
    for (int i = 0; i < 5; i++) {
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_ok(stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, err));
    }
    assert_true(s.server.connections - before <= 1);
    rewind_server(closing, 2);
    before = s.server.connections;
    for (int i = 0; i < 2; i++) {
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_ok(stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, err));
    }
    assert_int_equal(s.server.connections - before, 1);
    assert_int_equal(s.server.resumed, 1);
}

static void *call_often(void *with)
{
    (void)with;
    for (int i = 0; i < 2; i++) {
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        clv_error err = {0};
        if (stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, &err) != CLV_OK)
            return &s;
    }
    return NULL;
}

static void serves_many_threads(void **state)
{
    (void)state;
    pthread_t thread[10];
    rewind_server(as_asked, 1);
    for (size_t i = 0; i < ROWS(thread); i++)
        assert_int_equal(pthread_create(&thread[i], NULL, call_often, NULL), 0);
    for (size_t i = 0; i < ROWS(thread); i++) {
        void *result;
        pthread_join(thread[i], &result);
        assert_null(result);
    }
    assert_int_equal(s.server.requests, 2 * ROWS(thread));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_opens_its_answer),
        cmocka_unit_test(sends_exactly_what_the_operation_says),
        cmocka_unit_test(signs_at_the_attested_time_for_the_endpoint),
        cmocka_unit_test(refuses_answers_that_are_not_what_was_asked),
        cmocka_unit_test(refuses_a_blob_or_ciphertext_beyond_its_limit),
        cmocka_unit_test(refuses_plaintexts_of_another_length),
        cmocka_unit_test(refuses_a_key_pair_that_is_none),
        cmocka_unit_test(sends_no_peer_that_kms_cannot_agree_with),
        cmocka_unit_test(a_voucher_is_good_for_one_call_of_its_own_operation),
        cmocka_unit_test(answers_for_another_voucher_do_not_open),
        cmocka_unit_test(keeps_connections_and_resumes_sessions),
        cmocka_unit_test(serves_many_threads),
    };
    clv_error err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, open_stage, close_stage);
}

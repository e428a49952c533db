/* Every error that KMS may answer, through real TLS sockets: its code, whether it is retried, and a
 * sentence that tells what was asked, what KMS said, and what is usually wrong. */
#include "../check.h"
#include "stage.h"

#include <signal.h>

#include <base/file.h>
#include <kms/errors.h>

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

static clv_status answer_with(const reply *r, clv_kms_failure *failure, clv_error *why)
{
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    *failure = (clv_kms_failure){0};
    *why = (clv_error){0};
    tls_server_script(&s.server, r, 1);
    clv_status status = stage_call(&s, CLV_DECRYPT, &answer, failure, why);
    assert_null(answer.plaintext);
    return status;
}

static void expect_in(const char *sentence, const char *part)
{
    if (strstr(sentence, part) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", part, sentence);
}

static void every_error_of_the_table_is_told_in_full(void **state)
{
    (void)state;
    for (size_t i = 0; i < clv_kms_errors_count; i++) {
        const clv_kms_error *row = &clv_kms_errors[i];
        const char *name = clv_status_slug(row->code);
        char body[200];
        snprintf(body, sizeof body, "{\"__type\":\"%s\",\"message\":\"in KMS's own words\"}", name);
        reply r = {.kind = REPLY_ANSWER, .status = 400, .body = body};
        clv_kms_failure failure;
        clv_error why;
        clv_status found = answer_with(&r, &failure, &why);
        if (found != row->code || failure.retryable != row->retryable)
            fail_msg("%s: found %s: %s", name, clv_status_slug(found), why.text);
        assert_string_equal(failure.type, name);
        assert_string_equal(failure.message, "in KMS's own words");
        assert_string_equal(failure.request_id, "6f1a4e0c-test");
        assert_int_equal(failure.http_status, 400);
        const char *const parts[] = {"Decrypt", STAGE_KEY_ARN,        "HTTP 400",
                                     name,      "in KMS's own words", "6f1a4e0c-test",
                                     row->cause};
        for (size_t k = 0; k < ROWS(parts); k++)
            expect_in(why.text, parts[k]);
    }
}

static void the_longest_parts_leave_room_for_the_cause(void **state)
{
    (void)state;
    char body[2000], message[1500];
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    snprintf(body, sizeof body, "{\"__type\":\"AccessDeniedException\",\"message\":\"%s\"}",
             message);
    reply r = {.kind = REPLY_ANSWER, .status = 400, .body = body};
    clv_kms_failure failure;
    clv_error why;
    assert_int_equal(answer_with(&r, &failure, &why), CLV_KMS_ACCESS_DENIED);
    assert_int_equal(strlen(failure.message), sizeof failure.message - 1);
    expect_in(why.text, clv_kms_error_of(CLV_KMS_ACCESS_DENIED)->cause);
    expect_in(why.text, " PCR0=");
    expect_in(why.text, " PCR16=");
}

static void names_are_found_in_every_form(void **state)
{
    (void)state;
    static const struct {
        reply reply;
        clv_status expected;
        const char *message;
    } row[] = {
        {{.status = 400,
          .body = "{\"__type\":\"com.amazonaws.kms#NotFoundException\","
                  "\"Message\":\"m\"}"},
         CLV_KMS_NOT_FOUND,
         "m"},
        {{.status = 400, .body = "{\"__type\":\"NotFoundException:http://internal/\"}"},
         CLV_KMS_NOT_FOUND,
         ""},
        {{.status = 400, .body = "{}", .header = "x-amzn-ErrorType: DisabledException\r\n"},
         CLV_KMS_DISABLED,
         ""},
        {{.status = 400, .body = "", .header = "X-AMZN-ERRORTYPE: DisabledException:http://x\r\n"},
         CLV_KMS_DISABLED,
         ""},
        {{.status = 400, .body = "{\"__type\":\"ThrottlingException\",\"message\":null}"},
         CLV_KMS_THROTTLING,
         ""},
        {{.status = 400, .body = "{\"__type\":\"AccessDeniedException\",\"message\":7}"},
         CLV_KMS_ACCESS_DENIED,
         ""},
        {{.status = 400, .body = "{\"__type\":\"ExpiredToken\",\"message\":\"a\\nb\\u001b[31m\"}"},
         CLV_KMS_EXPIRED_TOKEN,
         "a?b?[31m"},
        {{.status = 400, .body = "{\"__type\":\"BrandNewException\",\"message\":\"m\"}"},
         CLV_KMS_UNKNOWN_ERROR,
         "m"},
        {{.status = 400, .body = "{\"__type\":\"ok\"}"}, CLV_KMS_UNKNOWN_ERROR, ""},
        {{.status = 400, .body = "{\"__type\":\"voucher-spent\"}"}, CLV_KMS_UNKNOWN_ERROR, ""},
        {{.status = 400, .body = "{\"__type\":[]}"}, CLV_KMS_RESPONSE, ""},
        {{.status = 413, .body = "{}"}, CLV_KMS_RESPONSE, ""},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_kms_failure failure;
        clv_error why;
        clv_status found = answer_with(&row[i].reply, &failure, &why);
        if (found != row[i].expected)
            fail_msg("%s: expected %s, found %s: %s", row[i].reply.body,
                     clv_status_slug(row[i].expected), clv_status_slug(found), why.text);
        assert_string_equal(failure.message, row[i].message);
    }
}

static void statuses_speak_where_no_name_does(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        clv_status expected;
        bool retryable;
    } row[] = {
        {429, "", CLV_KMS_THROTTLING, true},
        {500, "", CLV_KMS_INTERNAL, true},
        {502, "<html>", CLV_KMS_SERVICE_UNAVAILABLE, true},
        {503, "", CLV_KMS_SERVICE_UNAVAILABLE, true},
        {504, "", CLV_KMS_SERVICE_UNAVAILABLE, true},
        {599, "{}", CLV_KMS_RESPONSE, true},
        {500, "{\"__type\":\"BrandNewException\"}", CLV_KMS_UNKNOWN_ERROR, true},
        {500, "{\"__type\":\"NotFoundException\"}", CLV_KMS_NOT_FOUND, true},
        {403, "", CLV_KMS_RESPONSE, false},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_kms_answer_error error = {.http_status = row[i].status,
                                      .request_id = "",
                                      .header_type = "",
                                      .body = clv_bytes_of(row[i].body)};
        clv_kms_failure failure;
        assert_int_equal(clv_kms_error_read(&error, &failure), row[i].expected);
        assert_int_equal(failure.retryable, row[i].retryable);
    }
}

/* Message from KMS, what else is known, and the words the sentence must then have. */
static void the_cause_is_the_one_of_the_situation(void **state)
{
    (void)state;
    static const struct {
        const char *type, *message, *arn, *caller;
        bool debug;
        const char *expected;
    } row[] = {
        {"AccessDeniedException",
         "User: arn:aws:sts::999988887777:assumed-role/agent/i-1 is not authorized to perform: "
         "kms:Decrypt on resource: " STAGE_KEY_ARN,
         STAGE_KEY_ARN, "", false,
         "the key is of account 123456789012, the caller of 999988887777"},
        {"AccessDeniedException", "User: arn:aws:iam::999988887777:user/u is not authorized",
         STAGE_KEY_ARN, "", false, "the caller of 999988887777"},
        {"AccessDeniedException", "", STAGE_KEY_ARN, "999988887777", false,
         "the key is of account 123456789012, the caller of 999988887777"},
        {"AccessDeniedException", "", STAGE_KEY_ARN, "123456789012", false,
         "match this enclave PCR0=abababababababab PCR16=cdcdcdcdcdcdcdcd; cure: "},
        {"AccessDeniedException", "", STAGE_KEY_ARN, "999988887777", true, "debug mode"},
        {"AccessDeniedException", "… with an explicit deny in a resource-based policy",
         STAGE_KEY_ARN, "", false, "Effect Deny"},
        {"AccessDeniedException", "because no identity-based policy allows the kms:Decrypt action",
         STAGE_KEY_ARN, "", false, "IAM policy"},
        {"NotFoundException", "Invalid arn", "arn:aws:kms:eu-west-1:123456789012:key/k", "", false,
         "the key is of region eu-west-1, the endpoint of us-east-1"},
        {"NotFoundException", "", STAGE_KEY_ARN, "", false, "deleted"},
        {"InvalidSignatureException",
         "Signature expired: 20231114T221324Z is now earlier than 20231114T223000Z", STAGE_KEY_ARN,
         "", false, "clock is behind"},
        {"InvalidSignatureException", "Signature not yet current: …", STAGE_KEY_ARN, "", false,
         "clock is ahead"},
        {"InvalidSignatureException", "Credential should be scoped to a valid region.",
         STAGE_KEY_ARN, "", false, "region"},
        {"ExpiredTokenException", "", STAGE_KEY_ARN, "", false, "session token"},
        {"InvalidCiphertextException", "", STAGE_KEY_ARN, "", false, "encryption context"},
        {"ValidationException", "The attestation document has expired", STAGE_KEY_ARN, "", false,
         "five minutes"},
    };
    static const clv_pcrs zero = {.present = 1};
    clv_pcrs pcrs = {.present = 1 | 1 << 16};
    memset(pcrs.value[0], 0xab, CLV_PCR_SIZE);
    memset(pcrs.value[16], 0xcd, CLV_PCR_SIZE);
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_kms_failure failure = {.http_status = 400};
        snprintf(failure.type, sizeof failure.type, "%s", row[i].type);
        snprintf(failure.message, sizeof failure.message, "%s", row[i].message);
        clv_operation operation = {.action = CLV_DECRYPT, .key_arn = (char *)row[i].arn};
        clv_kms_situation situation = {.operation = &operation,
                                       .region = "us-east-1",
                                       .caller_account = row[i].caller,
                                       .pcrs = row[i].debug ? &zero : &pcrs};
        clv_error why;
        clv_status code = clv_status_of_slug(row[i].type);
        assert_int_equal(clv_kms_explain(code, &failure, &situation, &why), code);
        expect_in(why.text, row[i].expected);
    }
}

static void a_debug_image_is_told_from_its_own_document(void **state)
{
    (void)state;
    static const stage_options options = {.debug = true};
    static const reply denied = {
        .kind = REPLY_ANSWER, .status = 400, .body = "{\"__type\":\"AccessDeniedException\"}"};
    stage debug;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_error why;
    stage_open(&debug, &options);
    tls_server_script(&debug.server, &denied, 1);
    assert_int_equal(stage_call(&debug, CLV_DECRYPT, &answer, NULL, &why), CLV_KMS_ACCESS_DENIED);
    expect_in(why.text, "debug mode");
    stage_close(&debug);
}

/* docs/kms-errors.md is the table, row by row. */
static void the_documented_table_is_this_table(void **state)
{
    (void)state;
    char path[512];
    clv_auto(clv_buf) page = CLV_BUF_INIT;
    const char *text;
    size_t rows = 0;
    snprintf(path, sizeof path, "%s/../docs/kms-errors.md", getenv("CLAVIGER_FIXTURES"));
    assert_ok(clv_file_read(path, 65536, &page, err));
    assert_ok(clv_buf_text(&page, &text, err));
    for (size_t i = 0; i < clv_kms_errors_count; i++) {
        const clv_kms_error *row = &clv_kms_errors[i];
        char line[600];
        snprintf(line, sizeof line, "| `%s` | %s | %s | %s |\n", clv_status_slug(row->code),
                 row->retryable ? "yes" : "no", row->cause, row->cure);
        expect_in(text, line);
    }
    for (const char *at = text; (at = strstr(at, "\n| `")) != NULL; at++)
        rows++;
    assert_int_equal(rows, clv_kms_errors_count);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_of_the_table_is_told_in_full),
        cmocka_unit_test(the_longest_parts_leave_room_for_the_cause),
        cmocka_unit_test(names_are_found_in_every_form),
        cmocka_unit_test(statuses_speak_where_no_name_does),
        cmocka_unit_test(the_cause_is_the_one_of_the_situation),
        cmocka_unit_test(a_debug_image_is_told_from_its_own_document),
        cmocka_unit_test(the_documented_table_is_this_table),
    };
    clv_error err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, open_stage, close_stage);
}

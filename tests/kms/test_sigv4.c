/* AWS's published Signature Version 4 test suite (aws-sig-v4-test-suite: key AKIDEXAMPLE, region
 * us-east-1, service "service", 2015-08-30T12:36:00Z), as far as requests to the root path go. */
#include "../check.h"

#include <kms/sigv4.h>

#define NOW_MS        UINT64_C(1440938160000)
#define ACCESS_KEY_ID "AKIDEXAMPLE"
#define SECRET_KEY    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define FORM          "application/x-www-form-urlencoded"
#define SESSION_TOKEN                                                                     \
    "AQoDYXdzEPT//////////"                                                               \
    "wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPf"            \
    "IeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/"                                                \
    "kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7W"                           \
    "Z0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+" \
    "scqKmlzm8F"                                                                          \
    "DrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="

#define MAX_HEADERS 5
static const struct example {
    const char *name;
    const char *method;
    const char *query;
    const char *header[MAX_HEADERS][2];
    const char *body;
    const char *signed_names;
    const char *signature;
} examples[] = {
    {"get-vanilla",
     "GET",
     "",
     {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
     "",
     "host;x-amz-date",
     "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
    {"get-vanilla-query-order-key-case",
     "GET",
     "Param1=value1&Param2=value2",
     {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
     "",
     "host;x-amz-date",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"post-vanilla",
     "POST",
     "",
     {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
     "",
     "host;x-amz-date",
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"post-vanilla-query",
     "POST",
     "Param1=value1",
     {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}},
     "",
     "host;x-amz-date",
     "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
    {"post-header-key-sort",
     "POST",
     "",
     {{"host", "example.amazonaws.com"},
      {"my-header1", "value1"},
      {"x-amz-date", "20150830T123600Z"}},
     "",
     "host;my-header1;x-amz-date",
     "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
    {"post-sts-header-before",
     "POST",
     "",
     {{"host", "example.amazonaws.com"},
      {"x-amz-date", "20150830T123600Z"},
      {"x-amz-security-token", SESSION_TOKEN}},
     "",
     "host;x-amz-date;x-amz-security-token",
     "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
    {"post-x-www-form-urlencoded",
     "POST",
     "",
     {{"content-type", FORM},
      {"host", "example.amazonaws.com"},
      {"x-amz-date", "20150830T123600Z"}},
     "Param1=value1",
     "content-type;host;x-amz-date",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
    {"post-x-www-form-urlencoded-parameters",
     "POST",
     "",
     {{"content-type", FORM "; charset=utf8"},
      {"host", "example.amazonaws.com"},
      {"x-amz-date", "20150830T123600Z"}},
     "Param1=value1",
     "content-type;host;x-amz-date",
     "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"},
};

static void sign(const struct example *e, uint64_t now_ms, clv_buf *out)
{
    clv_header header[MAX_HEADERS];
    size_t n = 0;
    for (; n < MAX_HEADERS && e->header[n][0] != NULL; n++)
        header[n] = (clv_header){e->header[n][0], clv_bytes_of(e->header[n][1])};
    clv_auto_ptr(clv_secret) secret_key = NULL;
    assert_ok(clv_secret_copy(clv_bytes_of(SECRET_KEY), &secret_key, err));
    clv_sigv4 request = {.method = e->method,
                         .query = e->query,
                         .header = header,
                         .header_count = n,
                         .body = clv_bytes_of(e->body),
                         .region = "us-east-1",
                         .service = "service",
                         .now_ms = now_ms};
    assert_ok(clv_sigv4_authorize(&request, ACCESS_KEY_ID, secret_key, out, err));
}

static void signs_the_published_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(examples); i++) {
        clv_auto(clv_buf) found = CLV_BUF_INIT;
        const char *text;
        char expected[512];
        sign(&examples[i], NOW_MS, &found);
        snprintf(expected, sizeof expected,
                 "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                 "SignedHeaders=%s, Signature=%s",
                 examples[i].signed_names, examples[i].signature);
        assert_ok(clv_buf_text(&found, &text, err));
        if (strcmp(text, expected) != 0)
            fail_msg("%s: expected %s, found %s", examples[i].name, expected, text);
    }
}

static void any_change_gives_another_signature(void **state)
{
    (void)state;
    const struct example base = examples[6];
    struct example changed[] = {base, base, base, base, base};
    changed[0].method = "PUT";
    changed[1].query = "a=b";
    changed[2].body = "Param1=value2";
    changed[3].header[0][1] = FORM ";";
    changed[4].header[1][1] = "example.amazonaws.org";
    clv_auto(clv_buf) right = CLV_BUF_INIT;
    sign(&base, NOW_MS, &right);
    for (size_t i = 0; i < ROWS(changed); i++) {
        clv_auto(clv_buf) found = CLV_BUF_INIT;
        sign(&changed[i], NOW_MS, &found);
        assert_int_equal(found.n, right.n);
        assert_false(clv_bytes_equal(clv_buf_bytes(&found), clv_buf_bytes(&right)));
    }
}

static void dates_are_basic_iso_8601(void **state)
{
    (void)state;
    char date[CLV_SIGV4_DATE_SIZE];
    assert_ok(clv_sigv4_date(NOW_MS, date, err));
    assert_string_equal(date, "20150830T123600Z");
    assert_ok(clv_sigv4_date(NOW_MS + 999, date, err));
    assert_string_equal(date, "20150830T123600Z");
    assert_code(clv_sigv4_date(UINT64_MAX, date, err), CLV_BAD_TIME);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_the_published_examples),
        cmocka_unit_test(any_change_gives_another_signature),
        cmocka_unit_test(dates_are_basic_iso_8601),
    };
    clv_error err = {0};
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Signature Version 4 against AWS's published examples: aws-sig-v4-test-suite and the IAM guide's
 * ListUsers request. Each must verify as it stands, and no altered one may. */
#include "../check.h"

#include <sim/kms/sigv4.h>

#define ID       "AKIDEXAMPLE"
#define SECRET   "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define STAMP    "20150830T123600Z"
#define STAMP_MS UINT64_C(1440938160000)
#define HOST                            \
    {                                   \
        "Host", "example.amazonaws.com" \
    }
#define DATE                \
    {                       \
        "X-Amz-Date", STAMP \
    }
#define TOKEN "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
#define STS_TOKEN                                                                              \
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmx" \
    "fpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0K" \
    "PkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZb" \
    "qBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
#define UNRESERVED "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define FORM       "application/x-www-form-urlencoded"
#define PLAIN      "host;x-amz-date"
#define VANILLA    "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"

typedef struct published {
    const char *name, *method, *target;
    clv_http_header header[6];
    const char *body, *service, *signed_headers, *signature;
} published;

static const published EXAMPLES[] = {
    {"get-vanilla", "GET", "/", {HOST, DATE}, "", "service", PLAIN, VANILLA},
    {"post-vanilla",
     "POST",
     "/",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
    {"get-header-key-duplicate",
     "GET",
     "/",
     {HOST, {"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}, DATE},
     "",
     "service",
     "host;my-header1;x-amz-date",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
    {"get-header-value-order",
     "GET",
     "/",
     {HOST,
      {"My-Header1", "value4"},
      {"My-Header1", "value1"},
      {"My-Header1", "value3"},
      {"My-Header1", "value2"},
      DATE},
     "",
     "service",
     "host;my-header1;x-amz-date",
     "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
    {"get-header-value-trim",
     "GET",
     "/",
     {HOST, {"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}, DATE},
     "",
     "service",
     "host;my-header1;my-header2;x-amz-date",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
    {"get-header-value-multiline",
     "GET",
     "/",
     {HOST, {"My-Header1", "value1\n  value2\n     value3"}, DATE},
     "",
     "service",
     "host;my-header1;x-amz-date",
     "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd"},
    {"get-unreserved",
     "GET",
     "/" UNRESERVED,
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
    {"get-utf8",
     "GET",
     "/\u1234",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
    {"get-space",
     "GET",
     "/example space/",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
    {"get-relative", "GET", "/example/..", {HOST, DATE}, "", "service", PLAIN, VANILLA},
    {"get-relative-relative",
     "GET",
     "/example1/example2/../..",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     VANILLA},
    {"get-slash", "GET", "//", {HOST, DATE}, "", "service", PLAIN, VANILLA},
    {"get-slash-dot-slash", "GET", "/./", {HOST, DATE}, "", "service", PLAIN, VANILLA},
    {"get-slash-pointless-dot",
     "GET",
     "/./example",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"},
    {"get-slashes",
     "GET",
     "//example//",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"},
    {"get-vanilla-empty-query-key",
     "GET",
     "/?Param1=value1",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
    {"get-vanilla-query-order-key",
     "GET",
     "/?Param1=value2&Param1=Value1",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
    {"get-vanilla-query-order-key-case",
     "GET",
     "/?Param2=value2&Param1=value1",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
    {"get-vanilla-query-order-value",
     "GET",
     "/?Param1=value2&Param1=value1",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
    {"get-vanilla-query-unreserved",
     "GET",
     "/?" UNRESERVED "=" UNRESERVED,
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
    {"get-vanilla-utf8-query",
     "GET",
     "/?\u1234=bar",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
    {"post-header-key-sort",
     "POST",
     "/",
     {DATE, {"My-Header1", "value1"}, HOST},
     "",
     "service",
     "host;my-header1;x-amz-date",
     "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
    {"post-header-value-case",
     "POST",
     "/",
     {HOST, {"My-Header1", "VALUE1"}, DATE},
     "",
     "service",
     "host;my-header1;x-amz-date",
     "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
    {"post-vanilla-query",
     "POST",
     "/?Param1=value1",
     {HOST, DATE},
     "",
     "service",
     PLAIN,
     "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
    {"post-sts-header-before",
     "POST",
     "/",
     {HOST, DATE, {"X-Amz-Security-Token", STS_TOKEN}},
     "",
     "service",
     "host;x-amz-date;x-amz-security-token",
     "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
    {"get-vanilla-with-session-token",
     "GET",
     "/",
     {HOST, DATE, {"X-Amz-Security-Token", TOKEN}},
     "",
     "service",
     "host;x-amz-date;x-amz-security-token",
     "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"},
    {"post-x-www-form-urlencoded",
     "POST",
     "/",
     {{"Content-Type", FORM}, HOST, DATE},
     "Param1=value1",
     "service",
     "content-type;host;x-amz-date",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
    {"post-x-www-form-urlencoded-parameters",
     "POST",
     "/",
     {{"Content-Type", FORM "; charset=utf8"}, HOST, DATE},
     "Param1=value1",
     "service",
     "content-type;host;x-amz-date",
     "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"},
    {"the IAM guide's ListUsers",
     "GET",
     "/?Action=ListUsers&Version=2010-05-08",
     {{"Content-Type", FORM "; charset=utf-8"}, {"Host", "iam.amazonaws.com"}, DATE},
     "",
     "iam",
     "content-type;host;x-amz-date",
     "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"},
};

/* The request as a server would see it. */
typedef struct fixture {
    char authorization[512];
    clv_http_request request;
} fixture;

static void build(const published *p, fixture *out)
{
    snprintf(out->authorization, sizeof out->authorization,
             "AWS4-HMAC-SHA256 Credential=" ID
             "/20150830/us-east-1/%s/aws4_request, SignedHeaders=%s, Signature=%s",
             p->service, p->signed_headers, p->signature);
    out->request =
        (clv_http_request){.method = p->method, .target = p->target, .body = clv_bytes_of(p->body)};
    for (size_t i = 0; i < ROWS(p->header) && p->header[i].name != NULL; i++)
        out->request.header[out->request.header_count++] = p->header[i];
    out->request.header[out->request.header_count++] =
        (clv_http_header){"Authorization", out->authorization};
}

static clv_status judge(const clv_http_request *request, const char *service, const char *secret,
                        uint64_t now_ms, clv_error *err)
{
    clv_sigv4_claim claim;
    const clv_sigv4_expected expected = {"us-east-1", service, now_ms};
    CLV_TRY(clv_sigv4_parse(request, &claim, err));
    return clv_sigv4_verify(request, &claim, secret, &expected, err);
}

static void accepts_every_published_example(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(EXAMPLES); i++) {
        fixture f = {.authorization = ""};
        clv_error err = {0};
        build(&EXAMPLES[i], &f);
        if (judge(&f.request, EXAMPLES[i].service, SECRET, STAMP_MS, &err) != CLV_OK)
            fail_msg("%s: %s", EXAMPLES[i].name, err.text);
    }
}

static void refuses_every_published_example_when_altered(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(EXAMPLES); i++) {
        const published *p = &EXAMPLES[i];
        fixture f = {.authorization = ""};
        build(p, &f);
        f.request.method = strcmp(p->method, "GET") == 0 ? "POST" : "GET";
        assert_code(judge(&f.request, p->service, SECRET, STAMP_MS, err),
                    CLV_KMS_INVALID_SIGNATURE);

        fixture body = {.authorization = ""};
        build(p, &body);
        body.request.body = clv_bytes_of("Param1=value2");
        assert_code(judge(&body.request, p->service, SECRET, STAMP_MS, err),
                    CLV_KMS_INVALID_SIGNATURE);

        fixture query = {.authorization = ""};
        build(p, &query);
        query.request.target = "/?Param9=value9";
        assert_code(judge(&query.request, p->service, SECRET, STAMP_MS, err),
                    CLV_KMS_INVALID_SIGNATURE);

        fixture host = {.authorization = ""};
        build(p, &host);
        for (size_t h = 0; h < host.request.header_count; h++) {
            if (strcmp(host.request.header[h].name, "Host") == 0)
                host.request.header[h].value = "evil.amazonaws.com";
        }
        assert_code(judge(&host.request, p->service, SECRET, STAMP_MS, err),
                    CLV_KMS_INVALID_SIGNATURE);

        fixture signature = {.authorization = ""};
        build(p, &signature);
        char *last = &signature.authorization[strlen(signature.authorization) - 1];
        *last = *last == '0' ? '1' : '0';
        assert_code(judge(&signature.request, p->service, SECRET, STAMP_MS, err),
                    CLV_KMS_INVALID_SIGNATURE);

        fixture secret = {.authorization = ""};
        build(p, &secret);
        assert_code(judge(&secret.request, p->service, SECRET "x", STAMP_MS, err),
                    CLV_KMS_INVALID_SIGNATURE);
    }
}

static void refuses_dates_beyond_five_minutes(void **state)
{
    (void)state;
    fixture f = {.authorization = ""};
    build(&EXAMPLES[0], &f);
    assert_ok(judge(&f.request, "service", SECRET, STAMP_MS + 300000, err));
    assert_ok(judge(&f.request, "service", SECRET, STAMP_MS - 300000, err));
    assert_code(judge(&f.request, "service", SECRET, STAMP_MS + 300001, err),
                CLV_KMS_INVALID_SIGNATURE);
    assert_code(judge(&f.request, "service", SECRET, STAMP_MS - 300001, err),
                CLV_KMS_INVALID_SIGNATURE);
}

static void refuses_another_region_or_service(void **state)
{
    (void)state;
    fixture f = {.authorization = ""};
    build(&EXAMPLES[0], &f);
    assert_code(judge(&f.request, "kms", SECRET, STAMP_MS, err), CLV_KMS_INVALID_SIGNATURE);
    const clv_sigv4_expected elsewhere = {"eu-central-1", "service", STAMP_MS};
    clv_sigv4_claim claim;
    assert_ok(clv_sigv4_parse(&f.request, &claim, err));
    assert_code(clv_sigv4_verify(&f.request, &claim, SECRET, &elsewhere, err),
                CLV_KMS_INVALID_SIGNATURE);
}

/* Sign the request as it stands over these headers, and put the signature into it. */
static void sign_anew(published p, const clv_http_request *request, fixture *out)
{
    clv_sigv4_claim claim;
    clv_auto(clv_buf) canonical = CLV_BUF_INIT;
    clv_auto(clv_buf) to_sign = CLV_BUF_INIT;
    char signature[CLV_SIGV4_DIGEST_HEX + 1];
    assert_ok(clv_sigv4_parse(request, &claim, err));
    assert_ok(clv_sigv4_canonical_request(request, &claim, &canonical, err));
    assert_ok(clv_sigv4_string_to_sign(&claim, clv_buf_bytes(&canonical), &to_sign, err));
    assert_ok(clv_sigv4_signature(&claim, SECRET, clv_buf_bytes(&to_sign), signature, err));
    p.signature = signature;
    build(&p, out);
}

/* The right secret signed each of these; what it signed is not enough. */
static void refuses_unsigned_host_date_or_amz_headers(void **state)
{
    (void)state;
    static const struct {
        const char *signed_headers;
        bool more; /* with one more x-amz- header */
        clv_status code;
    } rows[] = {
        {"host;x-amz-date", false, CLV_OK},
        {"x-amz-date", false, CLV_KMS_INVALID_SIGNATURE},
        {"host", false, CLV_KMS_INVALID_SIGNATURE},
        {"host;x-amz-date", true, CLV_KMS_INVALID_SIGNATURE},
        {"host;x-amz-date;x-amz-target", true, CLV_OK},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        published p = EXAMPLES[0];
        fixture unsigned_ = {.authorization = ""}, f = {.authorization = ""};
        p.signed_headers = rows[i].signed_headers;
        if (rows[i].more)
            p.header[2] = (clv_http_header){"X-Amz-Target", "TrentService.Decrypt"};
        build(&p, &unsigned_);
        sign_anew(p, &unsigned_.request, &f);
        assert_int_equal(judge(&f.request, "service", SECRET, STAMP_MS, NULL), rows[i].code);
    }
}

static void names_malformed_authorization_as_aws_does(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        clv_status code;
    } rows[] = {
        {NULL, CLV_KMS_MISSING_TOKEN},
        {"", CLV_KMS_INCOMPLETE_SIGNATURE},
        {"Basic dXNlcjpwYXNz", CLV_KMS_INCOMPLETE_SIGNATURE},
        {"AWS4-HMAC-SHA256", CLV_KMS_INCOMPLETE_SIGNATURE},
        {"AWS4-HMAC-SHA256 Credential=" ID "/20150830/us-east-1/service/aws4_request",
         CLV_KMS_INCOMPLETE_SIGNATURE},
        {"AWS4-HMAC-SHA256 SignedHeaders=host, Signature=00", CLV_KMS_INCOMPLETE_SIGNATURE},
        {"AWS4-HMAC-SHA256 Credential=" ID "/20150830/us-east-1/service, SignedHeaders=host, "
         "Signature=00",
         CLV_KMS_INCOMPLETE_SIGNATURE},
        {"AWS4-HMAC-SHA256 Credential=" ID "/20150830/us-east-1/service/aws5_request, "
         "SignedHeaders=host, Signature=00",
         CLV_KMS_INCOMPLETE_SIGNATURE},
        {"AWS4-HMAC-SHA256 Credential=/20150830/us-east-1/service/aws4_request, "
         "SignedHeaders=host, Signature=00",
         CLV_KMS_INCOMPLETE_SIGNATURE},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        clv_http_request request = {.method = "GET", .target = "/", .header = {HOST, DATE}};
        request.header_count = 2;
        if (rows[i].value != NULL)
            request.header[request.header_count++] =
                (clv_http_header){"Authorization", rows[i].value};
        assert_code(judge(&request, "service", SECRET, STAMP_MS, err), rows[i].code);
    }
}

static void refuses_a_request_without_or_with_a_malformed_date(void **state)
{
    (void)state;
    fixture none = {.authorization = ""};
    published p = EXAMPLES[0];
    p.header[1] = (clv_http_header){NULL, NULL};
    build(&p, &none);
    assert_code(judge(&none.request, "service", SECRET, STAMP_MS, err),
                CLV_KMS_INCOMPLETE_SIGNATURE);
    fixture wrong = {.authorization = ""};
    p = EXAMPLES[0];
    p.header[1].value = "2015-08-30 12:36:00";
    build(&p, &wrong);
    assert_code(judge(&wrong.request, "service", SECRET, STAMP_MS, err),
                CLV_KMS_INCOMPLETE_SIGNATURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_published_example),
        cmocka_unit_test(refuses_every_published_example_when_altered),
        cmocka_unit_test(refuses_dates_beyond_five_minutes),
        cmocka_unit_test(refuses_another_region_or_service),
        cmocka_unit_test(refuses_unsigned_host_date_or_amz_headers),
        cmocka_unit_test(names_malformed_authorization_as_aws_does),
        cmocka_unit_test(refuses_a_request_without_or_with_a_malformed_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

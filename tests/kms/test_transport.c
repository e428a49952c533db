/* The network between: each way in which a connection to KMS can be wrong, over real TLS sockets.
 */
#include "../check.h"
#include "stage.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <base/file.h>
#include <kms/transport.h>

#define SECOND INT64_C(1)
#define LATER  (MAKER_TIME_S + INT64_C(86400))

/* More headers than any answer of KMS has. */
#define LINE_64    "X-Padding: 12345678901234567890123456789012345678901234567890\r\n"
#define LINES_512  LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64
#define LINES_4K   LINES_512 LINES_512 LINES_512 LINES_512 LINES_512 LINES_512 LINES_512 LINES_512
#define MANY_LINES LINES_4K LINES_4K LINES_4K LINES_4K LINES_4K

static const reply ANSWER = {.kind = REPLY_ANSWER};

static const struct connection_case {
    const char *name;
    stage_options options;
    clv_status expected;
    bool retryable;
} bad_connections[] = {
    {"certificate of another host", {.host = "kms.us-west-2.amazonaws.com"}, CLV_KMS_TLS, false},
    {"certificate of the parent domain", {.host = "amazonaws.com"}, CLV_KMS_TLS, false},
    {"certificate with a wildcard too high", {.host = "*.amazonaws.com"}, CLV_KMS_TLS, false},
    {"certificate of a CA that is not in the file", {.stranger = true}, CLV_KMS_TLS, false},
    {"certificate expired at the attested time",
     {.not_before = 1, .not_after = MAKER_TIME_S - SECOND},
     CLV_KMS_TLS,
     false},
    {"certificate valid today but not yet at the attested time",
     {.not_before = MAKER_TIME_S + 3600, .not_after = INT64_C(4102444800)},
     CLV_KMS_TLS,
     false},
    {"TLS 1.0", {.max_version = TLS1_VERSION}, CLV_KMS_TLS, false},
    {"TLS 1.1", {.max_version = TLS1_1_VERSION}, CLV_KMS_TLS, false},
};

static clv_status call_once(stage *s, clv_kms_failure *failure, clv_error *err)
{
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_status status = stage_call(s, CLV_GENERATE_DATA_KEY, &answer, failure, err);
    assert_int_equal(answer.plaintext != NULL, status == CLV_OK);
    return status;
}

static void refuses_connections_that_do_not_prove_to_be_kms(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(bad_connections); i++) {
        const struct connection_case *c = &bad_connections[i];
        stage s;
        clv_error err = {0};
        clv_kms_failure failure = {.http_status = 7};
        stage_open(&s, &c->options);
        clv_status found = call_once(&s, &failure, &err);
        if (found != c->expected)
            fail_msg("%s: expected %s, found %s: %s", c->name, clv_status_slug(c->expected),
                     clv_status_slug(found), err.text);
        assert_int_equal(failure.retryable, c->retryable);
        assert_int_equal(failure.http_status, 0);
        assert_int_equal(s.server.requests, 0);
        stage_close(&s);
    }
}

static void accepts_a_certificate_valid_at_the_attested_time_alone(void **state)
{
    (void)state;
    static const struct {
        stage_options options;
    } row[] = {
        {{.not_before = MAKER_TIME_S - 60, .not_after = MAKER_TIME_S + 600}},
        {{.max_version = TLS1_2_VERSION}},
        {{.host = "*.us-east-1.amazonaws.com"}},
        {{.fresh = true}},
    };
    assert_true(time(NULL) > LATER);
    for (size_t i = 0; i < ROWS(row); i++) {
        stage s;
        stage_open(&s, &row[i].options);
        assert_ok(call_once(&s, NULL, err));
        stage_close(&s);
    }
}

/* What the answer does on its way. */
static const struct answer_case {
    const char *name;
    reply reply;
    clv_status expected;
    bool retryable;
} bad_replies[] = {
    {"closed without an answer", {.kind = REPLY_CLOSE}, CLV_KMS_CONNECT, true},
    {"cut in the body", {.kind = REPLY_CUT}, CLV_KMS_CONNECT, true},
    {"silent after the head", {.kind = REPLY_STALL}, CLV_KMS_TIMEOUT, true},
    {"a body without end", {.kind = REPLY_ENDLESS}, CLV_KMS_RESPONSE, false},
    {"headers without end", {.kind = REPLY_ANSWER, .header = MANY_LINES}, CLV_KMS_RESPONSE, false},
    {"not HTTP", {.kind = REPLY_NOT_HTTP}, CLV_KMS_RESPONSE, false},
    {"a redirect",
     {.kind = REPLY_ANSWER, .status = 301, .header = "Location: https://x/\r\n", .body = "{}"},
     CLV_KMS_RESPONSE,
     false},
    {"another success", {.kind = REPLY_ANSWER, .status = 204, .body = ""}, CLV_KMS_RESPONSE, false},
    {"an error page of a proxy",
     {.kind = REPLY_ANSWER, .status = 403, .body = "<html>Forbidden</html>"},
     CLV_KMS_RESPONSE,
     false},
    {"an outage page of a proxy",
     {.kind = REPLY_ANSWER, .status = 502, .body = "<html>Bad gateway</html>"},
     CLV_KMS_SERVICE_UNAVAILABLE,
     true},
};

static void reports_answers_that_do_not_arrive(void **state)
{
    (void)state;
    stage s;
    static const stage_options options = {.timeout_ms = 5000};
    stage_open(&s, &options);
    for (size_t i = 0; i < ROWS(bad_replies); i++) {
        const struct answer_case *c = &bad_replies[i];
        clv_error why = {0};
        clv_kms_failure failure = {0};
        tls_server_script(&s.server, &c->reply, 1);
        clv_status found = call_once(&s, &failure, &why);
        if (found != c->expected || failure.retryable != c->retryable)
            fail_msg("%s: expected %s, found %s: %s", c->name, clv_status_slug(c->expected),
                     clv_status_slug(found), why.text);
        assert_int_equal(s.server.requests, 1);
        /* So that the circuit stays closed. */
        tls_server_script(&s.server, &ANSWER, 1);
        assert_ok(call_once(&s, NULL, err));
    }
    stage_close(&s);
}

/* libcurl by itself would send the request again on a new connection. */
static void sends_a_request_once_when_a_kept_connection_dies(void **state)
{
    (void)state;
    static const reply script[] = {
        {.kind = REPLY_ANSWER}, {.kind = REPLY_CLOSE}, {.kind = REPLY_ANSWER}};
    static const stage_options options = {0};
    stage s;
    clv_kms_failure failure = {0};
    stage_open(&s, &options);
    tls_server_script(&s.server, script, ROWS(script));
    assert_ok(call_once(&s, NULL, err));
    assert_code(call_once(&s, &failure, err), CLV_KMS_CONNECT);
    assert_true(failure.retryable);
    assert_int_equal(s.server.requests, 2);
    assert_ok(call_once(&s, NULL, err));
    assert_int_equal(s.server.requests, 3);
    stage_close(&s);
}

static void post(clv_https *https)
{
    const clv_header header = {"host", clv_bytes_of(clv_https_host(https))};
    const clv_https_request request = {.header = &header,
                                       .header_count = 1,
                                       .body = clv_bytes_of("{}"),
                                       .now_ms = MAKER_TIME_MS,
                                       .timeout_ms = 30000,
                                       .body_max = 100};
    clv_auto(clv_https_answer) answer = CLV_HTTPS_ANSWER_INIT;
    assert_ok(clv_https_post(https, &request, &answer, err));
    assert_int_equal(answer.status, 200);
}

/* Neither a kept connection nor a resumed session looks at a certificate: both come to an end. */
static void a_connection_and_its_session_serve_for_their_lifetime(void **state)
{
    (void)state;
    static const struct {
        uint64_t lifetime_ms;
        bool last; /* the server closes after each answer */
        size_t connections, resumed;
    } row[] = {{0, false, 1, 0}, {0, true, 3, 2}, {1, false, 3, 0}, {1, true, 3, 0}};
    static const stage_options options = {0};
    stage s;
    stage_open(&s, &options);
    for (size_t i = 0; i < ROWS(row); i++) {
        const reply script = {.kind = REPLY_ANSWER, .body = "{}", .last = row[i].last};
        clv_auto_ptr(clv_https) https = NULL;
        clv_https_options o = {.endpoint = "https://" STAGE_HOST,
                               .ca_file = s.policy->kms_ca_file,
                               .relay = s.server.address,
                               .lifetime_ms = row[i].lifetime_ms};
        assert_ok(clv_https_open(&o, &https, err));
        tls_server_script(&s.server, &script, 1);
        size_t before = s.server.connections;
        for (int k = 0; k < 3; k++) {
            post(https);
            struct timespec pause = {.tv_nsec = 20000000};
            nanosleep(&pause, NULL);
        }
        assert_int_equal(s.server.connections - before, row[i].connections);
        assert_int_equal(s.server.resumed, row[i].resumed);
    }
    stage_close(&s);
}

static void write_all(const char *path, const clv_buf *first, const char *second)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(first->p, 1, first->n, f), first->n);
    assert_true(fputs(second, f) >= 0);
    fclose(f);
}

static void trusts_every_certificate_of_the_file_and_no_file_with_a_bad_one(void **state)
{
    (void)state;
    static const stage_options options = {0};
    stage s;
    tls_ca stranger;
    char path[100];
    clv_auto(clv_buf) good = CLV_BUF_INIT;
    clv_auto(clv_buf) other = CLV_BUF_INIT;
    const char *text;
    stage_open(&s, &options);
    snprintf(path, sizeof path, "%s/both.pem", s.directory);
    tls_ca_make(&stranger, "Another CA", path);
    tls_ca_drop(&stranger);
    assert_ok(clv_file_read(s.policy->kms_ca_file, 65536, &good, err));
    assert_ok(clv_file_read(path, 65536, &other, err));
    assert_ok(clv_buf_text(&good, &text, err));
    write_all(path, &other, text);
    clv_https_options o = {
        .endpoint = "https://" STAGE_HOST, .ca_file = path, .relay = s.server.address};
    clv_auto_ptr(clv_https) https = NULL;
    const reply script = {.kind = REPLY_ANSWER, .body = "{}"};
    tls_server_script(&s.server, &script, 1);
    assert_ok(clv_https_open(&o, &https, err));
    post(https);

    clv_auto_ptr(clv_https) none = NULL;
    write_all(path, &good, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    assert_code(clv_https_open(&o, &none, err), CLV_KMS_TLS);
    unlink(path);
    stage_close(&s);
}

static void reports_a_relay_that_is_not_there(void **state)
{
    (void)state;
    static const char *const relays[] = {"tcp:127.0.0.1:1", "unix:/nonexistent/relay"};
    static const stage_options options = {0};
    stage s;
    stage_open(&s, &options);
    for (size_t i = 0; i < ROWS(relays); i++) {
        clv_kms_free(&s.kms);
        clv_kms_options kms = {.region = "us-east-1",
                               .endpoint = "https://" STAGE_HOST,
                               .ca_file = s.policy->kms_ca_file,
                               .relay = relays[i]};
        clv_kms_failure failure = {0};
        clv_error why = {0};
        assert_ok(clv_kms_open(&kms, &s.kms, err));
        stage_set_credentials(&s, 0, 0);
        assert_int_equal(call_once(&s, &failure, &why), CLV_KMS_CONNECT);
        assert_true(failure.retryable);
        assert_non_null(strstr(why.text, relays[i]));
    }
    stage_close(&s);
}

/* A proxy in the environment would end TLS or see the traffic: it is never asked. */
static void ignores_proxies_of_the_environment(void **state)
{
    (void)state;
    static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"};
    static const stage_options options = {0};
    stage s;
    for (size_t i = 0; i < ROWS(names); i++)
        setenv(names[i], "http://127.0.0.1:1", 1);
    stage_open(&s, &options);
    assert_ok(call_once(&s, NULL, err));
    stage_close(&s);
    for (size_t i = 0; i < ROWS(names); i++)
        unsetenv(names[i]);
}

/* libcurl opened the file that main() names in SSLKEYLOGFILE, and by now has had dozens of sessions
 * to write there. */
static char keylog[] = "/tmp/claviger-keylog-XXXXXX";

static void writes_no_secret_of_tls_anywhere(void **state)
{
    (void)state;
    static const stage_options options = {0};
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    stage s;
    stage_open(&s, &options);
    assert_ok(call_once(&s, NULL, err));
    stage_close(&s);
    assert_ok(clv_file_read(keylog, 65536, &text, err));
    unlink(keylog);
    assert_int_equal(text.n, 0);
}

static void refuses_endpoints_and_ca_files_that_cannot_be_meant(void **state)
{
    (void)state;
    static const char *const endpoints[] = {
        "http://kms.us-east-1.amazonaws.com",
        STAGE_HOST,
        "https://",
        "https:///",
        "https://a/b",
        "https://user@a",
        "https://a:0",
        "https://a:65536",
        "https://a:443x",
        "https://A.example",
        "https://a b",
        "https://-a",
        "https://a\r\nX: y",
        "https://[::1]",
    };
    char empty[] = "/tmp/claviger-kms-XXXXXX";
    int fd = mkstemp(empty);
    assert_true(fd >= 0);
    close(fd);
    clv_kms *kms = NULL;
    for (size_t i = 0; i < ROWS(endpoints); i++) {
        clv_kms_options o = {.region = "us-east-1", .endpoint = endpoints[i], .ca_file = empty};
        assert_code(clv_kms_open(&o, &kms, err), CLV_USAGE);
    }
    clv_kms_options o = {.region = "us-east-1", .endpoint = "https://a", .ca_file = empty};
    assert_code(clv_kms_open(&o, &kms, err), CLV_KMS_TLS);
    o.ca_file = "/nonexistent/ca.pem";
    assert_code(clv_kms_open(&o, &kms, err), CLV_SYSTEM);
    assert_null(kms);
    unlink(empty);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_connections_that_do_not_prove_to_be_kms),
        cmocka_unit_test(accepts_a_certificate_valid_at_the_attested_time_alone),
        cmocka_unit_test(reports_answers_that_do_not_arrive),
        cmocka_unit_test(sends_a_request_once_when_a_kept_connection_dies),
        cmocka_unit_test(a_connection_and_its_session_serve_for_their_lifetime),
        cmocka_unit_test(trusts_every_certificate_of_the_file_and_no_file_with_a_bad_one),
        cmocka_unit_test(reports_a_relay_that_is_not_there),
        cmocka_unit_test(ignores_proxies_of_the_environment),
        cmocka_unit_test(writes_no_secret_of_tls_anywhere),
        cmocka_unit_test(refuses_endpoints_and_ca_files_that_cannot_be_meant),
    };
    clv_error err = {0};
    char lenient[512];
    signal(SIGPIPE, SIG_IGN);
    snprintf(lenient, sizeof lenient, "%s/kms/openssl-lenient.cnf", getenv("CLAVIGER_FIXTURES"));
    setenv("OPENSSL_CONF", lenient, 1);
    int fd = mkstemp(keylog);
    if (fd < 0)
        return 1;
    close(fd);
    setenv("SSLKEYLOGFILE", keylog, 1);
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

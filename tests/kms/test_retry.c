/* Life with a network (R24): retries, the circuit, credentials that come and go. */
#include "../check.h"
#include "stage.h"

#include <signal.h>
#include <time.h>

#include <kms/circuit.h>
#include <kms/errors.h>

#define ANSWERED             \
    {                        \
        .kind = REPLY_ANSWER \
    }
#define FAILED(status_, type)                                                          \
    {                                                                                  \
        .kind = REPLY_ANSWER, .status = (status_), .body = "{\"__type\":\"" type "\"}" \
    }

static clv_status run(stage *s, clv_kms_failure *failure, clv_error *why)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    stage_operation(CLV_GENERATE_DATA_KEY, &operation);
    clv_status status = clv_kms_run(s->kms, s->gate, &operation, &answer, failure, why);
    assert_int_equal(answer.plaintext != NULL, status == CLV_OK);
    return status;
}

static void retries_exactly_what_may_pass_each_time_with_a_new_voucher(void **state)
{
    (void)state;
    static const struct {
        reply first;
        bool again;
    } row[] = {
        {FAILED(400, "ThrottlingException"), true},
        {FAILED(500, "DependencyTimeoutException"), true},
        {FAILED(500, "KMSInternalException"), true},
        {FAILED(500, "KeyUnavailableException"), true},
        {FAILED(400, "KeyUnavailableException"), true},
        {FAILED(503, "ServiceUnavailableException"), true},
        {FAILED(429, "BrandNewException"), true},
        {FAILED(500, "BrandNewException"), true},
        {{.kind = REPLY_CLOSE}, true},
        {{.kind = REPLY_CUT}, true},
        {FAILED(400, "BrandNewException"), false},
        {FAILED(400, "AccessDeniedException"), false},
        {FAILED(400, "InvalidCiphertextException"), false},
        {FAILED(400, "LimitExceededException"), false},
        {FAILED(400, "ExpiredTokenException"), false},
        {{.kind = REPLY_ENDLESS}, false},
        {{.kind = REPLY_ANSWER, .body = "{}"}, false},
        {{.kind = REPLY_ANSWER, .body = "{\"Plaintext\":\"AA==\"}"}, false},
    };
    static const stage_options options = {0};
    stage s;
    stage_open(&s, &options);
    for (size_t i = 0; i < ROWS(row); i++) {
        const reply script[] = {row[i].first, ANSWERED};
        unsigned vouched = s.nsm.attested;
        clv_error why = {0};
        tls_server_script(&s.server, script, 2);
        clv_status found = run(&s, NULL, &why);
        if ((found == CLV_OK) != row[i].again)
            fail_msg("row %zu: found %s: %s", i, clv_status_slug(found), why.text);
        assert_int_equal(s.server.requests, row[i].again ? 2 : 1);
        assert_int_equal(s.nsm.attested - vouched, s.server.requests);
    }
    stage_close(&s);
}

static void gives_up_at_its_deadline_with_what_kms_said(void **state)
{
    (void)state;
    static const stage_options options = {.timeout_ms = 5000};
    static const reply throttled[] = {FAILED(400, "ThrottlingException")};
    stage s;
    clv_error why = {0};
    clv_kms_failure failure = {0};
    stage_open(&s, &options);
    tls_server_script(&s.server, throttled, 1);
    assert_int_equal(run(&s, &failure, &why), CLV_KMS_THROTTLING);
    assert_true(s.server.requests > 1);
    assert_string_equal(failure.type, "ThrottlingException");
    assert_non_null(strstr(why.text, "retries"));
    assert_non_null(strstr(why.text, "6f1a4e0c-test"));
    stage_close(&s);
}

static void a_silent_connection_leaves_time_for_another(void **state)
{
    (void)state;
    static const stage_options options = {.timeout_ms = 12000};
    static const reply script[] = {{.kind = REPLY_STALL}, ANSWERED};
    stage s;
    stage_open(&s, &options);
    tls_server_script(&s.server, script, 2);
    clv_error why = {0};
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    assert_int_equal(s.server.requests, 2);
    stage_close(&s);
}

static void the_circuit_opens_on_failures_in_a_row_and_heals_by_a_probe(void **state)
{
    (void)state;
    clv_circuit c;
    bool probe;
    clv_circuit_init(&c);
    uint64_t now = 1000;
    for (int i = 0; i < CLV_CIRCUIT_FAILURES; i++) {
        assert_ok(clv_circuit_enter(&c, now, &probe, err));
        assert_false(probe);
        clv_circuit_leave(&c, now, false, false);
    }
    assert_code(clv_circuit_enter(&c, now, &probe, err), CLV_KMS_CIRCUIT);
    assert_code(clv_circuit_enter(&c, now + CLV_CIRCUIT_WAIT_MIN_MS - 1, &probe, err),
                CLV_KMS_CIRCUIT);

    /* One probe at a time; its failure doubles the wait, up to the limit. */
    uint64_t wait = CLV_CIRCUIT_WAIT_MIN_MS;
    for (int i = 0; i < 10; i++) {
        now += wait;
        assert_ok(clv_circuit_check(&c, now, err));
        assert_ok(clv_circuit_enter(&c, now, &probe, err));
        assert_true(probe);
        /* Calls that were under way when it opened end now: they leave the probe alone. */
        clv_circuit_leave(&c, now, false, false);
        bool none;
        assert_code(clv_circuit_enter(&c, now, &none, err), CLV_KMS_CIRCUIT);
        assert_false(none);
        clv_circuit_leave(&c, now, probe, false);
        wait = wait * 2 < CLV_CIRCUIT_WAIT_MAX_MS ? wait * 2 : CLV_CIRCUIT_WAIT_MAX_MS;
        assert_code(clv_circuit_check(&c, now + wait - 1, err), CLV_KMS_CIRCUIT);
    }
    now += wait;
    assert_ok(clv_circuit_enter(&c, now, &probe, err));
    clv_circuit_leave(&c, now, probe, true);
    for (int i = 0; i < CLV_CIRCUIT_FAILURES; i++) {
        assert_ok(clv_circuit_enter(&c, now, &probe, err));
        clv_circuit_leave(&c, now, false, i == 0); /* a success in between starts the count again */
    }
    assert_ok(clv_circuit_enter(&c, now, &probe, err));
    clv_circuit_drop(&c);
}

static void fails_fast_without_vouching_when_kms_is_down_and_heals(void **state)
{
    (void)state;
    static const stage_options options = {.timeout_ms = 30000};
    static const reply down[] = {FAILED(500, "KMSInternalException")};
    static const reply up[] = {ANSWERED};
    stage s;
    clv_error why = {0};
    stage_open(&s, &options);
    tls_server_script(&s.server, down, 1);
    for (int i = 0; i < CLV_CIRCUIT_FAILURES; i++) {
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        assert_int_equal(stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, &why),
                         CLV_KMS_INTERNAL);
    }
    unsigned vouched = s.nsm.attested;
    assert_int_equal(run(&s, NULL, &why), CLV_KMS_CIRCUIT);
    assert_int_equal(s.nsm.attested, vouched);
    assert_int_equal(s.server.requests, CLV_CIRCUIT_FAILURES);

    tls_server_script(&s.server, up, 1);
    struct timespec t = {.tv_nsec = CLV_CIRCUIT_WAIT_MIN_MS * 1000000L + 50000000L};
    nanosleep(&t, NULL);
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    stage_close(&s);
}

static void who_began_before_an_outage_waits_it_out(void **state)
{
    (void)state;
    static const stage_options options = {.timeout_ms = 40000};
    static const reply script[] = {FAILED(500, "KMSInternalException"),
                                   FAILED(500, "KMSInternalException"),
                                   FAILED(500, "KMSInternalException"),
                                   FAILED(500, "KMSInternalException"),
                                   FAILED(500, "KMSInternalException"),
                                   FAILED(500, "KMSInternalException"),
                                   ANSWERED};
    stage s;
    clv_error why = {0};
    stage_open(&s, &options);
    tls_server_script(&s.server, script, ROWS(script));
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    assert_int_equal(s.server.requests, ROWS(script));
    stage_close(&s);
}

static void refuses_to_call_without_credentials_or_with_expired_ones(void **state)
{
    (void)state;
    static const stage_options options = {.no_credentials = true};
    stage s;
    clv_error why = {0};
    stage_open(&s, &options);
    assert_int_equal(clv_kms_credentials_expire_ms(s.kms), 0);
    assert_int_equal(run(&s, NULL, &why), CLV_KMS_CREDENTIALS);
    /* By the attested clock of 2023: long gone for the machine's. */
    stage_set_credentials(&s, 1, MAKER_TIME_MS + 600000);
    assert_int_equal(clv_kms_credentials_expire_ms(s.kms), MAKER_TIME_MS + 600000);
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    stage_set_credentials(&s, 2, MAKER_TIME_MS - 1);
    assert_int_equal(run(&s, NULL, &why), CLV_KMS_CREDENTIALS_EXPIRED);
    assert_int_equal(s.server.requests, 1);
    stage_set_credentials(&s, 3, 0);
    assert_true(clv_kms_credentials_expire_ms(s.kms) == UINT64_MAX);
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    stage_close(&s);
}

/* While a call is being refused for its old token, newer credentials arrive. */
static void refuse_the_first(void *with, clv_bytes request, clv_buf *body)
{
    stage *s = with;
    const char *head;
    assert_ok(clv_buf_text(&s->server.head, &head, err));
    if (strstr(head, "Credential=ASIATESTCREDENTIAL09/") != NULL) {
        stage_make_body(s, request, body);
        return;
    }
    stage_set_credentials(s, 9, 0);
    assert_ok(clv_buf_append_text(body, "{\"__type\":\"ExpiredTokenException\"}", err));
}

static void a_call_overtaken_by_new_credentials_is_made_again_with_them(void **state)
{
    (void)state;
    static const stage_options options = {0};
    static const reply script[] = {{.kind = REPLY_ANSWER, .status = 400}, ANSWERED};
    stage s;
    clv_error why = {0};
    stage_open(&s, &options);
    s.server.options.make_body = refuse_the_first;
    tls_server_script(&s.server, script, 2);
    assert_int_equal(run(&s, NULL, &why), CLV_OK);
    assert_int_equal(s.server.requests, 2);
    stage_close(&s);
}

struct replacing {
    stage *s;
    atomic_bool stop;
};

static void *replace_often(void *with)
{
    struct replacing *r = with;
    for (unsigned i = 0; !atomic_load(&r->stop); i++) {
        stage_set_credentials(r->s, i % 100, MAKER_TIME_MS + 600000 + i);
        struct timespec t = {.tv_nsec = 3000000};
        nanosleep(&t, NULL);
    }
    return NULL;
}

static void replacing_credentials_fails_no_call(void **state)
{
    (void)state;
    static const stage_options options = {0};
    stage s;
    pthread_t thread;
    stage_open(&s, &options);
    struct replacing r = {.s = &s};
    assert_int_equal(pthread_create(&thread, NULL, replace_often, &r), 0);
    for (int i = 0; i < 12; i++) {
        clv_error why = {0};
        if (run(&s, NULL, &why) != CLV_OK)
            fail_msg("call %d: %s", i, why.text);
    }
    atomic_store(&r.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(s.server.requests, 12);
    stage_close(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(retries_exactly_what_may_pass_each_time_with_a_new_voucher),
        cmocka_unit_test(gives_up_at_its_deadline_with_what_kms_said),
        cmocka_unit_test(a_silent_connection_leaves_time_for_another),
        cmocka_unit_test(the_circuit_opens_on_failures_in_a_row_and_heals_by_a_probe),
        cmocka_unit_test(fails_fast_without_vouching_when_kms_is_down_and_heals),
        cmocka_unit_test(who_began_before_an_outage_waits_it_out),
        cmocka_unit_test(refuses_to_call_without_credentials_or_with_expired_ones),
        cmocka_unit_test(a_call_overtaken_by_new_credentials_is_made_again_with_them),
        cmocka_unit_test(replacing_credentials_fails_no_call),
    };
    clv_error err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

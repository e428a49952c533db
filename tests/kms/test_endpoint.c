/* The names under which AWS serves KMS: read right, refused where they contradict the region, and
 * each reached over TLS under its own name. */
#include "../check.h"
#include "stage.h"

#include <signal.h>

#include <kms/endpoint.h>

static const struct endpoint_case {
    const char *host;
    const char *region;
    const char *partition;
    bool fips, dual_stack, vpc;
} endpoints[] = {
    {"kms.us-east-1.amazonaws.com", "us-east-1", "aws", false, false, false},
    {"kms-fips.us-east-1.amazonaws.com", "us-east-1", "aws", true, false, false},
    {"kms.eu-central-1.api.aws", "eu-central-1", "aws", false, true, false},
    {"kms-fips.ca-west-1.api.aws", "ca-west-1", "aws", true, true, false},
    {"kms.us-gov-west-1.amazonaws.com", "us-gov-west-1", "aws-us-gov", false, false, false},
    {"kms-fips.us-gov-east-1.api.aws", "us-gov-east-1", "aws-us-gov", true, true, false},
    {"kms.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn", false, false, false},
    {"kms.cn-northwest-1.api.amazonwebservices.com.cn", "cn-northwest-1", "aws-cn", false, true,
     false},
    {"kms.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", "aws-eusc", false, false, false},
    {"kms.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", "aws-iso", false, false, false},
    {"kms.us-isob-east-1.sc2s.sgov.gov", "us-isob-east-1", "aws-iso-b", false, false, false},
    {"vpce-0123456789abcdef0-a1b2c3d4.kms.us-east-1.vpce.amazonaws.com", "us-east-1", "aws", false,
     false, true},
    {"vpce-0123456789abcdef0-a1b2c3d4-us-east-1a.kms.us-east-1.vpce.amazonaws.com", "us-east-1",
     "aws", false, false, true},
    {"vpce-0123456789abcdef0-a1b2c3d4.kms-fips.us-gov-west-1.vpce.amazonaws.com", "us-gov-west-1",
     "aws-us-gov", true, false, true},
};

static void each_form_is_read_and_accepted_for_its_region(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(endpoints); i++) {
        const struct endpoint_case *c = &endpoints[i];
        clv_endpoint found;
        clv_endpoint_read(c->host, &found);
        if (!found.known)
            fail_msg("%s: expected it known", c->host);
        assert_string_equal(found.region, c->region);
        assert_string_equal(found.partition, c->partition);
        assert_int_equal(found.fips, c->fips);
        assert_int_equal(found.dual_stack, c->dual_stack);
        assert_int_equal(found.vpc, c->vpc);
        assert_ok(clv_endpoint_check(c->host, c->region, err));
        assert_code(clv_endpoint_check(c->host, "ap-south-2", err), CLV_USAGE);
    }
}

static void other_names_tell_nothing(void **state)
{
    (void)state;
    static const char *const hosts[] = {
        "localhost",
        "kms",
        "kms.example.org",
        "kms.us-east-1.example.org",
        "kms.useast1.amazonaws.com",
        "s3.us-east-1.amazonaws.com",
        "kms.us-east-1.amazonaws.com.evil.example",
        "vpce-1.kms.us-east-1.amazonaws.com",
        "vpce-1",
        "kms.internal.corp",
    };
    for (size_t i = 0; i < ROWS(hosts); i++) {
        clv_endpoint found;
        clv_endpoint_read(hosts[i], &found);
        if (found.known)
            fail_msg("%s: expected nothing, found region %s", hosts[i], found.region);
        assert_ok(clv_endpoint_check(hosts[i], "us-east-1", err));
    }
}

static void a_region_under_another_partitions_suffix_is_refused(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        {"kms.cn-north-1.amazonaws.com", "cn-north-1"},
        {"kms.us-east-1.amazonaws.com.cn", "us-east-1"},
        {"kms.us-east-1.amazonaws.eu", "us-east-1"},
        {"kms.eusc-de-east-1.api.aws", "eusc-de-east-1"},
        {"kms.us-gov-west-1.c2s.ic.gov", "us-gov-west-1"},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        assert_code(clv_endpoint_check(rows[i][0], rows[i][1], err), CLV_USAGE);
}

static void each_is_reached_under_its_own_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(endpoints); i += 2) {
        const struct endpoint_case *c = &endpoints[i];
        char url[200], host_line[200], scope[100];
        snprintf(url, sizeof url, "https://%s", c->host);
        snprintf(host_line, sizeof host_line, "\r\nHost: %s\r\n", c->host);
        snprintf(scope, sizeof scope, "/%s/kms/aws4_request", c->region);
        const stage_options options = {.host = c->host, .endpoint = url, .region = c->region};
        stage s;
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        const char *head;
        stage_open(&s, &options);
        assert_ok(stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, err));
        assert_ok(clv_buf_text(&s.server.head, &head, err));
        assert_non_null(strstr(head, host_line));
        assert_non_null(strstr(head, scope));
        assert_string_equal(s.server.sni, c->host);
        stage_close(&s);
    }
}

static void a_client_for_another_region_than_its_endpoints_is_refused(void **state)
{
    (void)state;
    static const stage_options options = {0};
    stage s;
    clv_kms *kms = NULL;
    stage_open(&s, &options);
    clv_kms_options other = {.region = "eu-west-1",
                             .endpoint = "https://" STAGE_HOST,
                             .ca_file = s.policy->kms_ca_file,
                             .relay = s.server.address};
    assert_code(clv_kms_open(&other, &kms, err), CLV_USAGE);
    assert_null(kms);
    stage_close(&s);
}

/* X25519MLKEM768 where both sides' OpenSSL has it (3.5), a classic group elsewhere. */
static void key_exchange_is_hybrid_where_openssl_has_it(void **state)
{
    (void)state;
    static const stage_options options = {0};
    stage s;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    stage_open(&s, &options);
    SSL_CTX *probe = SSL_CTX_new(TLS_client_method());
    bool hybrid = SSL_CTX_set1_groups_list(probe, "X25519MLKEM768") == 1;
    SSL_CTX_free(probe);
    assert_ok(stage_call(&s, CLV_GENERATE_RANDOM, &answer, NULL, err));
    assert_string_equal(s.server.group, hybrid ? "X25519MLKEM768" : "x25519");
    stage_close(&s);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_is_read_and_accepted_for_its_region),
        cmocka_unit_test(other_names_tell_nothing),
        cmocka_unit_test(a_region_under_another_partitions_suffix_is_refused),
        cmocka_unit_test(each_is_reached_under_its_own_name),
        cmocka_unit_test(a_client_for_another_region_than_its_endpoints_is_refused),
        cmocka_unit_test(key_exchange_is_hybrid_where_openssl_has_it),
    };
    clv_error err = {0};
    signal(SIGPIPE, SIG_IGN);
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

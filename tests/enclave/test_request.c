/* What a request's head is refused for, before any body; problems; shares; the command line. */
#include "../check.h"

#include <sys/socket.h>
#include <unistd.h>

#include <base/json.h>
#include <enclave/options.h>
#include <enclave/problem.h>
#include <enclave/request.h>

#define UID   1000
#define SHARE ((size_t)128 * 1024 * 1024)

static const char policy_text[] =
    "{\"version\":1,\"enclave\":\"e\",\"attestation\":{\"root_sha256\":"
    "\"641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b\",\"pcrs\":{\"8\":\""
    "111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
    "111\"}},"
    "\"kms\":{\"region\":\"us-east-1\",\"endpoint\":\"https://kms.us-east-1.amazonaws.com\","
    "\"ca_file\":\"/x\"},\"keys\":{"
    "\"one\":{\"key_id\":\"arn:aws:kms:us-east-1:123456789012:key/"
    "1234abcd-12ab-34cd-56ef-1234567890ab\",\"operations\":[\"Decrypt\"],"
    "\"encryption_context\":{\"a\":\"1\"}},"
    "\"two\":{\"key_id\":\"arn:aws:kms:us-east-1:123456789012:key/"
    "1234abcd-12ab-34cd-56ef-1234567890ac\",\"operations\":[\"Decrypt\"],"
    "\"encryption_context\":{\"a\":\"2\"}}},"
    "\"agents\":[{\"uid\":1000,\"may\":[\"seal:one\",\"unseal:one/in/*\","
    "\"derive:one/wallet/*\"]}]}";

static clv_enclave *new_enclave(void)
{
    clv_enclave *enclave = calloc(1, sizeof *enclave);
    assert_non_null(enclave);
    clv_agents_init(&enclave->agents, 0, SHARE);
    assert_ok(clv_policy_parse(clv_bytes_of(policy_text), &enclave->policy, err));
    return enclave;
}

static void free_enclave(clv_enclave *enclave)
{
    clv_policy_free(&enclave->policy);
    clv_agents_drop(&enclave->agents);
    free(enclave);
}

static clv_http_head head_of(const char *method, const char *path, const char *key)
{
    clv_http_head head = {.method = method, .path = path};
    if (key != NULL)
        head.query[head.query_count++] = (struct clv_http_parameter){"key", key};
    return head;
}

static void a_head_is_refused_before_its_body_for_each_reason(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *key;
        uint32_t uid;
        const char *length, *type, *if_match;
        clv_status expected;
    } row[] = {
        {"PUT", "/v1/state/a", "one", UID, "5", "text/plain", "\"3\"", CLV_OK},
        {"GET", "/v1/state/in/a", "one", UID, NULL, NULL, NULL, CLV_OK},
        {"GET", "/v1/state/%69n/a", "one", UID, NULL, NULL, NULL, CLV_OK},
        {"GET", "/healthz", NULL, 7, NULL, NULL, NULL, CLV_OK},
        {"GET", "/nowhere", NULL, UID, NULL, NULL, NULL, CLV_API_ROUTE},
        {"GET", "/v1/state/", "one", UID, NULL, NULL, NULL, CLV_API_ROUTE},
        {"put", "/v1/state/a", "one", UID, NULL, NULL, NULL, CLV_API_METHOD},
        {"GET", "/healthz", "one", UID, NULL, NULL, NULL, CLV_API_PARAMETER},
        {"PUT", "/v1/state/a", NULL, UID, NULL, NULL, NULL, CLV_API_PARAMETER},
        {"PUT", "/v1/state/a", "three", UID, NULL, NULL, NULL, CLV_POLICY_NO_KEY},
        {"PUT", "/v1/state/a", "%", UID, NULL, NULL, NULL, CLV_BAD_ENCODING},
        {"PUT", "/v1/state/a%00", "one", UID, NULL, NULL, NULL, CLV_BAD_ENCODING},
        {"PUT", "/v1/state/a//b", "one", UID, NULL, NULL, NULL, CLV_STATE_NAME},
        {"PUT", "/v1/state/a", "one", UID, "33554433", NULL, NULL, CLV_TOO_LARGE},
        {"PUT", "/v1/state/a", "one", UID, "18446744073709551616", NULL, NULL, CLV_TOO_LARGE},
        {"PUT", "/v1/state/a", "one", UID, NULL, NULL, "*", CLV_API_PARAMETER},
        {"PUT", "/v1/state/a", "one", UID, NULL, NULL, "\"1\"x", CLV_API_PARAMETER},
        {"PUT", "/v1/state/a", "one", UID, NULL, NULL, "\"9007199254740993\"", CLV_API_PARAMETER},
        {"POST", "/v1/keys/derive", "one", UID, "2", "text/plain", NULL, CLV_API_MEDIA_TYPE},
        {"POST", "/v1/keys/derive", "one", UID, "2", "application/jsonp", NULL, CLV_API_MEDIA_TYPE},
        {"POST", "/v1/keys/derive", "one", UID, "9000", NULL, NULL, CLV_TOO_LARGE},
        {"POST", "/v1/keys/derive", "one", UID, "2", "application/json;charset=utf-8", NULL,
         CLV_OK},
        {"POST", "/v1/keys/sign", "one", UID, NULL, NULL, NULL, CLV_CAPABILITY_MISSING},
        {"POST", "/v1/keys/hmac", "one", 7, NULL, NULL, NULL, CLV_AGENT_UNKNOWN},
        {"GET", "/healthz", NULL, UID, NULL, NULL, "\"1\"", CLV_API_PARAMETER},
        {"PUT", "/v1/state/a", "one", 7, NULL, NULL, NULL, CLV_AGENT_UNKNOWN},
        {"PUT", "/v1/state/a", "two", UID, NULL, NULL, NULL, CLV_CAPABILITY_MISSING},
        {"GET", "/v1/state/a", "one", UID, NULL, NULL, NULL, CLV_CAPABILITY_MISSING},
        {"GET", "/v1/state", "one", UID, NULL, NULL, NULL, CLV_CAPABILITY_MISSING},
        {"DELETE", "/v1/state/a", "one", UID, NULL, NULL, NULL, CLV_CAPABILITY_MISSING},
    };
    clv_enclave *enclave = new_enclave();
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_auto(clv_request) request = {0};
        clv_agent agent = {.uid = row[i].uid};
        clv_http_head head = head_of(row[i].method, row[i].path, row[i].key);
        head.content_length = row[i].length;
        head.content_type = row[i].type;
        head.if_match = row[i].if_match;
        if (row[i].expected == CLV_OK)
            assert_ok(clv_request_begin(&request, enclave, &agent, &head, err));
        else
            assert_code(clv_request_begin(&request, enclave, &agent, &head, err), row[i].expected);
    }
    free_enclave(enclave);
}

static void a_name_travels_with_its_key(void **state)
{
    (void)state;
    clv_enclave *enclave = new_enclave();
    clv_request request = {0};
    clv_agent agent = {.uid = UID};
    clv_http_head head = head_of("PUT", "/v1/state/a%2fb", "one");
    head.if_match = "\"12\"";
    assert_ok(clv_request_begin(&request, enclave, &agent, &head, err));
    assert_string_equal(request.name, "a/b");
    assert_string_equal(request.full_name, "one/a/b");
    assert_true(request.if_match);
    assert_int_equal(request.match_generation, 12);
    clv_request_drop(&request);
    free_enclave(enclave);
}

static void a_body_grows_to_its_limit_and_counts_against_its_agent(void **state)
{
    (void)state;
    clv_enclave *enclave = new_enclave();
    clv_agent agent = {.uid = UID};
    assert_true(clv_agents_connect(&enclave->agents, UID));
    clv_http_head head = head_of("POST", "/v1/keys/derive", "one");
    static const uint8_t piece[4096];
    {
        clv_auto(clv_request) request = {0};
        assert_ok(clv_request_begin(&request, enclave, &agent, &head, err));
        assert_ok(clv_request_body(&request, CLV_BYTES(piece, sizeof piece), err));
        assert_ok(clv_request_body(&request, CLV_BYTES(piece, sizeof piece), err));
        assert_code(clv_request_body(&request, CLV_BYTES(piece, 1), err), CLV_TOO_LARGE);
        assert_true(enclave->agents.row[0].bytes >= 8192);
        assert_ok(clv_agents_take_bytes(&enclave->agents, UID, SHARE - enclave->agents.row[0].bytes,
                                        err));
        assert_code(clv_agents_take_bytes(&enclave->agents, UID, 1, err), CLV_AGENT_BUSY);
        clv_agents_give_bytes(&enclave->agents, UID, SHARE - request.held);
    }
    assert_int_equal(enclave->agents.row[0].bytes, 0);
    free_enclave(enclave);
}

static void one_agent_cannot_take_every_connection(void **state)
{
    (void)state;
    clv_enclave *enclave = new_enclave();
    size_t taken = 0;
    while (clv_agents_connect(&enclave->agents, UID))
        taken++;
    assert_int_equal(taken, CLV_CONNECTIONS_MAX / 2);
    /* However many greedy ones there are, the next one still finds room. */
    for (uint32_t more = 1; more < 8; more++) {
        size_t found = 0;
        while (clv_agents_connect(&enclave->agents, UID + more))
            found++;
        assert_true(found > 0);
    }
    clv_agents_disconnect(&enclave->agents, UID + 1);
    assert_true(clv_agents_connect(&enclave->agents, UID + 8));
    free_enclave(enclave);
}

typedef struct waiter {
    clv_agents *agents;
    clv_status (*wait)(clv_agents *agents, clv_error *err);
    clv_status status;
} waiter;

static clv_status wait_for_bytes(clv_agents *agents, clv_error *err)
{
    return clv_agents_await_bytes(agents, UID, SHARE, err);
}

static clv_status wait_for_turn(clv_agents *agents, clv_error *err)
{
    return clv_agents_begin_work(agents, UID, err);
}

static void *wait_in_line(void *of)
{
    waiter *w = of;
    clv_error fault;
    w->status = w->wait(w->agents, &fault);
    return NULL;
}

static void a_share_that_is_taken_is_waited_for_by_its_agent_alone(void **state)
{
    (void)state;
    clv_agents agents;
    pthread_t thread[2];
    clv_agents_init(&agents, 0, SHARE);
    for (uint32_t uid = UID; uid < UID + 2; uid++)
        assert_true(clv_agents_connect(&agents, uid));
    assert_ok(clv_agents_take_bytes(&agents, UID, 1, err));
    for (int i = 0; i < CLV_AGENT_WORK_MAX; i++)
        assert_ok(clv_agents_begin_work(&agents, UID, err));
    waiter w[] = {{&agents, wait_for_bytes, CLV_INTERNAL}, {&agents, wait_for_turn, CLV_INTERNAL}};
    for (size_t i = 0; i < ROWS(w); i++)
        assert_int_equal(pthread_create(&thread[i], NULL, wait_in_line, &w[i]), 0);

    /* Another agent has all of its own share meanwhile. */
    assert_ok(clv_agents_await_bytes(&agents, UID + 1, SHARE, err));
    for (int i = 0; i < CLV_AGENT_WORK_MAX; i++)
        assert_ok(clv_agents_begin_work(&agents, UID + 1, err));

    clv_agents_give_bytes(&agents, UID, 1);
    clv_agents_end_work(&agents, UID);
    for (size_t i = 0; i < ROWS(w); i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(w[i].status, CLV_OK);
    }
    assert_int_equal(agents.row[0].bytes, SHARE);
    assert_int_equal(agents.row[0].working, CLV_AGENT_WORK_MAX);
    clv_agents_drop(&agents);
}

static void a_rate_is_kept_for_each_agent_and_survives_a_new_connection(void **state)
{
    (void)state;
    clv_agents agents;
    clv_agents_init(&agents, 10, SHARE);
    for (int i = 0; i < 10 * CLV_AGENT_BURST_S; i++)
        assert_ok(clv_agents_take_request(&agents, UID, err));
    assert_code(clv_agents_take_request(&agents, UID, err), CLV_AGENT_RATE);
    assert_true(clv_agents_connect(&agents, UID));
    clv_agents_disconnect(&agents, UID);
    assert_code(clv_agents_take_request(&agents, UID, err), CLV_AGENT_RATE);
    assert_ok(clv_agents_take_request(&agents, UID + 1, err));
    agents.row[0].refilled_ms -= 100;
    assert_ok(clv_agents_take_request(&agents, UID, err));
    assert_code(clv_agents_take_request(&agents, UID, err), CLV_AGENT_RATE);
    clv_agents_drop(&agents);
}

static void more_agents_than_rows_take_the_rows_of_those_that_rest(void **state)
{
    (void)state;
    clv_agents agents;
    clv_agents_init(&agents, 0, SHARE);
    for (uint32_t uid = 0; uid < CLV_AGENT_ROWS; uid++)
        assert_true(clv_agents_connect(&agents, uid));
    assert_false(clv_agents_connect(&agents, CLV_AGENT_ROWS));
    clv_agents_disconnect(&agents, 7);
    assert_true(clv_agents_connect(&agents, CLV_AGENT_ROWS));
    assert_int_equal(agents.row[7].uid, CLV_AGENT_ROWS);
    clv_agents_drop(&agents);
}

static void the_kernel_says_who_is_calling(void **state)
{
    (void)state;
    int pair[2];
    clv_agent agent;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_ok(clv_agent_of_socket(pair[0], &agent, err));
    assert_int_equal(agent.uid, getuid());
    assert_int_equal(agent.gid, getgid());
    assert_int_equal(agent.pid, getpid());
    close(pair[0]);
    close(pair[1]);
    assert_code(clv_agent_of_socket(-1, &agent, err), CLV_SYSTEM);
}

static void every_code_has_a_status_of_an_error(void **state)
{
    (void)state;
    assert_int_equal(clv_http_status(CLV_OK), 200);
    for (int i = 1; i < CLV_STATUS_COUNT; i++)
        assert_in_range(clv_http_status((clv_status)i), 400, 599);
    static const struct {
        clv_status code;
        unsigned status;
    } row[] = {
        {CLV_CAPABILITY_MISSING, 403},  {CLV_API_METHOD, 405},        {CLV_STATE_NOT_FOUND, 404},
        {CLV_STATE_CONFLICT, 409},      {CLV_TOO_LARGE, 413},         {CLV_AGENT_BUSY, 429},
        {CLV_SEAL_AUTHENTICATION, 422}, {CLV_KMS_ACCESS_DENIED, 502}, {CLV_ATT_SIGNATURE, 503},
        {CLV_NSM_RESPONSE, 503},        {CLV_JSON_UNKNOWN, 400},      {CLV_NO_MEMORY, 500},
    };
    for (size_t i = 0; i < ROWS(row); i++)
        assert_int_equal(clv_http_status(row[i].code), row[i].status);
}

static void a_problem_says_what_was_expected_and_found(void **state)
{
    (void)state;
    static const struct {
        const char *sentence, *expected, *found;
    } row[] = {
        {"expected 3 apples, found 4", "3 apples", "4"},
        {"name: expected a, found \"b, found c\"", "a", "\"b, found c\""},
        {"nothing of the kind", NULL, NULL},
        {"expected only this", NULL, NULL},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_error problem;
        clv_auto(clv_buf) text = CLV_BUF_INIT;
        clv_auto(clv_json) json = NULL;
        clv_fail(&problem, CLV_JSON_VALUE, "%s", row[i].sentence);
        assert_ok(clv_problem_append(&text, 400, &problem, "0123456789abcdef", false, err));
        assert_ok(clv_json_parse(clv_buf_bytes(&text), 4096, &json, err));
        const char *expected = json_string_value(json_object_get(json, "expected"));
        const char *found = json_string_value(json_object_get(json, "found"));
        assert_string_equal(json_string_value(json_object_get(json, "code")), "json-value");
        assert_string_equal(json_string_value(json_object_get(json, "detail")), row[i].sentence);
        if (row[i].expected == NULL) {
            assert_null(expected);
            assert_null(found);
        } else {
            assert_string_equal(expected, row[i].expected);
            assert_string_equal(found, row[i].found);
        }
    }
}

static void a_problem_that_quotes_raw_bytes_is_still_json(void **state)
{
    (void)state;
    clv_error problem;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = NULL;
    clv_fail(&problem, CLV_API_ROUTE, "found \xff\xfe");
    assert_ok(clv_problem_append(&text, 404, &problem, "0123456789abcdef", false, err));
    assert_ok(clv_json_parse(clv_buf_bytes(&text), 4096, &json, err));
}

static void escapes_are_decoded_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text, *decoded;
        clv_status expected;
    } row[] = {
        {"plain", "plain", CLV_OK},      {"a%2Fb%2fc", "a/b/c", CLV_OK},
        {"%e2%82%ac", "\u20ac", CLV_OK}, {"", "", CLV_OK},
        {"%", NULL, CLV_BAD_ENCODING},   {"%1", NULL, CLV_BAD_ENCODING},
        {"%g0", NULL, CLV_BAD_ENCODING}, {"%00", NULL, CLV_BAD_ENCODING},
        {"%80", NULL, CLV_BAD_ENCODING}, {"123456789", NULL, CLV_TOO_LARGE},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        char out[9];
        if (row[i].expected == CLV_OK) {
            assert_ok(clv_percent_decode(row[i].text, out, sizeof out, err));
            assert_string_equal(out, row[i].decoded);
        } else {
            assert_code(clv_percent_decode(row[i].text, out, sizeof out, err), row[i].expected);
        }
    }
}

static clv_status parse(const char *more, clv_options *options, clv_error *err)
{
    static char line[512];
    char *word[32];
    int n = 0;
    snprintf(line, sizeof line,
             "clavigerd --policy p --nsm n --control c --services s --relay r %s", more);
    for (char *at = strtok(line, " "); at != NULL; at = strtok(NULL, " "))
        word[n++] = at;
    word[n] = NULL;
    return clv_options_parse(n, word, options, err);
}

static void the_command_line_is_checked_whole(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "--agent",
        "--agent tcp:127.0.0.1:1",
        "--agent unix:/a more",
        "--agent unix:/a --log xml",
        "--agent unix:/a --log-level loud",
        "--agent unix:/a --agent-mode 888",
        "--agent unix:/a --agent-mode 7777",
        "--agent unix:/a --agent-rate -1",
        "--agent unix:/a --agent-rate 10/s",
        "--agent unix:/a --agent-memory 127",
        "--agent unix:/a --agent-memory 256M",
        "--agent unix:/a --no-such-option",
    };
    clv_options options;
    for (size_t i = 0; i < ROWS(bad); i++)
        assert_code(parse(bad[i], &options, err), CLV_USAGE);
    assert_ok(
        parse("--agent unix:/a --agent-mode 600 --agent-memory 200 --log json", &options, err));
    assert_int_equal(options.agent_memory, (size_t)200 * 1024 * 1024);
    assert_int_equal(options.agent_mode, 0600);
    assert_true(options.log_json);
}

int main(void)
{
    clv_error err;
    if (clv_secret_start(&err) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_is_refused_before_its_body_for_each_reason),
        cmocka_unit_test(a_name_travels_with_its_key),
        cmocka_unit_test(a_body_grows_to_its_limit_and_counts_against_its_agent),
        cmocka_unit_test(one_agent_cannot_take_every_connection),
        cmocka_unit_test(a_share_that_is_taken_is_waited_for_by_its_agent_alone),
        cmocka_unit_test(a_rate_is_kept_for_each_agent_and_survives_a_new_connection),
        cmocka_unit_test(more_agents_than_rows_take_the_rows_of_those_that_rest),
        cmocka_unit_test(the_kernel_says_who_is_calling),
        cmocka_unit_test(every_code_has_a_status_of_an_error),
        cmocka_unit_test(a_problem_says_what_was_expected_and_found),
        cmocka_unit_test(a_problem_that_quotes_raw_bytes_is_still_json),
        cmocka_unit_test(escapes_are_decoded_strictly),
        cmocka_unit_test(the_command_line_is_checked_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

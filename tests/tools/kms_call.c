/*
 * The KMS client behind a line protocol, for tests and for measuring: reads one JSON object a line,
 * vouches and calls, writes one JSON object a line. A plaintext is told by its SHA-256 alone.
 *
 *     kms-call POLICY NSM RELAY CREDENTIALS
 *     {"action":"Decrypt","key_id":ARN,"context":{…},"bytes":N,"ciphertext":BASE64,
 *      "pair_spec":TEXT,"public_key":BASE64,"retry":false,"fresh":false,"times":1}
 *
 * fresh: a new connection for each call. times: vouch that often, then call that often, one after
 * the other; the answer is the last one's, with the microseconds that each took to vouch and to
 * call.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <base/clock.h>
#include <base/crypto.h>
#include <base/file.h>
#include <base/json.h>
#include <claviger/kms.h>

#define FILE_MAX  65536
#define LINE_MAX_ 65536
#define TIMES_MAX 64

typedef struct client {
    clv_policy *policy;
    clv_nsm *nsm;
    clv_clock clock;
    clv_gate *gate;
    clv_kms *kms[2]; /* keeping connections, and not */
} client;

static clv_status open_kms(const client *c, const char *relay, const char *credentials, bool fresh,
                           clv_kms **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_credentials) parsed = CLV_CREDENTIALS_INIT;
    CLV_TRY(clv_file_read(credentials, FILE_MAX, &text, err));
    CLV_TRY(clv_credentials_parse(clv_buf_bytes(&text), &parsed, err));
    clv_kms_options options = {.region = c->policy->kms_region,
                               .endpoint = c->policy->kms_endpoint,
                               .ca_file = c->policy->kms_ca_file,
                               .relay = relay,
                               .fresh_connections = fresh,
                               .timeout_ms = 8000};
    CLV_TRY(clv_kms_open(&options, out, err));
    clv_kms_set_credentials(*out, &parsed);
    return CLV_OK;
}

static clv_status open_client(client *c, char **argv, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_secret_start(err));
    CLV_TRY(clv_file_read(argv[1], CLV_POLICY_MAX, &text, err));
    CLV_TRY(clv_policy_parse(clv_buf_bytes(&text), &c->policy, err));
    CLV_TRY(clv_nsm_open(argv[2], &c->nsm, err));
    CLV_TRY(clv_gate_measure(c->nsm, c->policy, err));
    clv_clock_init(&c->clock);
    CLV_TRY(clv_gate_open(c->nsm, c->policy, CLV_BYTES(NULL, 0), CLV_BYTES(NULL, 0), &c->clock,
                          &c->gate, err));
    CLV_TRY(open_kms(c, argv[3], argv[4], false, &c->kms[0], err));
    return open_kms(c, argv[3], argv[4], true, &c->kms[1], err);
}

typedef struct call_command {
    clv_operation operation;
    bool retry, fresh;
    int64_t times;
} call_command;

static clv_status read_base64(clv_json_reader *r, const char *name, clv_buf *out, clv_error *err)
{
    const char *text;
    CLV_TRY(clv_json_text(r, name, &text, err));
    return text != NULL ? clv_base64_decode(clv_bytes_of(text), out, err) : CLV_OK;
}

static clv_status read_text(clv_json_reader *r, const char *name, char **out, clv_error *err)
{
    const char *text;
    CLV_TRY(clv_json_text(r, name, &text, err));
    return text != NULL ? clv_text_dup(clv_bytes_of(text), out, err) : CLV_OK;
}

static clv_status read_context(clv_json_reader *r, clv_context *out, clv_error *err)
{
    json_t *pairs;
    const char *key;
    json_t *value;
    CLV_TRY(clv_json_value(r, "context", &pairs, err));
    json_object_foreach(pairs, key, value)
        CLV_TRY(clv_context_add(out, key, json_string_value(value), err));
    return CLV_OK;
}

static clv_status read_command(const json_t *json, call_command *out, clv_error *err)
{
    clv_json_reader r;
    const char *action;
    int64_t bytes = 0;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_text(&r, "action", &action, err));
    if (!clv_kms_action_of(action, &out->operation.action))
        return clv_fail(err, CLV_USAGE, "expected an operation of KMS, found %.60s", action);
    CLV_TRY(read_text(&r, "key_id", &out->operation.key_arn, err));
    CLV_TRY(read_text(&r, "pair_spec", &out->operation.key_pair_spec, err));
    CLV_TRY(read_context(&r, &out->operation.context, err));
    CLV_TRY(read_base64(&r, "ciphertext", &out->operation.ciphertext, err));
    CLV_TRY(read_base64(&r, "public_key", &out->operation.public_key, err));
    CLV_TRY(clv_json_integer(&r, "bytes", 0, UINT32_MAX, &bytes, err));
    out->operation.number_of_bytes = (uint32_t)bytes;
    CLV_TRY(clv_json_boolean(&r, "retry", &out->retry, err));
    CLV_TRY(clv_json_boolean(&r, "fresh", &out->fresh, err));
    CLV_TRY(clv_json_integer(&r, "times", 1, TIMES_MAX, &out->times, err));
    return clv_json_done(&r, err);
}

static int64_t now_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void add_us(json_t *report, const char *name, clockid_t clock, int64_t start)
{
    json_array_append_new(json_object_get(report, name), json_integer(now_us(clock) - start));
}

static clv_status vouch_all(client *c, const call_command *command, clv_voucher **vouchers,
                            json_t *report, clv_error *err)
{
    for (int64_t i = 0; i < command->times; i++) {
        int64_t start = now_us(CLOCK_MONOTONIC);
        CLV_TRY(clv_gate_vouch(c->gate, &command->operation, &vouchers[i], err));
        add_us(report, "vouch_us", CLOCK_MONOTONIC, start);
    }
    return CLV_OK;
}

static void put_base64(json_t *report, const char *name, const clv_buf *value)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (value->n > 0 && clv_base64_append(&text, clv_buf_bytes(value), NULL) == CLV_OK)
        json_object_set_new(report, name, json_stringn((const char *)text.p, text.n));
}

static clv_status put_answer(json_t *report, const clv_kms_answer *answer, clv_error *err)
{
    uint8_t digest[CLV_SHA256_SIZE];
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    CLV_TRY(clv_sha256(clv_secret_bytes(answer->plaintext), digest, err));
    CLV_TRY(clv_hex_append(&hex, CLV_BYTES(digest, sizeof digest), err));
    json_object_set_new(report, "sha256", json_stringn((const char *)hex.p, hex.n));
    json_object_set_new(report, "length",
                        json_integer((json_int_t)clv_secret_length(answer->plaintext)));
    json_object_set_new(report, "request_id", json_string(answer->request_id));
    put_base64(report, "ciphertext", &answer->ciphertext_blob);
    put_base64(report, "public_key", &answer->public_key);
    return CLV_OK;
}

static clv_status call_all(client *c, const call_command *command, clv_voucher **vouchers,
                           json_t *report, clv_kms_failure *failure, clv_error *err)
{
    clv_kms *kms = c->kms[command->fresh ? 1 : 0];
    for (int64_t i = 0; i < command->times; i++) {
        clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
        int64_t start = now_us(CLOCK_MONOTONIC), cpu = now_us(CLOCK_PROCESS_CPUTIME_ID);
        CLV_TRY(clv_kms_call(kms, &vouchers[i], &command->operation, &answer, failure, err));
        add_us(report, "cpu_us", CLOCK_PROCESS_CPUTIME_ID, cpu);
        add_us(report, "call_us", CLOCK_MONOTONIC, start);
        if (i + 1 == command->times)
            CLV_TRY(put_answer(report, &answer, err));
    }
    return CLV_OK;
}

static clv_status vouch_and_call(client *c, const call_command *command, json_t *report,
                                 clv_kms_failure *failure, clv_error *err)
{
    clv_voucher *vouchers[TIMES_MAX] = {NULL};
    clv_status status = vouch_all(c, command, vouchers, report, err);
    if (status == CLV_OK)
        status = call_all(c, command, vouchers, report, failure, err);
    for (size_t i = 0; i < TIMES_MAX; i++)
        clv_voucher_free(&vouchers[i]);
    return status;
}

static clv_status call_with_retries(client *c, const call_command *command, json_t *report,
                                    clv_kms_failure *failure, clv_error *err)
{
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_kms *kms = c->kms[command->fresh ? 1 : 0];
    CLV_TRY(clv_kms_run(kms, c->gate, &command->operation, &answer, failure, err));
    return put_answer(report, &answer, err);
}

static clv_status obey(client *c, const json_t *line, json_t *report, clv_kms_failure *failure,
                       clv_error *err)
{
    call_command command = {.operation = CLV_OPERATION_INIT, .times = 1};
    clv_status status = read_command(line, &command, err);
    if (status == CLV_OK)
        status = command.retry ? call_with_retries(c, &command, report, failure, err)
                               : vouch_and_call(c, &command, report, failure, err);
    clv_operation_drop(&command.operation);
    return status;
}

static void serve_line(client *c, const char *line)
{
    clv_error err = {0};
    clv_kms_failure failure = {0};
    clv_auto(clv_json) parsed = NULL;
    clv_auto(clv_json) report = json_pack("{s:[], s:[], s:[]}", "vouch_us", "call_us", "cpu_us");
    clv_status status = clv_json_parse(clv_bytes_of(line), LINE_MAX_, &parsed, &err);
    if (status == CLV_OK)
        status = obey(c, parsed, report, &failure, &err);
    json_object_set_new(report, "code", json_string(clv_status_slug(status)));
    json_object_set_new(report, "sentence", json_string(status == CLV_OK ? "" : err.text));
    json_object_set_new(report, "type", json_string(failure.type));
    json_object_set_new(report, "http_status", json_integer(failure.http_status));
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (clv_json_append(&text, report, NULL) == CLV_OK)
        printf("%.*s\n", (int)text.n, (const char *)text.p);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    client c = {0};
    if (argc != 5) {
        fprintf(stderr, "usage: kms-call POLICY NSM RELAY CREDENTIALS\n");
        return CLV_EXIT_USAGE;
    }
    signal(SIGPIPE, SIG_IGN);
    clv_status status = open_client(&c, argv, &err);
    if (status != CLV_OK)
        fprintf(stderr, "kms-call: %s (%s)\n", err.text, clv_status_slug(status));
    static char line[LINE_MAX_];
    while (status == CLV_OK && fgets(line, sizeof line, stdin) != NULL)
        serve_line(&c, line);
    clv_kms_free(&c.kms[0]);
    clv_kms_free(&c.kms[1]);
    clv_gate_free(&c.gate);
    clv_nsm_free(&c.nsm);
    clv_policy_free(&c.policy);
    return (int)clv_status_exit(status);
}

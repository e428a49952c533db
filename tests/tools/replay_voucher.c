/*
 * Tries to get more than one call out of a voucher, and another call than the one vouched for,
 * against a real NSM and a real KMS. Exit status 0: every misuse was refused with its own code and
 * the one honest call was answered.
 */
#include <stdio.h>

#include <base/clock.h>
#include <base/file.h>
#include <claviger/kms.h>

#define FILE_MAX 65536

typedef struct stage {
    clv_policy *policy;
    clv_nsm *nsm;
    clv_clock clock;
    clv_gate *gate;
    clv_kms *kms;
    clv_operation operation;
} stage;

static clv_status read_policy(stage *s, const char *path, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, CLV_POLICY_MAX, &text, err));
    return clv_policy_parse(clv_buf_bytes(&text), &s->policy, err);
}

static clv_status open_gate(stage *s, char **argv, clv_error *err)
{
    clv_auto(clv_buf) baseline = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(argv[5], FILE_MAX, &baseline, err));
    CLV_TRY(clv_file_read(argv[6], FILE_MAX, &signature, err));
    CLV_TRY(clv_nsm_open(argv[2], &s->nsm, err));
    CLV_TRY(clv_gate_measure(s->nsm, s->policy, err));
    clv_clock_init(&s->clock);
    return clv_gate_open(s->nsm, s->policy, clv_buf_bytes(&baseline), clv_buf_bytes(&signature),
                         &s->clock, &s->gate, err);
}

static clv_status open_kms(stage *s, const char *relay, const char *credentials, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_credentials) parsed = CLV_CREDENTIALS_INIT;
    CLV_TRY(clv_file_read(credentials, FILE_MAX, &text, err));
    CLV_TRY(clv_credentials_parse(clv_buf_bytes(&text), &parsed, err));
    clv_kms_options options = {.region = s->policy->kms_region,
                               .endpoint = s->policy->kms_endpoint,
                               .ca_file = s->policy->kms_ca_file,
                               .relay = relay};
    CLV_TRY(clv_kms_open(&options, &s->kms, err));
    clv_kms_set_credentials(s->kms, &parsed);
    return clv_policy_resolve_generate(s->policy, &s->policy->key[0], clv_gate_identity(s->gate),
                                       NULL, 32, &s->operation, err);
}

static bool expect(const char *what, clv_status found, clv_status expected, const clv_error *err)
{
    if (found == CLV_OK)
        printf("%s: done; ", what);
    else
        printf("%s: %s (%s); ", what, err->text, clv_status_slug(found));
    return found == expected;
}

/* Spent once by hand, then handed to the client as if it were fresh. */
static bool try_twice(stage *s)
{
    clv_error err = {0};
    clv_auto_ptr(clv_voucher) voucher = NULL;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    if (!expect("vouch", clv_gate_vouch(s->gate, &s->operation, &voucher, &err), CLV_OK, &err) ||
        !expect("spend", clv_voucher_spend(voucher, &s->operation, &err), CLV_OK, &err))
        return false;
    clv_status status = clv_kms_call(s->kms, &voucher, &s->operation, &answer, NULL, &err);
    return expect("replay", status, CLV_VOUCHER_SPENT, &err) && voucher == NULL &&
           answer.plaintext == NULL;
}

/* The honest call takes the voucher away, so that nothing is left to replay. */
static bool try_after_call(stage *s)
{
    clv_error err = {0};
    clv_auto_ptr(clv_voucher) voucher = NULL;
    clv_auto(clv_kms_answer) first = CLV_KMS_ANSWER_INIT;
    clv_auto(clv_kms_answer) second = CLV_KMS_ANSWER_INIT;
    if (!expect("vouch", clv_gate_vouch(s->gate, &s->operation, &voucher, &err), CLV_OK, &err))
        return false;
    clv_status status = clv_kms_call(s->kms, &voucher, &s->operation, &first, NULL, &err);
    if (!expect("honest call", status, CLV_OK, &err) || voucher != NULL)
        return false;
    status = clv_kms_call(s->kms, &voucher, &s->operation, &second, NULL, &err);
    return expect("again", status, CLV_VOUCHER_SPENT, &err) && second.plaintext == NULL;
}

/* Vouched for 32 bytes, used for 64. */
static bool try_other_operation(stage *s)
{
    clv_error err = {0};
    clv_auto_ptr(clv_voucher) voucher = NULL;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    if (!expect("vouch", clv_gate_vouch(s->gate, &s->operation, &voucher, &err), CLV_OK, &err))
        return false;
    s->operation.number_of_bytes = 64;
    clv_status status = clv_kms_call(s->kms, &voucher, &s->operation, &answer, NULL, &err);
    s->operation.number_of_bytes = 32;
    return expect("other operation", status, CLV_VOUCHER_MISMATCH, &err) && voucher == NULL &&
           answer.plaintext == NULL;
}

static clv_status open_stage(stage *s, char **argv, clv_error *err)
{
    CLV_TRY(clv_secret_start(err));
    CLV_TRY(read_policy(s, argv[1], err));
    CLV_TRY(open_gate(s, argv, err));
    return open_kms(s, argv[3], argv[4], err);
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    stage s = {.operation = CLV_OPERATION_INIT};
    if (argc != 7) {
        fprintf(stderr, "usage: replay-voucher POLICY NSM RELAY CREDENTIALS BASELINE SIGNATURE\n");
        return CLV_EXIT_USAGE;
    }
    bool held = false;
    if (open_stage(&s, argv, &err) != CLV_OK)
        fprintf(stderr, "replay-voucher: %s (%s)\n", err.text, clv_status_slug(err.code));
    else
        held = try_other_operation(&s) && try_after_call(&s) && try_twice(&s);
    printf("\n");
    clv_operation_drop(&s.operation);
    clv_kms_free(&s.kms);
    clv_gate_free(&s.gate);
    clv_nsm_free(&s.nsm);
    clv_policy_free(&s.policy);
    return held ? CLV_EXIT_OK : CLV_EXIT_REFUSED;
}

/*
 * state_tool NSM POLICY BASELINE RELAY CREDENTIALS < commands
 *
 * The rooms from the gate to the seal, without the daemon: measures and verifies itself as
 * clavigerd does, then obeys one command a line and answers each with "ok" or "slug: sentence":
 *
 *     seal KEY NAME GENERATION PLAINTEXT-FILE MESSAGE-FILE
 *     unseal KEY NAME GENERATION MESSAGE-FILE PLAINTEXT-FILE
 *     repeat COUNT KEY NAME PLAINTEXT-FILE MESSAGE-FILE     seals as often, prints the rate
 */
#include <seal/state.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/clock.h>
#include <base/file.h>

typedef struct tool {
    clv_nsm *nsm;
    clv_policy *policy;
    clv_clock clock;
    clv_gate *gate;
    clv_kms *kms;
    clv_vault *vault;
} tool;

static void tool_drop(tool *t)
{
    clv_vault_free(&t->vault);
    clv_kms_free(&t->kms);
    clv_gate_free(&t->gate);
    clv_policy_free(&t->policy);
    clv_nsm_free(&t->nsm);
    clv_clock_drop(&t->clock);
}

static clv_status open_gate(tool *t, char **arguments, clv_error *err)
{
    clv_auto(clv_buf) policy = CLV_BUF_INIT;
    clv_auto(clv_buf) baseline = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    char minisig[4096];
    snprintf(minisig, sizeof minisig, "%s.minisig", arguments[2]);
    CLV_TRY(clv_file_read(arguments[1], CLV_POLICY_MAX, &policy, err));
    CLV_TRY(clv_file_read(arguments[2], CLV_BASELINE_MAX, &baseline, err));
    CLV_TRY(clv_file_read(minisig, CLV_BASELINE_MAX, &signature, err));
    CLV_TRY(clv_policy_parse(clv_buf_bytes(&policy), &t->policy, err));
    CLV_TRY(clv_nsm_open(arguments[0], &t->nsm, err));
    CLV_TRY(clv_gate_measure(t->nsm, t->policy, err));
    return clv_gate_open(t->nsm, t->policy, clv_buf_bytes(&baseline), clv_buf_bytes(&signature),
                         &t->clock, &t->gate, err);
}

static clv_status open_vault(tool *t, char **arguments, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_credentials) credentials = CLV_CREDENTIALS_INIT;
    clv_kms_options options = {
        .region = t->policy->kms_region,
        .endpoint = t->policy->kms_endpoint,
        .ca_file = t->policy->kms_ca_file,
        .relay = arguments[3],
    };
    CLV_TRY(clv_kms_open(&options, &t->kms, err));
    CLV_TRY(clv_file_read(arguments[4], CLV_POLICY_MAX, &text, err));
    CLV_TRY(clv_credentials_parse(clv_buf_bytes(&text), &credentials, err));
    clv_kms_set_credentials(t->kms, &credentials);
    return clv_vault_open(t->gate, t->kms, &t->vault, err);
}

typedef clv_status (*transform)(clv_vault *vault, const clv_policy_key *key, const char *name,
                                uint64_t generation, clv_bytes from, clv_buf *to, clv_error *err);

static clv_status unseal(clv_vault *vault, const clv_policy_key *key, const char *name,
                         uint64_t generation, clv_bytes from, clv_buf *to, clv_error *err)
{
    return clv_state_unseal(vault, key, name, generation, from, to, NULL, err);
}

static clv_status run(tool *t, transform how, char **words, clv_error *err)
{
    clv_auto(clv_buf) from = CLV_BUF_INIT;
    clv_auto(clv_buf) to = CLV_BUF_INIT;
    const clv_policy_key *key = clv_policy_find_key(t->policy, words[0]);
    if (key == NULL)
        return clv_fail(err, CLV_POLICY_NO_KEY, "expected a key of the policy, found \"%s\"",
                        words[0]);
    CLV_TRY(clv_file_read(words[3], CLV_BUF_LIMIT, &from, err));
    CLV_TRY(
        how(t->vault, key, words[1], strtoull(words[2], NULL, 10), clv_buf_bytes(&from), &to, err));
    return clv_file_write(words[4], clv_buf_bytes(&to), 0600, err);
}

static clv_status repeat(tool *t, char **words, clv_error *err)
{
    clv_auto(clv_buf) from = CLV_BUF_INIT;
    clv_auto(clv_buf) to = CLV_BUF_INIT;
    const clv_policy_key *key = clv_policy_find_key(t->policy, words[1]);
    if (key == NULL)
        return clv_fail(err, CLV_POLICY_NO_KEY, "expected a key of the policy, found \"%s\"",
                        words[1]);
    CLV_TRY(clv_file_read(words[3], CLV_BUF_LIMIT, &from, err));
    uint64_t before = clv_monotonic_ms();
    long count = strtol(words[0], NULL, 10);
    for (long i = 0; i < count; i++) {
        to.n = 0;
        CLV_TRY(clv_state_seal(t->vault, key, words[2], 0, clv_buf_bytes(&from), &to, err));
    }
    uint64_t took = clv_monotonic_ms() - before;
    printf("%.0f a second\n", (double)count * 1000 / (double)(took > 0 ? took : 1));
    return clv_file_write(words[4], clv_buf_bytes(&to), 0600, err);
}

static clv_status obey(tool *t, char *line, clv_error *err)
{
    char *words[8] = {NULL};
    char *rest = line;
    size_t n = 0;
    while (n < 7 && (words[n] = strtok_r(rest, " \n", &rest)) != NULL)
        n++;
    if (n == 6 && strcmp(words[0], "seal") == 0)
        return run(t, clv_state_seal, words + 1, err);
    if (n == 6 && strcmp(words[0], "unseal") == 0)
        return run(t, unseal, words + 1, err);
    if (n == 6 && strcmp(words[0], "repeat") == 0)
        return repeat(t, words + 1, err);
    return clv_fail(err, CLV_USAGE, "expected seal, unseal or repeat and five words");
}

static clv_status serve(char **arguments, clv_error *err)
{
    clv_auto(tool) t = {0};
    char line[8192];
    clv_clock_init(&t.clock);
    CLV_TRY(open_gate(&t, arguments, err));
    CLV_TRY(open_vault(&t, arguments, err));
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        clv_error problem = {0};
        clv_status status = obey(&t, line, &problem);
        printf("%s%s%s\n", clv_status_slug(status), status == CLV_OK ? "" : ": ", problem.text);
        fflush(stdout);
    }
    return CLV_OK;
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    clv_status status = clv_secret_start(&err);
    if (status == CLV_OK && argc == 6)
        status = serve(argv + 1, &err);
    else if (status == CLV_OK)
        status = clv_fail(&err, CLV_USAGE, "expected five arguments");
    if (status != CLV_OK)
        fprintf(stderr, "state_tool: %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

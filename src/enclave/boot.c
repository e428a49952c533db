#include <enclave/boot.h>

#include <signal.h>
#include <time.h>

#include <base/file.h>
#include <base/log.h>

#define SERVICES_TIMEOUT 10000 /* ms, for one call to the parent */
#define RETRY_MS         250

/* What the gate holds ready: a burst of requests, and the operations that agents repeat. */
#define KEYS_AHEAD     4
#define VOUCHERS_AHEAD 4

static clv_status read_policy(const char *path, clv_policy **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, CLV_POLICY_MAX, &text, err));
    clv_status status = clv_policy_parse(clv_buf_bytes(&text), out, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

/* Sleep a little; true when it was a signal to end that woke us. */
static bool told_to_stop(int ms)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    return sigtimedwait(&set, NULL, &wait) > 0;
}

static bool parent_is_away(clv_status status)
{
    return status == CLV_UNREACHABLE || status == CLV_DEADLINE || status == CLV_CLOSED;
}

/* Ask until the parent answers, or its patience is over: it may start after the enclave. */
static clv_status patiently(clv_enclave *enclave, const char *what,
                            clv_status (*ask)(clv_enclave *enclave, void *with, clv_error *err),
                            void *with, clv_error *err)
{
    uint64_t until = clv_monotonic_ms() + CLV_BOOT_PATIENCE_MS;
    bool said = false;
    for (;;) {
        clv_status status = ask(enclave, with, err);
        if (status == CLV_OK)
            return CLV_OK;
        if (!parent_is_away(status) || clv_monotonic_ms() >= until)
            return clv_blame(err, status, "%s from the parent", what);
        if (!said)
            clv_log(CLV_LOG_WARNING, "boot.waiting", NULL, "the parent does not give the %s yet",
                    what);
        said = true;
        if (told_to_stop(RETRY_MS))
            return clv_fail(err, CLV_CLOSED, "told to stop while waiting for the parent");
    }
}

typedef struct signed_text {
    clv_buf text, signature;
} signed_text;

static void signed_text_drop(signed_text *s)
{
    clv_buf_drop(&s->text);
    clv_buf_drop(&s->signature);
}

static clv_status ask_baseline(clv_enclave *enclave, void *with, clv_error *err)
{
    signed_text *baseline = with;
    return clv_services_baseline(&enclave->services, &baseline->text, &baseline->signature, err);
}

/* R1 to R6: who are we? */
static clv_status prove_identity(clv_enclave *enclave, clv_error *err)
{
    clv_auto(signed_text) baseline = {CLV_BUF_INIT, CLV_BUF_INIT};
    CLV_TRY(clv_gate_measure(enclave->nsm, enclave->policy, err));
    if (enclave->policy->release_key_count > 0)
        CLV_TRY(patiently(enclave, "baseline", ask_baseline, &baseline, err));
    CLV_TRY(clv_gate_open(enclave->nsm, enclave->policy, clv_buf_bytes(&baseline.text),
                          clv_buf_bytes(&baseline.signature), &enclave->clock, &enclave->gate,
                          err));
    clv_auto(clv_json) proved = clv_identity_json(enclave);
    CLV_TRY(clv_json_append(&enclave->identity_text, proved, err));
    CLV_TRY(clv_gate_work_ahead(enclave->gate, KEYS_AHEAD, VOUCHERS_AHEAD, err));
    const clv_identity *identity = clv_gate_identity(enclave->gate);
    clv_log(CLV_LOG_INFO, "boot.verified", NULL, "this is %s, release \"%s\"%s, module %s",
            enclave->policy->enclave, identity->release,
            identity->release[0] == '\0' ? " (identified by its pins)" : "", identity->module_id);
    return CLV_OK;
}

static clv_status ask_credentials(clv_enclave *enclave, void *with, clv_error *err)
{
    (void)with;
    clv_auto(clv_credentials) credentials = CLV_CREDENTIALS_INIT;
    CLV_TRY(clv_services_credentials(&enclave->services, &credentials, err));
    clv_kms_set_credentials(enclave->kms, &credentials);
    return CLV_OK;
}

/* -- what the witness keeps with the parent ---------------------------------------------------- */

static clv_status witness_key_get(void *with, const char *name, clv_buf *blob, clv_error *err)
{
    return clv_services_key_get(with, name, blob, err);
}

static clv_status witness_key_put(void *with, const char *name, clv_bytes blob, clv_error *err)
{
    return clv_services_key_put(with, name, blob, err);
}

static clv_status witness_state_get(void *with, const char *name, uint64_t *generation,
                                    clv_buf *bytes, clv_error *err)
{
    return clv_services_state_get(with, name, generation, bytes, err);
}

static clv_status witness_state_put(void *with, const char *name, uint64_t generation,
                                    clv_bytes bytes, clv_error *err)
{
    return clv_services_state_put(with, name, generation, bytes, err);
}

static clv_status open_witness(clv_enclave *enclave, const clv_options *options, clv_error *err)
{
    clv_witness_options to = {
        .policy = enclave->policy,
        .vault = enclave->vault,
        .clock = &enclave->clock,
        .store = {&enclave->services, witness_key_get, witness_key_put, witness_state_get,
                  witness_state_put},
        .relay_count = options->witness_relay_count,
    };
    memcpy(to.relay, options->witness_relay, sizeof to.relay);
    if (enclave->policy->witness.mode != CLV_WITNESS_MODE_NONE)
        return clv_witness_open(&to, &enclave->witness, err);
    clv_log(CLV_LOG_WARNING, "boot.no_witness", NULL,
            "the policy configures no witness: the parent can put all state back to an older one");
    return CLV_OK;
}

static clv_status open_vault(clv_enclave *enclave, const clv_options *options, clv_error *err)
{
    const clv_policy *policy = enclave->policy;
    clv_kms_options to = {.region = policy->kms_region,
                          .endpoint = policy->kms_endpoint,
                          .ca_file = policy->kms_ca_file,
                          .relay = options->relay};
    CLV_TRY(clv_kms_open(&to, &enclave->kms, err));
    CLV_TRY(patiently(enclave, "credentials", ask_credentials, NULL, err));
    CLV_TRY(clv_vault_open(enclave->gate, enclave->kms, &enclave->vault, err));
    clv_vault_set_observer(enclave->vault, clv_evidence_keep, &enclave->evidence);
    CLV_TRY(open_witness(enclave, options, err));
    return clv_keeper_start(&enclave->services, enclave->kms, &enclave->clock, &enclave->metrics,
                            &enclave->keeper, err);
}

static bool names_executables(const clv_policy *policy)
{
    for (size_t i = 0; i < policy->agent_count; i++) {
        if (!policy->agent[i].any_exe)
            return true;
    }
    return false;
}

clv_status clv_boot(clv_enclave *enclave, const clv_options *options, clv_opener *opener,
                    clv_error *err)
{
    *enclave = (clv_enclave){.nsm = NULL};
    enclave->started_ms = clv_monotonic_ms();
    clv_clock_init(&enclave->clock);
    clv_review_init(&enclave->review);
    clv_agents_init(&enclave->agents, options->agent_rate, options->agent_memory);
    clv_executables_init(&enclave->executables, opener);
    clv_roots_init(&enclave->roots);
    clv_evidence_init(&enclave->evidence);
    pthread_mutex_init(&enclave->streams.lock, NULL);
    CLV_TRY(clv_services_init(&enclave->services, options->services, SERVICES_TIMEOUT, err));
    CLV_TRY(read_policy(options->policy, &enclave->policy, err));
    if (!names_executables(enclave->policy))
        clv_opener_stop(opener);
    enclave->front_key = options->front_key;
    if (options->front_key != NULL &&
        clv_policy_find_key(enclave->policy, options->front_key) == NULL)
        return clv_fail(err, CLV_POLICY_NO_KEY,
                        "--front-key: expected a key of the policy, found \"%.64s\"",
                        options->front_key);
    CLV_TRY(clv_nsm_open(options->nsm, &enclave->nsm, err));
    CLV_TRY(prove_identity(enclave, err));
    return open_vault(enclave, options, err);
}

void clv_enclave_drop(clv_enclave *enclave)
{
    clv_keeper_free(&enclave->keeper);
    clv_witness_free(&enclave->witness);
    clv_vault_free(&enclave->vault);
    clv_kms_free(&enclave->kms);
    clv_gate_free(&enclave->gate);
    clv_nsm_free(&enclave->nsm);
    clv_policy_free(&enclave->policy);
    pthread_mutex_destroy(&enclave->streams.lock);
    clv_evidence_drop(&enclave->evidence);
    clv_buf_drop(&enclave->identity_text);
    clv_roots_drop(&enclave->roots);
    clv_executables_drop(&enclave->executables);
    clv_agents_drop(&enclave->agents);
    clv_review_drop(&enclave->review);
    clv_clock_drop(&enclave->clock);
}

#include <cli/lint.h>

#include <inttypes.h>
#include <stdio.h>

#include <cli/report.h>
#include <kms/endpoint.h>

#define AGE_NOTABLE_S  120
#define SENTENCE_MAX   512
#define UNLIMITED_VERB "derive"

/* ---- in words ---- */

static bool is_aws_root(const clv_policy *policy)
{
    uint8_t aws[CLV_ROOT_DIGEST_SIZE];
    return clv_hex_decode_exact(clv_bytes_of(CLV_AWS_ROOT_SHA256), aws, sizeof aws, NULL) ==
               CLV_OK &&
           memcmp(aws, policy->root_sha256, sizeof aws) == 0;
}

static void describe_image(const clv_policy *policy)
{
    if (policy->release_key_count > 0)
        clv_print_line("image", "a release of a baseline signed by %s%zu release key%s",
                       policy->release_key_count > 1 ? "one of " : "", policy->release_key_count,
                       policy->release_key_count > 1 ? "s" : "");
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if ((policy->pins.present >> i & 1) != 0)
            clv_print_line("image", "PCR%u as pinned%s", i,
                           i == CLV_SIGNER_PCR ? ": an image signed with one certificate" : "");
    }
}

#define AGENT_NAME_SIZE 96

/* "uid 1000", "gid 4", "uid 1000 with gid 4"; "… running 12ab34cd56ef" where an executable is
 * named, by the beginning of its SHA-256. */
static void name_agent(const clv_policy_agent *agent, char out[AGENT_NAME_SIZE])
{
    char uid[24] = "", gid[24] = "", exe[32] = "";
    const uint8_t *e = agent->exe_sha256;
    if (!agent->any_uid)
        snprintf(uid, sizeof uid, "uid %" PRIu32, agent->uid);
    if (!agent->any_gid)
        snprintf(gid, sizeof gid, "gid %" PRIu32, agent->gid);
    if (!agent->any_exe)
        snprintf(exe, sizeof exe, " running %02x%02x%02x%02x%02x%02x", e[0], e[1], e[2], e[3], e[4],
                 e[5]);
    snprintf(out, AGENT_NAME_SIZE, "%s%s%s%s", uid,
             uid[0] != '\0' && gid[0] != '\0' ? " with " : "", gid, exe);
}

static void describe_context(const clv_context *context, const char *what)
{
    if (context->count == 0)
        clv_print_line("", "%s nothing", what);
    for (size_t i = 0; i < context->count; i++)
        clv_print_line("", "%s %s = %s", i == 0 ? what : "  and", context->pair[i].key,
                       context->pair[i].value);
}

static clv_status describe_key(const clv_policy_key *key, clv_error *err)
{
    clv_auto(clv_buf) actions = CLV_BUF_INIT;
    const char *text;
    for (int a = 0; a < CLV_KMS_ACTION_COUNT; a++) {
        if ((key->actions >> a & 1) != 0)
            CLV_TRY(clv_buf_printf(&actions, err, "%s%s", actions.n > 0 ? ", " : "",
                                   clv_kms_action_name((clv_kms_action)a)));
    }
    CLV_TRY(clv_buf_text(&actions, &text, err));
    clv_print_line("key", "%s is %s", key->name, key->key_arn);
    clv_print_line("", "for %s", text);
    describe_context(&key->context, "in the context");
    if (key->peer.n > 0)
        clv_print_line("", "derives from the secret that KMS shares with a peer's public key");
    for (size_t k = 0; k < key->predecessor_count; k++)
        describe_context(&key->predecessor[k], "also opening, never sealing, what has");
    if (key->cache.max_age_s > 0)
        clv_print_line("",
                       "cached for %" PRIu32 " s, %" PRIu32 " messages, %" PRIu64 " bytes at most",
                       key->cache.max_age_s, key->cache.max_messages, key->cache.max_bytes);
    if (key->max_encrypted_data_keys > 1)
        clv_print_line("",
                       "in messages that %" PRIu32 " keys at most can open, this one among them",
                       key->max_encrypted_data_keys);
    return CLV_OK;
}

static void describe_witness(const clv_policy *policy)
{
    const clv_policy_witness *witness = &policy->witness;
    const char *key = policy->key[witness->key].name;
    if (witness->mode == CLV_WITNESS_MODE_NONE)
        clv_print_line("witness", "none");
    if (witness->mode == CLV_WITNESS_MODE_RECEIPTS)
        clv_print_line("witness", "receipts that the callers keep, signed under %s", key);
    for (size_t i = 0; i < witness->endpoint_count; i++)
        clv_print_line("witness", "%s, trusting %s, keys below \"%s\", signed under %s",
                       witness->endpoint[i], witness->ca_file, witness->prefix, key);
}

clv_status clv_lint_describe(const clv_policy *policy, clv_error *err)
{
    clv_print_line("enclave", "%s", policy->enclave);
    clv_print_line("root", "%s",
                   is_aws_root(policy) ? "AWS Nitro Enclaves G1" : "another than AWS's");
    describe_image(policy);
    clv_print_line("debug mode", "%s", policy->allow_debug ? "accepted" : "refused");
    clv_print_line("documents", "refused when they took longer than %" PRIu32 " s",
                   policy->max_document_age_s);
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if (policy->measured[i] != NULL)
            clv_print_line("measured", "%s into PCR%u", policy->measured[i], i);
    }
    clv_print_line("KMS", "%s in %s, trusting %s", policy->kms_endpoint, policy->kms_region,
                   policy->kms_ca_file);
    describe_witness(policy);
    for (size_t i = 0; i < policy->key_count; i++)
        CLV_TRY(describe_key(&policy->key[i], err));
    for (size_t i = 0; i < policy->agent_count; i++) {
        char name[AGENT_NAME_SIZE];
        name_agent(&policy->agent[i], name);
        for (size_t k = 0; k < policy->agent[i].may_count; k++)
            clv_print_line("agent", "%s may %s", name, policy->agent[i].may[k]);
    }
    return CLV_OK;
}

void clv_lint_table(const clv_policy *policy)
{
    printf("%-32s %-8s %-24s %s\n", "agent", "verb", "key", "names");
    for (size_t i = 0; i < policy->agent_count; i++) {
        char name[AGENT_NAME_SIZE];
        name_agent(&policy->agent[i], name);
        for (size_t k = 0; k < policy->agent[i].may_count; k++) {
            const char *may = policy->agent[i].may[k];
            size_t verb = strcspn(may, ":"), key = strcspn(may + verb + 1, "/");
            const char *names = may[verb + 1 + key] == '/' ? may + verb + 2 + key : "*";
            printf("%-32s %-8.*s %-24.*s %s\n", name, (int)verb, may, (int)key, may + verb + 1,
                   names);
        }
    }
}

/* ---- warnings ---- */

/* Adds {"warning": slug, "text": …}. */
static clv_status warn(json_t *into, clv_error *err, const char *slug, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static clv_status warn(json_t *into, clv_error *err, const char *slug, const char *format, ...)
{
    char text[SENTENCE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    json_t *warning = json_pack("{s:s, s:s}", "warning", slug, "text", text);
    return warning != NULL && json_array_append_new(into, warning) == 0
               ? CLV_OK
               : clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
}

static clv_status warn_of_attestation(const clv_policy *p, json_t *into, clv_error *err)
{
    if (p->release_key_count == 0)
        CLV_TRY(warn(into, err, "no-image-pin",
                     "attestation: no release key: every image that the certificate of PCR8 ever "
                     "signed is accepted, old ones too; add release_keys"));
    if (p->allow_debug)
        CLV_TRY(warn(into, err, "debug-allowed",
                     "attestation.allow_debug: an enclave in debug mode is accepted, whose console "
                     "is open to the parent and whose image is not measured"));
    if (!is_aws_root(p))
        CLV_TRY(warn(into, err, "other-root",
                     "attestation.root_sha256: not AWS's root: for development only"));
    if (p->max_document_age_s > AGE_NOTABLE_S)
        CLV_TRY(warn(into, err, "slow-documents",
                     "attestation.max_age_s: %" PRIu32 " s; the module answers in milliseconds",
                     p->max_document_age_s));
    return CLV_OK;
}

/* A name that AWS serves KMS under, for the policy's region. */
static bool is_aws_endpoint(const clv_policy *p)
{
    static const char scheme[] = "https://";
    clv_endpoint endpoint;
    if (strncmp(p->kms_endpoint, scheme, strlen(scheme)) != 0)
        return false;
    const char *host = p->kms_endpoint + strlen(scheme);
    clv_endpoint_read(host, &endpoint);
    return endpoint.known && clv_endpoint_check(host, p->kms_region, NULL) == CLV_OK;
}

static clv_status warn_of_kms(const clv_policy *p, json_t *into, clv_error *err)
{
    if (is_aws_endpoint(p))
        return CLV_OK;
    return warn(into, err, "other-endpoint",
                "kms.endpoint: %s is not one of KMS's own names for %s", p->kms_endpoint,
                p->kms_region);
}

static clv_status warn_of_context(const clv_policy_key *key, json_t *into, clv_error *err)
{
    bool image = false, whole = false;
    for (size_t i = 0; i < key->context.count; i++) {
        const char *value = key->context.pair[i].value;
        image = image || strstr(value, "${pcr0}") != NULL;
        whole = whole || strstr(value, "${pcrs}") != NULL ||
                (strstr(value, "${pcr1}") != NULL && strstr(value, "${pcr2}") != NULL);
    }
    if (key->context.count == 0)
        CLV_TRY(warn(into, err, "no-context",
                     "keys.%s: no encryption_context: nothing but the key itself keeps what it "
                     "protects apart from other uses of that key",
                     key->name));
    if (image && !whole)
        CLV_TRY(warn(into, err, "pcr0-alone",
                     "keys.%s.encryption_context: ${pcr0} without ${pcr1} and ${pcr2}: bytes can "
                     "move between sections of an image and keep PCR0; use ${pcrs}",
                     key->name));
    return CLV_OK;
}

#define AGREEMENT (UINT32_C(1) << CLV_DERIVE_SHARED_SECRET)

/* A KMS key has one usage: KEY_AGREEMENT serves DeriveSharedSecret and nothing else. */
static clv_status warn_of_agreement(const clv_policy_key *key, json_t *into, clv_error *err)
{
    if ((key->actions & AGREEMENT) == 0)
        return CLV_OK;
    if (key->peer.n == 0)
        CLV_TRY(warn(into, err, "no-peer",
                     "keys.%s: DeriveSharedSecret without a peer_public_key: nothing uses it",
                     key->name));
    if ((key->actions & ~AGREEMENT) != 0)
        CLV_TRY(warn(into, err, "two-usages",
                     "keys.%s.operations: DeriveSharedSecret beside others: a KMS key has one "
                     "KeyUsage, so that one or the other is always refused",
                     key->name));
    return CLV_OK;
}

static clv_status warn_of_keys(const clv_policy *p, json_t *into, clv_error *err)
{
    for (size_t i = 0; i < p->key_count; i++) {
        const clv_policy_key *key = &p->key[i];
        CLV_TRY(warn_of_context(key, into, err));
        CLV_TRY(warn_of_agreement(key, into, err));
        if (key->cache.max_age_s > 0)
            CLV_TRY(warn(into, err, "cache-on",
                         "keys.%s.cache: a data key stays in memory for up to %" PRIu32
                         " s and is used for up to %" PRIu32 " messages",
                         key->name, key->cache.max_age_s, key->cache.max_messages));
        for (size_t k = 0; k < i; k++) {
            if (strcmp(p->key[k].key_arn, key->key_arn) == 0 &&
                clv_context_equal(&p->key[k].context, &key->context))
                CLV_TRY(warn(into, err, "same-key",
                             "keys.%s and keys.%s are one KMS key in one context: a key setup "
                             "request matches both and is refused",
                             p->key[k].name, key->name));
        }
    }
    return CLV_OK;
}

static clv_status warn_of_capability(const char *may, const char *path, json_t *into,
                                     clv_error *err)
{
    const char *slash = strchr(may, '/');
    bool derives = strncmp(may, UNLIMITED_VERB ":", sizeof UNLIMITED_VERB) == 0;
    bool all = slash != NULL && strcmp(slash, "/*") == 0;
    if (all || (derives && slash == NULL))
        return warn(into, err, "wildcard",
                    "%s: %s covers every name under this key; give the agent a prefix of its own",
                    path, may);
    return CLV_OK;
}

static clv_status warn_of_agents(const clv_policy *p, json_t *into, clv_error *err)
{
    if (p->agent_count == 0)
        CLV_TRY(warn(into, err, "no-agents", "agents: none: nobody may use this enclave"));
    for (size_t i = 0; i < p->agent_count; i++) {
        const clv_policy_agent *agent = &p->agent[i];
        char path[64];
        if (agent->any_uid)
            CLV_TRY(warn(into, err, "whole-group",
                         "agents[%zu]: no uid: every user whose group is %" PRIu32 " is this agent",
                         i, agent->gid));
        if (!agent->any_uid && agent->uid == 0)
            CLV_TRY(warn(into, err, "root-agent",
                         "agents[%zu]: uid 0: an agent that is root can become every other agent",
                         i));
        for (size_t k = 0; k < agent->may_count; k++) {
            snprintf(path, sizeof path, "agents[%zu].may[%zu]", i, k);
            CLV_TRY(warn_of_capability(agent->may[k], path, into, err));
        }
    }
    return CLV_OK;
}

static bool changes_with_releases(const clv_policy_key *key)
{
    for (size_t i = 0; i < key->context.count; i++) {
        const char *value = key->context.pair[i].value;
        if (strstr(value, "${policy}") != NULL || strstr(value, "${pcrs}") != NULL ||
            strstr(value, "${pcr0}") != NULL)
            return true;
    }
    return false;
}

static clv_status warn_of_witness(const clv_policy *p, json_t *into, clv_error *err)
{
    const clv_policy_witness *witness = &p->witness;
    if (witness->mode == CLV_WITNESS_MODE_NONE)
        return warn(into, err, "no-witness",
                    "witness: none: the parent can serve all state as it was at an earlier time, "
                    "and nobody notices (docs/freshness.md)");
    if (changes_with_releases(&p->key[witness->key]) && p->key[witness->key].predecessor_count == 0)
        CLV_TRY(warn(into, err, "witness-key",
                     "witness.key: the context of %s changes with every release, which then cannot "
                     "open the fleet's witness secret; list predecessors, or take another key",
                     p->key[witness->key].name));
    if (witness->endpoint_count > 0 && witness->endpoint_count < 3)
        CLV_TRY(warn(into, err, "witness-few",
                     "witness.endpoints: %zu: one member that is down can stop every seal; a "
                     "cluster of three outlives one",
                     witness->endpoint_count));
    return CLV_OK;
}

clv_status clv_lint_warnings(const clv_policy *policy, json_t **out, clv_error *err)
{
    static clv_status (*const checks[])(const clv_policy *p, json_t *into, clv_error *err) = {
        warn_of_attestation, warn_of_kms, warn_of_keys, warn_of_witness, warn_of_agents};
    clv_auto(clv_json) warnings = json_array();
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        CLV_TRY(checks[i](policy, warnings, err));
    *out = json_incref(warnings);
    return CLV_OK;
}

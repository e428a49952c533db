/* claviger policy: what a policy file allows, measures and resolves to. */
#include <cli/command.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>
#include <cli/input.h>
#include <cli/lint.h>
#include <cli/measurements.h>
#include <cli/report.h>
#include <cli/verify_policy.h>

typedef struct settings {
    bool json, strict;
    const char *request, *pcrs, *key, *ciphertext;
    const char *pair;
    long bytes, random;
} settings;

static clv_status take_json(void *into, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)into)->json = true;
    return CLV_OK;
}

static clv_status take_strict(void *into, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)into)->strict = true;
    return CLV_OK;
}

static clv_status take_request(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->request = value;
    return CLV_OK;
}

static clv_status take_pcrs(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->pcrs = value;
    return CLV_OK;
}

static clv_status take_key(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->key = value;
    return CLV_OK;
}

static clv_status take_ciphertext(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->ciphertext = value;
    return CLV_OK;
}

static clv_status take_pair(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->pair = value;
    return CLV_OK;
}

static clv_status read_size(const char *value, long *out, clv_error *err)
{
    char *end;
    long n = strtol(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\0' || n < 1 || n > CLV_DATA_KEY_MAX)
        return clv_fail(err, CLV_USAGE, "expected 1 to %d, found \"%.20s\"", CLV_DATA_KEY_MAX,
                        value);
    *out = n;
    return CLV_OK;
}

static clv_status take_bytes(void *into, const char *value, clv_error *err)
{
    return read_size(value, &((settings *)into)->bytes, err);
}

static clv_status take_random(void *into, const char *value, clv_error *err)
{
    return read_size(value, &((settings *)into)->random, err);
}

static const clv_option options[] = {
    {"json", NULL, "print JSON (lint, resolve)", take_json},
    {"strict", NULL, "lint: end with status 7 when there is a warning", take_strict},
    {"pcrs", "FILE", "resolve: the enclave's registers, as `claviger measure` prints them",
     take_pcrs},
    {"request", "FILE|-", "resolve: a parent's key setup request", take_request},
    {"key", "NAME",
     "resolve: a key of the policy, in place of a request; alone: DeriveSharedSecret", take_key},
    {"bytes", "N", "resolve: GenerateDataKey of N bytes with that key", take_bytes},
    {"ciphertext", "HEX|@FILE", "resolve: Decrypt of a CiphertextBlob with that key",
     take_ciphertext},
    {"pair", "SPEC", "resolve: GenerateDataKeyPair of that KeyPairSpec with that key", take_pair},
    {"random", "N", "resolve: GenerateRandom of N bytes, as that key's entry allows it",
     take_random},
    {NULL, NULL, NULL, NULL},
};

/* ---- lint ---- */

static clv_status print_lint(const clv_policy *policy, json_t *warnings, clv_error *err)
{
    size_t i;
    json_t *warning;
    CLV_TRY(clv_lint_describe(policy, err));
    json_array_foreach(warnings, i, warning)
        clv_print_line("warning", "%s (%s)", json_string_value(json_object_get(warning, "text")),
                       json_string_value(json_object_get(warning, "warning")));
    return CLV_OK;
}

static clv_status lint(const clv_policy *policy, const settings *s, clv_error *err)
{
    clv_auto(clv_json) warnings = NULL;
    CLV_TRY(clv_lint_warnings(policy, &warnings, err));
    if (s->json) {
        clv_auto(clv_json) json = json_pack("{s:O}", "warnings", warnings);
        CLV_TRY(clv_print_json(json, err));
    } else
        CLV_TRY(print_lint(policy, warnings, err));
    if (s->strict && json_array_size(warnings) > 0)
        return clv_fail(err, CLV_POLICY_WEAK, "expected no warnings, found %zu",
                        json_array_size(warnings));
    return CLV_OK;
}

/* ---- hash and table ---- */

static clv_status hash(const clv_policy *policy, const settings *s, clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    (void)s;
    CLV_TRY(clv_hex_append(&hex, CLV_BYTES(policy->pcr16, CLV_PCR_SIZE), err));
    CLV_TRY(clv_buf_text(&hex, &text, err));
    puts(text);
    return CLV_OK;
}

static clv_status table(const clv_policy *policy, const settings *s, clv_error *err)
{
    (void)s;
    (void)err;
    clv_lint_table(policy);
    return CLV_OK;
}

/* ---- resolve ---- */

/* The registers given, and PCR16 as this very policy leaves it. */
static clv_status read_identity(const clv_policy *policy, const char *path, clv_identity *out,
                                clv_error *err)
{
    *out = (clv_identity){.pcrs.present = 0};
    if (path != NULL)
        CLV_TRY(clv_measurements_read(path, &out->pcrs, err));
    out->pcrs.present |= UINT32_C(1) << CLV_POLICY_PCR;
    memcpy(out->pcrs.value[CLV_POLICY_PCR], policy->pcr16, CLV_PCR_SIZE);
    return CLV_OK;
}

static clv_status resolve_request(const clv_policy *policy, const clv_identity *identity,
                                  const char *path, clv_operation *out, clv_error *err)
{
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    const clv_policy_key *key;
    CLV_TRY(clv_file_read(path, CLV_REQUEST_MAX, &request, err));
    return clv_policy_resolve_setup(policy, identity, clv_buf_bytes(&request), &key, out, err);
}

static clv_status resolve_key(const clv_policy *policy, const clv_identity *identity,
                              const settings *s, clv_operation *out, clv_error *err)
{
    const clv_policy_key *key = clv_policy_find_key(policy, s->key);
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    if (key == NULL)
        return clv_fail(err, CLV_POLICY_NO_KEY, "--key: expected a key of the policy, found %.80s",
                        s->key);
    if (s->bytes > 0)
        return clv_policy_resolve_generate(policy, key, identity, NULL, (uint32_t)s->bytes, out,
                                           err);
    if (s->pair != NULL)
        return clv_policy_resolve_pair(policy, key, identity, NULL, s->pair, out, err);
    if (s->random > 0)
        return clv_policy_resolve_random(key, (uint32_t)s->random, out, err);
    if (s->ciphertext == NULL)
        return clv_policy_resolve_agreement(key, out, err);
    CLV_TRY(clv_input_value(s->ciphertext, CLV_CIPHERTEXT_BLOB_MAX, &blob, err));
    return clv_policy_resolve_decrypt(policy, key, identity, NULL, clv_buf_bytes(&blob), out, err);
}

static clv_status hex_of(clv_bytes bytes, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_hex_append(&hex, bytes, err));
    CLV_TRY(clv_buf_text(&hex, &text, err));
    *out = json_string(text);
    return CLV_OK;
}

static clv_status print_operation(const clv_operation *operation, const settings *s, clv_error *err)
{
    clv_auto(clv_buf) encoded = CLV_BUF_INIT;
    uint8_t digest[CLV_OPERATION_DIGEST_SIZE];
    clv_auto(clv_json) encoding = NULL;
    clv_auto(clv_json) user_data = NULL;
    CLV_TRY(clv_operation_encode(operation, &encoded, err));
    CLV_TRY(clv_operation_digest(operation, digest, err));
    CLV_TRY(hex_of(clv_buf_bytes(&encoded), &encoding, err));
    CLV_TRY(hex_of(CLV_BYTES(digest, sizeof digest), &user_data, err));
    if (!s->json) {
        clv_print_line("operation", "%s", clv_kms_action_name(operation->action));
        if (operation->key_arn != NULL)
            clv_print_line("key", "%s", operation->key_arn);
        for (size_t i = 0; i < operation->context.count; i++)
            clv_print_line("context", "%s = %s", operation->context.pair[i].key,
                           operation->context.pair[i].value);
        clv_print_line("encoding", "%s", json_string_value(encoding));
        clv_print_line("user_data", "%s", json_string_value(user_data));
        return CLV_OK;
    }
    clv_auto(clv_json) context = json_object();
    for (size_t i = 0; i < operation->context.count; i++)
        json_object_set_new(context, operation->context.pair[i].key,
                            json_string(operation->context.pair[i].value));
    clv_auto(clv_json) json = json_pack(
        "{s:s, s:s?, s:O, s:i, s:O, s:O}", "action", clv_kms_action_name(operation->action),
        "key_id", operation->key_arn, "context", context, "number_of_bytes",
        (int)operation->number_of_bytes, "encoding", encoding, "user_data", user_data);
    return json != NULL ? clv_print_json(json, err)
                        : clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
}

static clv_status resolve(const clv_policy *policy, const settings *s, clv_error *err)
{
    clv_identity identity;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    int what = (s->bytes > 0) + (s->ciphertext != NULL) + (s->pair != NULL) + (s->random > 0);
    if ((s->request != NULL) == (s->key != NULL) || what > 1)
        return clv_fail(err, CLV_USAGE,
                        "policy resolve: expected --request, or --key with one of --bytes, "
                        "--ciphertext, --pair and --random or, for DeriveSharedSecret, none");
    CLV_TRY(read_identity(policy, s->pcrs, &identity, err));
    CLV_TRY(s->request != NULL ? resolve_request(policy, &identity, s->request, &operation, err)
                               : resolve_key(policy, &identity, s, &operation, err));
    return print_operation(&operation, s, err);
}

/* ---- the command ---- */

static const struct {
    const char *name;
    clv_status (*run)(const clv_policy *policy, const settings *s, clv_error *err);
} verbs[] = {{"lint", lint}, {"hash", hash}, {"table", table}, {"resolve", resolve}};

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {0};
    int operand;
    clv_auto_ptr(clv_policy) policy = NULL;
    CLV_TRY(clv_command_options(&clv_command_policy, count, arguments, &s, 2, 2, &operand, err));
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(arguments[operand], verbs[i].name) != 0)
            continue;
        CLV_TRY(clv_verify_policy_read(arguments[operand + 1], &policy, err));
        return verbs[i].run(policy, &s, err);
    }
    return clv_fail(err, CLV_USAGE,
                    "policy: expected lint, hash, table or resolve, found \"%.40s\"",
                    arguments[operand]);
}

const clv_command clv_command_policy = {
    "policy",
    "lint|hash|table|resolve FILE",
    "Say what a policy allows, what it measures, and what a request becomes under it",
    options,
    run,
};

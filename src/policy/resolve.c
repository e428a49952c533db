/*
 * From a request to an operation. What the parent or an agent sent can only select among what the
 * policy allows; every value in an operation comes from the policy and the verified document.
 */
#include <policy/policy.h>

#include <stdlib.h>

#include <base/cbor.h>
#include <base/crypto.h>

#define SETUP_KEY_BYTES 32

static clv_status append_hex(clv_buf *out, const uint8_t *value, clv_error *err)
{
    return clv_hex_append(out, CLV_BYTES(value, CLV_PCR_SIZE), err);
}

/* A register of a template: in the document, and not zeros, which identify nobody. */
static clv_status require_register(const clv_identity *identity, unsigned index, clv_error *err)
{
    if ((identity->pcrs.present >> index & 1) == 0)
        return clv_fail(err, CLV_ATT_PCR_MISSING, "PCR%u: expected it in the document, found none",
                        index);
    if (clv_bytes_all_zero(CLV_BYTES(identity->pcrs.value[index], CLV_PCR_SIZE)))
        return clv_fail(err, CLV_ATT_PCR_ZERO,
                        "PCR%u: expected a measurement, found zeros, which identify nobody", index);
    return CLV_OK;
}

static clv_status append_enclave(const clv_policy *policy, const clv_identity *identity,
                                 clv_buf *out, clv_error *err)
{
    (void)identity;
    return clv_buf_append_text(out, policy->enclave, err);
}

static clv_status append_policy(const clv_policy *policy, const clv_identity *identity,
                                clv_buf *out, clv_error *err)
{
    (void)policy;
    CLV_TRY(require_register(identity, CLV_POLICY_PCR, err));
    return append_hex(out, identity->pcrs.value[CLV_POLICY_PCR], err);
}

/* SHA-384 over the deterministic CBOR map {index: value} of the image and the pinned registers. */
static clv_status append_pcrs(const clv_policy *policy, const clv_identity *identity, clv_buf *out,
                              clv_error *err)
{
    uint32_t named = policy->pins.present | 7;
    clv_auto(clv_buf) map = CLV_BUF_INIT;
    CLV_TRY(clv_cbor_put_map(&map, (size_t)__builtin_popcount(named), err));
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if ((named >> i & 1) == 0)
            continue;
        CLV_TRY(require_register(identity, i, err));
        CLV_TRY(clv_cbor_put_uint(&map, i, err));
        CLV_TRY(clv_cbor_put_bytes(&map, CLV_BYTES(identity->pcrs.value[i], CLV_PCR_SIZE), err));
    }
    uint8_t digest[CLV_SHA384_SIZE];
    CLV_TRY(clv_sha384(clv_buf_bytes(&map), digest, err));
    return append_hex(out, digest, err);
}

static const struct {
    const char *name;
    clv_status (*append)(const clv_policy *policy, const clv_identity *identity, clv_buf *out,
                         clv_error *err);
} template_table[] = {
    {"enclave", append_enclave},
    {"policy", append_policy},
    {"pcrs", append_pcrs},
};
#define TEMPLATES (sizeof template_table / sizeof template_table[0])

/* "pcr0" to "pcr31": the index, or -1. */
static int pcr_of(clv_bytes name)
{
    if (name.n < 4 || name.n > 5 || memcmp(name.p, "pcr", 3) != 0 ||
        (name.n == 5 && name.p[3] == '0'))
        return -1;
    int index = 0;
    for (size_t i = 3; i < name.n; i++) {
        if (name.p[i] < '0' || name.p[i] > '9')
            return -1;
        index = index * 10 + (name.p[i] - '0');
    }
    return index < CLV_PCR_COUNT ? index : -1;
}

static clv_status append_template(const clv_policy *policy, const clv_identity *identity,
                                  clv_bytes name, clv_buf *out, clv_error *err)
{
    int index = pcr_of(name);
    if (index >= 0) {
        CLV_TRY(require_register(identity, (unsigned)index, err));
        return append_hex(out, identity->pcrs.value[index], err);
    }
    for (size_t i = 0; i < TEMPLATES; i++) {
        if (clv_bytes_equal(name, clv_bytes_of(template_table[i].name)))
            return template_table[i].append(policy, identity, out, err);
    }
    return clv_fail(err, CLV_POLICY_TEMPLATE, "expected a known template, found ${%.*s}",
                    (int)name.n, (const char *)name.p);
}

/* Split a value at its first template: what is before it, its name, what is behind it. */
static bool split(const char *value, clv_bytes *before, clv_bytes *name, const char **behind)
{
    const char *start = strstr(value, "${");
    if (start == NULL)
        return false;
    const char *end = strchr(start, '}');
    *before = CLV_BYTES(value, (size_t)(start - value));
    *name = CLV_BYTES(start + 2, end != NULL ? (size_t)(end - start) - 2 : strlen(start + 2));
    *behind = end != NULL ? end + 1 : start + strlen(start);
    return true;
}

clv_status clv_policy_check_template(const char *value, clv_error *err)
{
    clv_bytes before, name;
    while (split(value, &before, &name, &value)) {
        bool known = pcr_of(name) >= 0;
        for (size_t i = 0; i < TEMPLATES; i++)
            known = known || clv_bytes_equal(name, clv_bytes_of(template_table[i].name));
        if (!known || value[-1] != '}')
            return clv_fail(err, CLV_POLICY_TEMPLATE,
                            "expected ${enclave}, ${policy}, ${pcrs} or ${pcr0} to ${pcr31}, "
                            "found ${%.*s",
                            (int)(name.n < 40 ? name.n : 40), (const char *)name.p);
    }
    return CLV_OK;
}

static clv_status fill(const clv_policy *policy, const clv_identity *identity, const char *value,
                       clv_buf *out, clv_error *err)
{
    clv_bytes before, name;
    while (split(value, &before, &name, &value)) {
        CLV_TRY(clv_buf_append(out, before, err));
        CLV_TRY(append_template(policy, identity, name, out, err));
    }
    return clv_buf_append_text(out, value, err);
}

clv_status clv_policy_resolve_context(const clv_policy *policy, const clv_policy_key *key,
                                      const clv_identity *identity, clv_context *out,
                                      clv_error *err)
{
    for (size_t i = 0; i < key->context.count; i++) {
        clv_auto(clv_buf) value = CLV_BUF_INIT;
        const char *text;
        clv_status status = fill(policy, identity, key->context.pair[i].value, &value, err);
        if (status != CLV_OK)
            return clv_blame(err, status, "keys.%s.encryption_context.%s", key->name,
                             key->context.pair[i].key);
        CLV_TRY(clv_buf_text(&value, &text, err));
        CLV_TRY(clv_context_add(out, key->context.pair[i].key, text, err));
    }
    return CLV_OK;
}

static clv_status add_extra(const clv_context *extra, clv_context *out, clv_error *err)
{
    for (size_t i = 0; extra != NULL && i < extra->count; i++) {
        if (strncmp(extra->pair[i].key, "claviger:", 9) != 0)
            return clv_fail(err, CLV_OPERATION_INVALID,
                            "expected names that begin with \"claviger:\", found \"%.60s\"",
                            extra->pair[i].key);
        CLV_TRY(clv_context_add(out, extra->pair[i].key, extra->pair[i].value, err));
    }
    return CLV_OK;
}

static clv_status allow(const clv_policy_key *key, clv_kms_action action, clv_operation *out,
                        clv_error *err)
{
    if ((key->actions >> action & 1) == 0)
        return clv_fail(err, CLV_POLICY_OPERATION,
                        "keys.%s.operations: expected %s to be allowed, found that it is not",
                        key->name, clv_kms_action_name(action));
    out->action = action;
    return CLV_OK;
}

/* What every operation with a key has: an action that the policy allows, the key's ARN. */
static clv_status start(const clv_policy_key *key, clv_kms_action action, clv_operation *out,
                        clv_error *err)
{
    CLV_TRY(allow(key, action, out, err));
    return clv_text_dup(clv_bytes_of(key->key_arn), &out->key_arn, err);
}

/* With the whole context, where KMS takes one. */
static clv_status begin(const clv_policy *policy, const clv_policy_key *key, clv_kms_action action,
                        const clv_identity *identity, const clv_context *extra, clv_operation *out,
                        clv_error *err)
{
    CLV_TRY(start(key, action, out, err));
    CLV_TRY(clv_policy_resolve_context(policy, key, identity, &out->context, err));
    return add_extra(extra, &out->context, err);
}

/* Whole and within KMS's limits: it is the caller's. */
static clv_status finish(clv_operation *operation, clv_operation *out, clv_error *err)
{
    CLV_TRY(clv_operation_check(operation, err));
    *out = *operation;
    *operation = (clv_operation)CLV_OPERATION_INIT;
    return CLV_OK;
}

clv_status clv_policy_resolve_generate(const clv_policy *policy, const clv_policy_key *key,
                                       const clv_identity *identity, const clv_context *extra,
                                       uint32_t bytes, clv_operation *out, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(begin(policy, key, CLV_GENERATE_DATA_KEY, identity, extra, &operation, err));
    operation.number_of_bytes = bytes;
    return finish(&operation, out, err);
}

clv_status clv_policy_resolve_decrypt(const clv_policy *policy, const clv_policy_key *key,
                                      const clv_identity *identity, const clv_context *extra,
                                      clv_bytes ciphertext, clv_operation *out, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(begin(policy, key, CLV_DECRYPT, identity, extra, &operation, err));
    CLV_TRY(clv_buf_append(&operation.ciphertext, ciphertext, err));
    return finish(&operation, out, err);
}

clv_status clv_policy_resolve_pair(const clv_policy *policy, const clv_policy_key *key,
                                   const clv_identity *identity, const clv_context *extra,
                                   const char *spec, clv_operation *out, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(begin(policy, key, CLV_GENERATE_DATA_KEY_PAIR, identity, extra, &operation, err));
    CLV_TRY(clv_text_dup(clv_bytes_of(spec), &operation.key_pair_spec, err));
    return finish(&operation, out, err);
}

clv_status clv_policy_resolve_random(const clv_policy_key *key, uint32_t bytes, clv_operation *out,
                                     clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(allow(key, CLV_GENERATE_RANDOM, &operation, err));
    operation.number_of_bytes = bytes;
    return finish(&operation, out, err);
}

clv_status clv_policy_resolve_agreement(const clv_policy_key *key, clv_operation *out,
                                        clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    if (key->peer.n == 0)
        return clv_fail(err, CLV_POLICY_OPERATION,
                        "keys.%s.peer_public_key: expected the other side of DeriveSharedSecret, "
                        "found none",
                        key->name);
    CLV_TRY(start(key, CLV_DERIVE_SHARED_SECRET, &operation, err));
    CLV_TRY(clv_buf_append(&operation.public_key, clv_buf_bytes(&key->peer), err));
    return finish(&operation, out, err);
}

/* The parent's request as text, before anything is made of it. */
typedef struct setup_request {
    const char *key_id;
    json_t *context;
} setup_request;

static clv_status read_setup(const json_t *json, setup_request *out, clv_error *err)
{
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_text(&r, "keyId", &out->key_id, err));
    CLV_TRY(clv_json_value(&r, "encryptionContext", &out->context, err));
    CLV_TRY(clv_json_done(&r, err));
    if (out->context == NULL)
        return CLV_OK;
    clv_json_reader pairs;
    CLV_TRY(clv_json_open(&pairs, out->context, "encryptionContext", err));
    for (void *i = json_object_iter(out->context); i != NULL;
         i = json_object_iter_next(out->context, i)) {
        const char *value;
        CLV_TRY(clv_json_need_text(&pairs, json_object_iter_key(i), &value, err));
    }
    return CLV_OK;
}

/* Each pair that the request gives must be in the resolved context, equal. */
static clv_status match_context(json_t *given, const clv_context *resolved, clv_error *err)
{
    for (void *i = json_object_iter(given); i != NULL; i = json_object_iter_next(given, i)) {
        const char *name = json_object_iter_key(i);
        const char *expected = clv_context_get(resolved, name);
        if (expected == NULL)
            return clv_fail(err, CLV_POLICY_CONTEXT,
                            "encryptionContext.%.60s: expected no such member, found one", name);
        if (strcmp(expected, json_string_value(json_object_iter_value(i))) != 0)
            return clv_fail(err, CLV_POLICY_CONTEXT,
                            "encryptionContext.%.60s: expected the policy's value, found another",
                            name);
    }
    return CLV_OK;
}

static clv_status select_key(const clv_policy *policy, const clv_identity *identity,
                             const setup_request *request, const clv_policy_key **out,
                             clv_error *err)
{
    clv_status nearest =
        clv_fail(err, CLV_POLICY_NO_KEY, "keyId: expected a key of the policy, found another");
    *out = NULL;
    for (size_t i = 0; i < policy->key_count; i++) {
        if (strcmp(policy->key[i].key_arn, request->key_id) != 0)
            continue;
        clv_auto(clv_context) resolved = CLV_CONTEXT_INIT;
        CLV_TRY(clv_policy_resolve_context(policy, &policy->key[i], identity, &resolved, err));
        clv_status status = match_context(request->context, &resolved, err);
        if (status == CLV_OK && *out != NULL)
            return clv_fail(err, CLV_POLICY_AMBIGUOUS,
                            "keyId, encryptionContext: expected to match one key of the policy, "
                            "found keys.%s and keys.%s",
                            (*out)->name, policy->key[i].name);
        if (status == CLV_OK)
            *out = &policy->key[i];
        else
            nearest = status;
    }
    return *out != NULL ? CLV_OK : nearest;
}

clv_status clv_policy_resolve_setup(const clv_policy *policy, const clv_identity *identity,
                                    clv_bytes request, const clv_policy_key **key,
                                    clv_operation *out, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    setup_request parsed = {NULL, NULL};
    clv_error detail = {.code = CLV_OK};
    clv_status status = clv_json_parse(request, CLV_REQUEST_MAX, &json, &detail);
    if (status == CLV_OK)
        status = read_setup(json, &parsed, &detail);
    if (status != CLV_OK)
        return clv_fail(err, CLV_REQUEST_FORMAT, "key setup request: %s", detail.text);
    CLV_TRY(select_key(policy, identity, &parsed, key, err));
    return clv_policy_resolve_generate(policy, *key, identity, NULL, SETUP_KEY_BYTES, out, err);
}

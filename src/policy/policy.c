/* The policy file as a whole: what identifies the enclave, and where KMS is. */
#include <policy/policy.h>

#include <stdlib.h>

#include <base/crypto.h>

#define DOCUMENT_AGE_DEFAULT_S 60
#define DOCUMENT_AGE_MAX_S     300
#define REGION_MAX             32

/* The registers that no application can choose: 0 to 2 are the image, which cannot hold its own
 * measurement; 16 is this very file's. */
#define PCR_UNPINNABLE (UINT32_C(7) | UINT32_C(1) << CLV_POLICY_PCR)

void clv_policy_free(clv_policy **policy)
{
    clv_policy *p = *policy;
    if (p == NULL)
        return;
    for (size_t i = 0; i < p->key_count; i++) {
        free(p->key[i].key_arn);
        clv_context_drop(&p->key[i].context);
        clv_buf_drop(&p->key[i].peer);
        for (size_t k = 0; k < p->key[i].predecessor_count; k++)
            clv_context_drop(&p->key[i].predecessor[k]);
    }
    for (size_t i = 0; i < p->agent_count; i++) {
        for (size_t k = 0; k < p->agent[i].may_count; k++)
            free(p->agent[i].may[k]);
    }
    for (size_t i = 0; i < CLV_PCR_COUNT; i++)
        free(p->measured[i]);
    for (size_t i = 0; i < p->witness.endpoint_count; i++)
        free(p->witness.endpoint[i]);
    free(p->witness.ca_file);
    free(p->witness.prefix);
    free(p->kms_region);
    free(p->kms_endpoint);
    free(p->kms_ca_file);
    clv_buf_drop(&p->bytes);
    free(p);
    *policy = NULL;
}

bool clv_policy_is_name(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && n <= CLV_POLICY_NAME_MAX &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}

/* "0" to "31" in its one form; -1 otherwise. */
static int register_of(const char *index)
{
    char *end;
    unsigned long i = strtoul(index, &end, 10);
    if (*index < '0' || *index > '9' || *end != '\0' || (index[0] == '0' && index[1] != '\0') ||
        i >= CLV_PCR_COUNT)
        return -1;
    return (int)i;
}

static clv_status read_pin(const char *index, const json_t *value, clv_pcrs *pins, clv_error *err)
{
    int i = register_of(index);
    if (i < 0)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "attestation.pcrs: expected indices 0 to 31, found \"%.20s\"", index);
    if ((PCR_UNPINNABLE >> i & 1) != 0)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "attestation.pcrs.%d: expected a register other than 0, 1, 2 and 16 "
                        "(a file cannot hold its own measurement: use a baseline), found it",
                        i);
    if (!json_is_string(value))
        return clv_fail(err, CLV_JSON_TYPE, "attestation.pcrs.%d: expected a string, found %s", i,
                        clv_json_type_name(value));
    clv_status status = clv_hex_decode_exact(clv_bytes_of(json_string_value(value)), pins->value[i],
                                             CLV_PCR_SIZE, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "attestation.pcrs.%d", i);
    if (clv_bytes_all_zero(CLV_BYTES(pins->value[i], CLV_PCR_SIZE)))
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "attestation.pcrs.%d: expected a measurement, found zeros, which never "
                        "match",
                        i);
    pins->present |= UINT32_C(1) << i;
    return CLV_OK;
}

static clv_status read_pins(json_t *pcrs, clv_policy *out, clv_error *err)
{
    if (pcrs == NULL)
        return CLV_OK;
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, pcrs, "attestation.pcrs", err));
    for (void *i = json_object_iter(pcrs); i != NULL; i = json_object_iter_next(pcrs, i))
        CLV_TRY(read_pin(json_object_iter_key(i), json_object_iter_value(i), &out->pins, err));
    return CLV_OK;
}

static clv_status read_release_keys(const json_t *keys, clv_policy *out, clv_error *err)
{
    if (keys == NULL)
        return CLV_OK;
    if (!json_is_array(keys) || json_array_size(keys) > CLV_RELEASE_KEYS_MAX)
        return clv_fail(err, CLV_JSON_TYPE,
                        "attestation.release_keys: expected an array of at most %d minisign public "
                        "keys, found something else",
                        CLV_RELEASE_KEYS_MAX);
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const char *text = json_string_value(json_array_get(keys, i));
        if (text == NULL)
            return clv_fail(err, CLV_JSON_TYPE,
                            "attestation.release_keys[%zu]: expected a string, found %s", i,
                            clv_json_type_name(json_array_get(keys, i)));
        clv_status status = clv_release_key_parse(text, &out->release_key[i], err);
        if (status != CLV_OK)
            return clv_blame(err, status, "attestation.release_keys[%zu]", i);
        out->release_key_count++;
    }
    return CLV_OK;
}

static clv_status read_root(const char *text, clv_policy *out, clv_error *err)
{
    clv_status status =
        clv_hex_decode_exact(clv_bytes_of(text), out->root_sha256, sizeof out->root_sha256, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "attestation.root_sha256");
}

static clv_status read_attestation(json_t *json, clv_policy *out, clv_error *err)
{
    clv_json_reader r;
    const char *root;
    json_t *pcrs, *keys;
    int64_t age = DOCUMENT_AGE_DEFAULT_S;
    CLV_TRY(clv_json_open(&r, json, "attestation", err));
    CLV_TRY(clv_json_need_text(&r, "root_sha256", &root, err));
    CLV_TRY(read_root(root, out, err));
    CLV_TRY(clv_json_value(&r, "pcrs", &pcrs, err));
    CLV_TRY(read_pins(pcrs, out, err));
    CLV_TRY(clv_json_value(&r, "release_keys", &keys, err));
    CLV_TRY(read_release_keys(keys, out, err));
    CLV_TRY(clv_json_boolean(&r, "allow_debug", &out->allow_debug, err));
    CLV_TRY(clv_json_integer(&r, "max_age_s", 1, DOCUMENT_AGE_MAX_S, &age, err));
    out->max_document_age_s = (uint32_t)age;
    CLV_TRY(clv_json_done(&r, err));
    if (out->release_key_count == 0 && (out->pins.present >> CLV_SIGNER_PCR & 1) == 0)
        return clv_fail(err, CLV_POLICY_WEAK,
                        "attestation: expected a pin of PCR8 (who signed the image) or a release "
                        "key (which images), found neither");
    return CLV_OK;
}

clv_status clv_policy_read_text(clv_json_reader *r, const char *name, size_t max, char **out,
                                clv_error *err)
{
    const char *text;
    CLV_TRY(clv_json_need_text(r, name, &text, err));
    size_t n = strlen(text);
    if (n == 0 || n > max)
        return clv_fail(err, CLV_JSON_VALUE, "%s.%s: expected 1 to %zu bytes, found %zu", r->path,
                        name, max, n);
    return clv_text_dup(clv_bytes_of(text), out, err);
}

bool clv_policy_is_endpoint(const char *url)
{
    static const char scheme[] = "https://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *host = url + sizeof scheme - 1;
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-");
    const char *port = host + n;
    if (n == 0 || *port == '\0')
        return n > 0;
    size_t digits = strspn(port + 1, "0123456789");
    return *port == ':' && digits > 0 && digits <= 5 && port[1 + digits] == '\0';
}

static clv_status read_kms(const json_t *json, clv_policy *out, clv_error *err)
{
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, json, "kms", err));
    CLV_TRY(clv_policy_read_text(&r, "region", REGION_MAX, &out->kms_region, err));
    CLV_TRY(clv_policy_read_text(&r, "endpoint", CLV_POLICY_ENDPOINT_MAX, &out->kms_endpoint, err));
    CLV_TRY(clv_policy_read_text(&r, "ca_file", CLV_POLICY_PATH_MAX, &out->kms_ca_file, err));
    CLV_TRY(clv_json_done(&r, err));
    if (!clv_policy_is_endpoint(out->kms_endpoint))
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "kms.endpoint: expected https://HOST or https://HOST:PORT, in lower case, "
                        "found \"%.60s\"",
                        out->kms_endpoint);
    if (out->kms_ca_file[0] != '/')
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "kms.ca_file: expected an absolute path, found \"%.60s\"",
                        out->kms_ca_file);
    return CLV_OK;
}

/* {"17": "/path", …}: files that are measured beside the policy. */
static clv_status read_measured(json_t *files, clv_policy *out, clv_error *err)
{
    if (files == NULL)
        return CLV_OK;
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, files, "measure", err));
    for (void *at = json_object_iter(files); at != NULL; at = json_object_iter_next(files, at)) {
        int i = register_of(json_object_iter_key(at));
        const char *path = json_string_value(json_object_iter_value(at));
        if (i <= CLV_POLICY_PCR)
            return clv_fail(err, CLV_POLICY_FORMAT,
                            "measure: expected registers 17 to 31, found \"%.20s\"",
                            json_object_iter_key(at));
        if (path == NULL)
            return clv_fail(err, CLV_JSON_TYPE, "measure.%d: expected a string, found %s", i,
                            clv_json_type_name(json_object_iter_value(at)));
        if (path[0] != '/' || strlen(path) > CLV_POLICY_PATH_MAX)
            return clv_fail(err, CLV_POLICY_FORMAT,
                            "measure.%d: expected an absolute path of at most %d bytes, found "
                            "\"%.60s\"",
                            i, CLV_POLICY_PATH_MAX, path);
        CLV_TRY(clv_text_dup(clv_bytes_of(path), &out->measured[i], err));
    }
    return CLV_OK;
}

static clv_status read_document(const json_t *json, clv_policy *out, clv_error *err)
{
    clv_json_reader r;
    int64_t version;
    const char *enclave;
    json_t *attestation, *kms, *keys, *witness, *agents, *files;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_integer(&r, "version", 1, 1, &version, err));
    CLV_TRY(clv_json_need_text(&r, "enclave", &enclave, err));
    if (!clv_policy_is_name(enclave))
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "enclave: expected 1 to %d of A-Z a-z 0-9 . _ -, found \"%.80s\"",
                        CLV_POLICY_NAME_MAX, enclave);
    memcpy(out->enclave, enclave, strlen(enclave) + 1);
    CLV_TRY(clv_json_need_value(&r, "attestation", &attestation, err));
    CLV_TRY(read_attestation(attestation, out, err));
    CLV_TRY(clv_json_need_value(&r, "kms", &kms, err));
    CLV_TRY(read_kms(kms, out, err));
    CLV_TRY(clv_json_need_value(&r, "keys", &keys, err));
    CLV_TRY(clv_policy_read_keys(keys, out, err));
    CLV_TRY(clv_json_value(&r, "witness", &witness, err));
    CLV_TRY(clv_policy_read_witness(witness, out, err));
    CLV_TRY(clv_json_need_value(&r, "agents", &agents, err));
    CLV_TRY(clv_policy_read_agents(agents, out, err));
    CLV_TRY(clv_json_value(&r, "measure", &files, err));
    CLV_TRY(read_measured(files, out, err));
    return clv_json_done(&r, err);
}

/* What the file's bytes will leave in PCR16: SHA-384(48 zero bytes || SHA-384(bytes)). */
static clv_status measure(clv_policy *policy, clv_error *err)
{
    uint8_t extended[2 * CLV_PCR_SIZE] = {0};
    CLV_TRY(clv_sha384(clv_buf_bytes(&policy->bytes), policy->digest, err));
    memcpy(extended + CLV_PCR_SIZE, policy->digest, CLV_PCR_SIZE);
    return clv_sha384(CLV_BYTES(extended, sizeof extended), policy->pcr16, err);
}

clv_status clv_policy_parse(clv_bytes text, clv_policy **out, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    clv_status status = clv_json_parse(text, CLV_POLICY_MAX, &json, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "policy");
    clv_auto_ptr(clv_policy) policy = calloc(1, sizeof *policy);
    if (policy == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a policy");
    CLV_TRY(clv_buf_append(&policy->bytes, text, err));
    CLV_TRY(measure(policy, err));
    status = read_document(json, policy, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "policy");
    *out = policy;
    policy = NULL;
    return CLV_OK;
}

const clv_policy_key *clv_policy_find_key(const clv_policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->key_count; i++) {
        if (strcmp(policy->key[i].name, name) == 0)
            return &policy->key[i];
    }
    return NULL;
}

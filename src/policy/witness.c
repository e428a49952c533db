/* The policy's section "witness": what tells the newest state from an older one (R18). */
#include <policy/policy.h>

static clv_status read_mode(clv_json_reader *r, clv_policy_witness *out, clv_error *err)
{
    const char *mode;
    CLV_TRY(clv_json_need_text(r, "mode", &mode, err));
    if (strcmp(mode, "etcd") == 0)
        out->mode = CLV_WITNESS_MODE_ETCD;
    else if (strcmp(mode, "receipts") == 0)
        out->mode = CLV_WITNESS_MODE_RECEIPTS;
    else
        return clv_fail(err, CLV_JSON_VALUE,
                        "witness.mode: expected \"etcd\" or \"receipts\", found \"%.40s\"", mode);
    return CLV_OK;
}

/* The key must be able to make the secret and to open it again. */
static clv_status read_key(clv_json_reader *r, const clv_policy *policy, size_t *out,
                           clv_error *err)
{
    const uint32_t needed = UINT32_C(1) << CLV_GENERATE_DATA_KEY | UINT32_C(1) << CLV_DECRYPT;
    const char *name;
    CLV_TRY(clv_json_need_text(r, "key", &name, err));
    const clv_policy_key *key = clv_policy_find_key(policy, name);
    if (key == NULL)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "witness.key: expected a key of this policy, found \"%.80s\"", name);
    if ((key->actions & needed) != needed)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "witness.key: expected a key with the operations GenerateDataKey and "
                        "Decrypt, found \"%s\"",
                        name);
    *out = (size_t)(key - policy->key);
    return CLV_OK;
}

static clv_status read_endpoint(const json_t *json, size_t i, clv_policy_witness *out,
                                clv_error *err)
{
    const char *url = json_string_value(json);
    if (url == NULL || !clv_policy_is_endpoint(url) || strlen(url) > CLV_POLICY_ENDPOINT_MAX)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "witness.endpoints[%zu]: expected https://HOST or https://HOST:PORT, in "
                        "lower case, found \"%.60s\"",
                        i, url != NULL ? url : clv_json_type_name(json));
    CLV_TRY(clv_text_dup(clv_bytes_of(url), &out->endpoint[i], err));
    out->endpoint_count = i + 1;
    return CLV_OK;
}

static clv_status read_etcd(clv_json_reader *r, clv_policy_witness *out, clv_error *err)
{
    json_t *list;
    CLV_TRY(clv_json_need_value(r, "endpoints", &list, err));
    size_t n = json_is_array(list) ? json_array_size(list) : 0;
    if (n < 1 || n > CLV_WITNESS_ENDPOINTS_MAX)
        return clv_fail(err, CLV_JSON_TYPE,
                        "witness.endpoints: expected an array of 1 to %d texts, found %s",
                        CLV_WITNESS_ENDPOINTS_MAX,
                        json_is_array(list) ? "another number" : clv_json_type_name(list));
    for (size_t i = 0; i < n; i++)
        CLV_TRY(read_endpoint(json_array_get(list, i), i, out, err));
    CLV_TRY(clv_policy_read_text(r, "ca_file", CLV_POLICY_PATH_MAX, &out->ca_file, err));
    CLV_TRY(clv_policy_read_text(r, "prefix", CLV_WITNESS_PREFIX_MAX, &out->prefix, err));
    if (out->ca_file[0] != '/')
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "witness.ca_file: expected an absolute path, found \"%.60s\"",
                        out->ca_file);
    return CLV_OK;
}

clv_status clv_policy_read_witness(const json_t *witness, clv_policy *out, clv_error *err)
{
    clv_json_reader r;
    if (witness == NULL)
        return CLV_OK;
    CLV_TRY(clv_json_open(&r, witness, "witness", err));
    CLV_TRY(read_mode(&r, &out->witness, err));
    CLV_TRY(read_key(&r, out, &out->witness.key, err));
    if (out->witness.mode == CLV_WITNESS_MODE_ETCD)
        CLV_TRY(read_etcd(&r, &out->witness, err));
    return clv_json_done(&r, err);
}

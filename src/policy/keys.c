/* The policy's section "keys": which KMS keys, for which operations, in which context. */
#include <policy/policy.h>

#include <stdio.h>

#include <base/crypto.h>

#define CACHE_AGE_MAX_S    86400
#define CACHE_MESSAGES_MAX INT64_C(4294967295)
#define CACHE_BYTES_MAX    (INT64_C(1) << 50)
#define ACCOUNT_DIGITS     12
#define PATH_MAX_BYTES     128

/* The colon-separated field at *at, which it moves past; empty fields stay empty. */
static clv_bytes next_field(const char **at)
{
    const char *start = *at;
    size_t n = strcspn(start, ":");
    *at = start[n] == ':' ? start + n + 1 : start + n;
    return CLV_BYTES(start, n);
}

static bool is_text(clv_bytes field, const char *text)
{
    return clv_bytes_equal(field, clv_bytes_of(text));
}

static bool is_account(clv_bytes field)
{
    if (field.n != ACCOUNT_DIGITS)
        return false;
    for (size_t i = 0; i < field.n; i++) {
        if (field.p[i] < '0' || field.p[i] > '9')
            return false;
    }
    return true;
}

clv_status clv_policy_check_arn(const char *arn, const char *region, const char *path,
                                clv_error *err)
{
    const char *at = arn;
    clv_bytes scheme = next_field(&at), partition = next_field(&at), service = next_field(&at);
    clv_bytes found_region = next_field(&at), account = next_field(&at);
    if (!is_text(scheme, "arn") || partition.n < 3 || memcmp(partition.p, "aws", 3) != 0 ||
        !is_text(service, "kms") || found_region.n == 0 || !is_account(account) ||
        strncmp(at, "key/", 4) != 0 || at[4] == '\0' || strpbrk(at + 4, ":/*?") != NULL ||
        strlen(arn) > CLV_KEY_ARN_MAX)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "%s: expected a full key ARN (arn:aws:kms:REGION:ACCOUNT:key/ID, no alias "
                        "and no bare id), found \"%.120s\"",
                        path, arn);
    if (region != NULL && !is_text(found_region, region))
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "%s: expected a key of region %s (kms.region), found %.*s", path, region,
                        (int)found_region.n, (const char *)found_region.p);
    return CLV_OK;
}

static clv_status read_operations(const json_t *list, const char *path, uint32_t *out,
                                  clv_error *err)
{
    if (!json_is_array(list) || json_array_size(list) == 0)
        return clv_fail(err, CLV_JSON_TYPE,
                        "%s.operations: expected a list of operations, found %s", path,
                        json_is_array(list) ? "an empty one" : clv_json_type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        clv_kms_action action;
        if (name == NULL || !clv_kms_action_of(name, &action))
            return clv_fail(err, CLV_POLICY_FORMAT,
                            "%s.operations[%zu]: expected GenerateDataKey, Decrypt, "
                            "GenerateDataKeyPair, GenerateRandom or DeriveSharedSecret, found "
                            "\"%.40s\"",
                            path, i, name != NULL ? name : clv_json_type_name(list));
        if ((*out >> action & 1) != 0)
            return clv_fail(err, CLV_POLICY_FORMAT, "%s.operations[%zu]: %s occurs twice", path, i,
                            name);
        *out |= UINT32_C(1) << action;
    }
    return CLV_OK;
}

/* Prefixes that belong to the message format and to us, so that no policy can imitate them. */
static bool is_reserved(const char *name)
{
    return strncmp(name, "claviger:", 9) == 0 || strncmp(name, "aws-crypto-", 11) == 0;
}

static clv_status read_context(json_t *pairs, const char *path, clv_context *out, clv_error *err)
{
    if (pairs == NULL)
        return CLV_OK;
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, pairs, path, err));
    for (void *i = json_object_iter(pairs); i != NULL; i = json_object_iter_next(pairs, i)) {
        const char *name = json_object_iter_key(i), *value;
        if (is_reserved(name))
            return clv_fail(err, CLV_POLICY_FORMAT,
                            "%s: expected no name that begins with \"claviger:\" or "
                            "\"aws-crypto-\", found \"%.60s\"",
                            path, name);
        CLV_TRY(clv_json_need_text(&r, name, &value, err));
        clv_status status = clv_policy_check_template(value, err);
        if (status == CLV_OK)
            status = clv_context_add(out, name, value, err);
        if (status != CLV_OK)
            return clv_blame(err, status, "%s.%.80s", path, name);
    }
    return CLV_OK;
}

/* The other side of DeriveSharedSecret: checked here, so that a wrong one shows at boot. */
static clv_status read_peer(const char *text, const char *path, clv_policy_key *out, clv_error *err)
{
    if (text == NULL)
        return CLV_OK;
    size_t shared_size;
    clv_status status = clv_base64_decode(clv_bytes_of(text), &out->peer, err);
    if (status == CLV_OK)
        status = clv_spki_shared_size(clv_buf_bytes(&out->peer), &shared_size, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s.peer_public_key", path);
    if ((out->actions >> CLV_DERIVE_SHARED_SECRET & 1) == 0)
        return clv_fail(err, CLV_POLICY_FORMAT,
                        "%s.peer_public_key: expected DeriveSharedSecret in %s.operations, found "
                        "it missing",
                        path, path);
    return CLV_OK;
}

static clv_status read_predecessors(const json_t *list, const char *path, clv_policy_key *out,
                                    clv_error *err)
{
    if (list == NULL)
        return CLV_OK;
    if (!json_is_array(list) || json_array_size(list) > CLV_PREDECESSORS_MAX)
        return clv_fail(err, CLV_JSON_TYPE,
                        "%s.predecessors: expected a list of at most %d contexts, found %s", path,
                        CLV_PREDECESSORS_MAX,
                        json_is_array(list) ? "a longer one" : clv_json_type_name(list));
    for (size_t i = 0; i < json_array_size(list); i++) {
        char at[PATH_MAX_BYTES + 32];
        snprintf(at, sizeof at, "%s.predecessors[%zu]", path, i);
        out->predecessor_count = i + 1;
        CLV_TRY(read_context(json_array_get(list, i), at, &out->predecessor[i], err));
    }
    return CLV_OK;
}

static clv_status read_cache(const json_t *json, const char *path, clv_cache_limits *out,
                             clv_error *err)
{
    if (json == NULL)
        return CLV_OK;
    clv_json_reader r;
    char at[PATH_MAX_BYTES + 32];
    int64_t age, messages, bytes;
    snprintf(at, sizeof at, "%s.cache", path);
    CLV_TRY(clv_json_open(&r, json, at, err));
    CLV_TRY(clv_json_need_integer(&r, "max_age_s", 0, CACHE_AGE_MAX_S, &age, err));
    CLV_TRY(clv_json_need_integer(&r, "max_messages", 1, CACHE_MESSAGES_MAX, &messages, err));
    CLV_TRY(clv_json_need_integer(&r, "max_bytes", 0, CACHE_BYTES_MAX, &bytes, err));
    CLV_TRY(clv_json_done(&r, err));
    *out = (clv_cache_limits){(uint32_t)age, (uint32_t)messages, (uint64_t)bytes};
    return CLV_OK;
}

static clv_status read_key(const char *name, const json_t *json, const char *region,
                           clv_policy_key *out, clv_error *err)
{
    clv_json_reader r;
    char path[PATH_MAX_BYTES];
    char arn_path[PATH_MAX_BYTES + 16];
    const char *arn;
    char context_path[PATH_MAX_BYTES + 32];
    const char *peer;
    json_t *operations, *context, *predecessors, *cache;
    int64_t data_keys = 1;
    snprintf(path, sizeof path, "keys.%s", name);
    snprintf(arn_path, sizeof arn_path, "%s.key_id", path);
    snprintf(context_path, sizeof context_path, "%s.encryption_context", path);
    memcpy(out->name, name, strlen(name) + 1);
    out->peer.limit = CLV_PUBLIC_KEY_MAX;
    CLV_TRY(clv_json_open(&r, json, path, err));
    CLV_TRY(clv_json_need_text(&r, "key_id", &arn, err));
    CLV_TRY(clv_policy_check_arn(arn, region, arn_path, err));
    CLV_TRY(clv_text_dup(clv_bytes_of(arn), &out->key_arn, err));
    CLV_TRY(clv_json_need_value(&r, "operations", &operations, err));
    CLV_TRY(read_operations(operations, path, &out->actions, err));
    CLV_TRY(clv_json_text(&r, "peer_public_key", &peer, err));
    CLV_TRY(read_peer(peer, path, out, err));
    CLV_TRY(clv_json_value(&r, "encryption_context", &context, err));
    CLV_TRY(read_context(context, context_path, &out->context, err));
    CLV_TRY(clv_json_value(&r, "predecessors", &predecessors, err));
    CLV_TRY(read_predecessors(predecessors, path, out, err));
    CLV_TRY(clv_json_value(&r, "cache", &cache, err));
    CLV_TRY(read_cache(cache, path, &out->cache, err));
    CLV_TRY(clv_json_integer(&r, "max_encrypted_data_keys", 1, CLV_ENCRYPTED_DATA_KEYS_MAX,
                             &data_keys, err));
    out->max_encrypted_data_keys = (uint32_t)data_keys;
    return clv_json_done(&r, err);
}

clv_status clv_policy_read_keys(const json_t *keys, clv_policy *out, clv_error *err)
{
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, keys, "keys", err));
    if (json_object_size(keys) == 0 || json_object_size(keys) > CLV_POLICY_KEYS_MAX)
        return clv_fail(err, CLV_POLICY_FORMAT, "keys: expected 1 to %d keys, found %zu",
                        CLV_POLICY_KEYS_MAX, json_object_size(keys));
    json_t *object = (json_t *)keys;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        const char *name = json_object_iter_key(i);
        if (!clv_policy_is_name(name))
            return clv_fail(err, CLV_POLICY_FORMAT,
                            "keys: expected names of 1 to %d of A-Z a-z 0-9 . _ -, found \"%.80s\"",
                            CLV_POLICY_NAME_MAX, name);
        /* Counted first, so that clv_policy_free() finds what a failed key had. */
        clv_policy_key *key = &out->key[out->key_count++];
        CLV_TRY(read_key(name, json_object_iter_value(i), out->kms_region, key, err));
    }
    return CLV_OK;
}

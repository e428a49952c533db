/* CreateKey, DescribeKey and key policies. */
#include <sim/kms/ops.h>

#include <stdio.h>

#include <base/json.h>

#define DESCRIPTION_MAX 8192
#define TAGS_MAX        50

clv_status clv_param_key_id(clv_call *call, const char **out, clv_error *err)
{
    return clv_param_need_text(call, "KeyId", CLV_KEY_ID_MAX, out, err);
}

static const char DEFAULT_POLICY[] =
    "{\"Version\":\"2012-10-17\",\"Id\":\"key-default-1\",\"Statement\":[{"
    "\"Sid\":\"Enable IAM User Permissions\",\"Effect\":\"Allow\","
    "\"Principal\":{\"AWS\":\"arn:aws:iam::%s:root\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}";

static clv_status read_bypass(clv_call *call, bool *out, clv_error *err)
{
    *out = false;
    CLV_TRY(clv_param_boolean(call, "BypassPolicyLockoutSafetyCheck", out, err));
    return clv_call_condition(call, "kms:BypassPolicyLockoutSafetyCheck", *out ? "true" : "false",
                              err);
}

/* Policy, parsed and checked; its text in *text (owned by the parameters), NULL when absent. */
static clv_status read_policy(clv_call *call, const char *arn, bool bypass, const char **text,
                              clv_error *err)
{
    CLV_TRY(clv_param_text(call, "Policy", CLV_POLICY_MAX, text, err));
    if (*text == NULL)
        return CLV_OK;
    clv_auto(clv_json) policy = NULL;
    clv_error why = {0};
    if (clv_json_parse(clv_bytes_of(*text), CLV_POLICY_MAX, &policy, &why) != CLV_OK)
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY, "%.400s", why.text);
    CLV_TRY(clv_policy_check(policy, CLV_POLICY_KEY, err));
    return bypass ? CLV_OK : clv_call_not_locked_out(call, policy, arn, err);
}

static clv_status read_spec(clv_call *call, clv_key *key, clv_error *err)
{
    const char *spec = NULL, *usage = NULL;
    CLV_TRY(clv_param_text(call, "KeySpec", sizeof key->spec - 1, &spec, err));
    if (spec == NULL)
        CLV_TRY(clv_param_text(call, "CustomerMasterKeySpec", sizeof key->spec - 1, &spec, err));
    spec = spec != NULL ? spec : "SYMMETRIC_DEFAULT";
    CLV_TRY(clv_param_text(call, "KeyUsage", sizeof key->usage - 1, &usage, err));
    const clv_key_spec *known = clv_key_spec_of(spec);
    if (known == NULL) {
        clv_auto(clv_buf) names = CLV_BUF_INIT;
        const char *text;
        CLV_TRY(clv_buf_append_text(&names, "Member must satisfy enum value set: ", err));
        CLV_TRY(clv_key_spec_names(false, &names, err));
        CLV_TRY(clv_buf_text(&names, &text, err));
        return clv_param_refuse(err, "KeySpec", spec, text);
    }
    if (usage == NULL && known->family != CLV_FAMILY_SYMMETRIC)
        return clv_fail(err, CLV_KMS_VALIDATION, "You must specify a KeyUsage value for %s keys.",
                        spec);
    usage = usage != NULL ? usage : "ENCRYPT_DECRYPT";
    if (!clv_key_spec_allows(known, usage))
        return clv_fail(err, CLV_KMS_VALIDATION, "KeyUsage %s is not compatible with KeySpec %s",
                        usage, spec);
    snprintf(key->spec, sizeof key->spec, "%s", spec);
    snprintf(key->usage, sizeof key->usage, "%s", usage);
    CLV_TRY(clv_call_condition(call, "kms:KeySpec", spec, err));
    return clv_call_condition(call, "kms:KeyUsage", usage, err);
}

static clv_status refuse_unsupported(clv_call *call, clv_error *err)
{
    const char *origin = NULL;
    bool multi_region = false;
    CLV_TRY(clv_param_text(call, "Origin", 32, &origin, err));
    CLV_TRY(clv_param_boolean(call, "MultiRegion", &multi_region, err));
    if (multi_region || (origin != NULL && strcmp(origin, "AWS_KMS") != 0))
        return clv_fail(err, CLV_KMS_UNSUPPORTED,
                        "claviger-kms has single-Region keys of Origin AWS_KMS only");
    return CLV_OK;
}

clv_status clv_key_algorithms(const clv_key *key, json_t *to, clv_error *err)
{
    static const struct {
        const char *usage, *member;
    } members[] = {
        {"ENCRYPT_DECRYPT", "EncryptionAlgorithms"},
        {"SIGN_VERIFY", "SigningAlgorithms"},
        {"GENERATE_VERIFY_MAC", "MacAlgorithms"},
        {"KEY_AGREEMENT", "KeyAgreementAlgorithms"},
    };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        json_t *list;
        if (strcmp(members[i].usage, key->usage) != 0)
            continue;
        CLV_TRY(clv_algorithm_list(clv_key_spec_of(key->spec), key->usage, &list, err));
        json_object_set_new(to, members[i].member, list);
    }
    return CLV_OK;
}

static clv_status answer_metadata(clv_call *call, const clv_key *key, clv_error *err)
{
    clv_auto(clv_json) m =
        json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:o}", "KeyId",
                  key->id, "Arn", key->arn, "AWSAccountId", key->account, "Enabled",
                  strcmp(key->state, "Enabled") == 0, "Description", key->description, "KeySpec",
                  key->spec, "CustomerMasterKeySpec", key->spec, "KeyUsage", key->usage, "KeyState",
                  key->state, "Origin", "AWS_KMS", "KeyManager", "CUSTOMER", "MultiRegion", 0,
                  "CreationDate", clv_timestamp(key->created_ms));
    if (m == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for metadata, found none");
    if (key->deletion_ms != 0)
        json_object_set_new(m, "DeletionDate", clv_timestamp(key->deletion_ms));
    CLV_TRY(clv_key_algorithms(key, m, err));
    CLV_TRY(clv_answer_json(call, "KeyMetadata", m, err));
    m = NULL;
    return CLV_OK;
}

static clv_status check_tag(const json_t *tag, clv_error *err)
{
    const char *name = json_string_value(json_object_get(tag, "TagKey"));
    const char *value = json_string_value(json_object_get(tag, "TagValue"));
    if (name == NULL || value == NULL)
        return clv_param_refuse(err, "tags.member.tagKey", NULL, "Member must not be null");
    if (name[0] == '\0' || strncmp(name, "aws:", 4) == 0 || strlen(name) > 128 ||
        strlen(value) > 256)
        return clv_fail(err, CLV_KMS_TAG, "Invalid tag: %.128s", name);
    return CLV_OK;
}

static clv_status too_many_tags(clv_error *err)
{
    return clv_fail(err, CLV_KMS_TAG, "Too many tags: at most %d", TAGS_MAX);
}

clv_status clv_tags_check(const json_t *tags, clv_error *err)
{
    if (tags != NULL && !json_is_array(tags))
        return clv_fail(err, CLV_KMS_SERIALIZATION, "tags: expected a list, found %s",
                        clv_json_type_name(tags));
    if (json_array_size(tags) > TAGS_MAX)
        return too_many_tags(err);
    for (size_t i = 0; i < json_array_size(tags); i++)
        CLV_TRY(check_tag(json_array_get(tags, i), err));
    return CLV_OK;
}

static clv_status count_tags(clv_call *call, const char *key_id, int64_t *out, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool found;
    CLV_TRY(clv_db_query(call->server->db, &rows, err, "SELECT count(*) FROM tags WHERE key_id = ?",
                         "t", key_id));
    CLV_TRY(clv_rows_next(&rows, &found, err));
    *out = found ? clv_rows_integer(&rows, 0) : 0;
    return CLV_OK;
}

clv_status clv_tags_add(clv_call *call, const char *key_id, const json_t *tags, clv_error *err)
{
    clv_auto(clv_transaction) transaction = {NULL};
    int64_t count;
    CLV_TRY(clv_db_begin(call->server->db, &transaction, err));
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const json_t *tag = json_array_get(tags, i);
        CLV_TRY(clv_db_run(call->server->db, NULL, err,
                           "INSERT OR REPLACE INTO tags VALUES (?,?,?)", "ttt", key_id,
                           json_string_value(json_object_get(tag, "TagKey")),
                           json_string_value(json_object_get(tag, "TagValue"))));
    }
    CLV_TRY(count_tags(call, key_id, &count, err));
    if (count > TAGS_MAX)
        return too_many_tags(err);
    return clv_transaction_commit(&transaction, err);
}

clv_status clv_tags_condition(clv_call *call, const json_t *tags, clv_error *err)
{
    for (size_t i = 0; i < json_array_size(tags); i++) {
        const json_t *tag = json_array_get(tags, i);
        const char *name = json_string_value(json_object_get(tag, "TagKey"));
        const char *value = json_string_value(json_object_get(tag, "TagValue"));
        char key[192];
        snprintf(key, sizeof key, "aws:RequestTag/%.128s", name != NULL ? name : "");
        CLV_TRY(clv_call_condition(call, key, value != NULL ? value : "", err));
        CLV_TRY(clv_call_condition(call, "aws:TagKeys", name != NULL ? name : "", err));
    }
    return CLV_OK;
}

clv_status clv_op_create_key(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *description, *policy;
    bool bypass;
    CLV_TRY(refuse_unsupported(call, err));
    CLV_TRY(read_spec(call, &key, err));
    CLV_TRY(read_bypass(call, &bypass, err));
    CLV_TRY(clv_call_condition(call, "kms:KeyOrigin", "AWS_KMS", err));
    CLV_TRY(clv_call_condition(call, "kms:MultiRegion", "false", err));
    CLV_TRY(clv_param_text(call, "Description", DESCRIPTION_MAX, &description, err));
    const json_t *tags = json_object_get(call->parameters, "Tags");
    tags = json_is_null(tags) ? NULL : tags;
    CLV_TRY(clv_tags_check(tags, err));
    CLV_TRY(clv_tags_condition(call, tags, err));
    CLV_TRY(clv_call_authorise(call, err));

    CLV_TRY(clv_uuid(key.id, err));
    memcpy(key.account, call->caller.account, sizeof key.account);
    snprintf(key.arn, sizeof key.arn, "arn:aws:kms:%s:%s:key/%s", call->server->region, key.account,
             key.id);
    snprintf(key.state, sizeof key.state, "Enabled");
    key.created_ms = call->now_ms;
    key.version = 1;
    CLV_TRY(read_policy(call, key.arn, bypass, &policy, err));
    char default_policy[512];
    snprintf(default_policy, sizeof default_policy, DEFAULT_POLICY, key.account);
    CLV_TRY(clv_text_dup(clv_bytes_of(policy != NULL ? policy : default_policy), &key.policy, err));
    CLV_TRY(
        clv_text_dup(clv_bytes_of(description != NULL ? description : ""), &key.description, err));
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    CLV_TRY(clv_material_generate(clv_key_spec_of(key.spec), &material, err));
    CLV_TRY(clv_key_insert(call, &key, clv_buf_bytes(&material), err));
    CLV_TRY(clv_tags_add(call, key.id, tags, err));
    json_array_append_new(call->resources, json_string(key.arn));
    return answer_metadata(call, &key, err);
}

clv_status clv_op_describe_key(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    const clv_key_need need = {.any_state = true, .pending = true};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    return answer_metadata(call, &key, err);
}

/* PolicyName may only be "default". */
static clv_status check_policy_name(clv_call *call, clv_error *err)
{
    const char *name;
    CLV_TRY(clv_param_text(call, "PolicyName", 128, &name, err));
    if (name != NULL && strcmp(name, "default") != 0)
        return clv_fail(err, CLV_KMS_NOT_FOUND, "No such policy exists");
    return CLV_OK;
}

clv_status clv_op_get_key_policy(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(check_policy_name(call, err));
    const clv_key_need need = {.any_state = true, .pending = true};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_answer_text(call, "PolicyName", "default", err));
    return clv_answer_text(call, "Policy", key.policy, err);
}

clv_status clv_op_put_key_policy(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *id, *policy;
    bool bypass;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(check_policy_name(call, err));
    CLV_TRY(read_bypass(call, &bypass, err));
    const clv_key_need need = {.any_state = true, .pending = true};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(read_policy(call, key.arn, bypass, &policy, err));
    if (policy == NULL)
        return clv_param_refuse(err, "Policy", NULL, "Member must not be null");
    clv_text_drop(&key.policy);
    CLV_TRY(clv_text_dup(clv_bytes_of(policy), &key.policy, err));
    return clv_key_update(call, &key, err);
}

/* Which key is meant, and whether the caller may do this with it. */
#include <sim/kms/call.h>

#include <stdio.h>

#include <base/json.h>
#include <sim/kms/grants.h>

#define KEY_TEXT_MAX 2048

static clv_status not_found(clv_call *call, const char *text, clv_error *err)
{
    return clv_fail(err, CLV_KMS_NOT_FOUND, "Key 'arn:aws:kms:%s:%s:key/%.128s' does not exist",
                    call->server->region, call->caller.account, text);
}

static clv_status load_alias(clv_call *call, const char *account, const char *name, clv_key *out,
                             clv_error *err)
{
    char id[CLV_KEY_ID_SIZE] = "";
    {
        clv_auto(clv_rows) rows = CLV_ROWS_INIT;
        bool found;
        CLV_TRY(clv_db_query(call->server->db, &rows, err,
                             "SELECT key_id FROM aliases WHERE account = ? AND name = ?", "tt",
                             account, name));
        CLV_TRY(clv_rows_next(&rows, &found, err));
        if (found)
            snprintf(id, sizeof id, "%s", clv_rows_text(&rows, 0));
    }
    bool found = false;
    if (id[0] != '\0')
        CLV_TRY(clv_key_load(call, id, out, &found, err));
    if (!found)
        return clv_fail(err, CLV_KMS_NOT_FOUND, "Alias arn:aws:kms:%s:%s:%.256s is not found.",
                        call->server->region, account, name);
    return clv_call_condition(call, "kms:RequestAlias", name, err);
}

/* arn:aws:kms:REGION:ACCOUNT:key/ID or :alias/NAME; account and what is behind it. */
static clv_status split_arn(clv_call *call, const char *text, char account[CLV_ACCOUNT_SIZE],
                            const char **resource, clv_error *err)
{
    char region[CLV_REGION_MAX + 1] = "";
    int at = 0;
    if (sscanf(text, "arn:aws:kms:%31[^:]:%12[0-9]:%n", region, account, &at) != 2 || at == 0)
        return clv_fail(err, CLV_KMS_INVALID_ARN, "%.256s is not a valid arn", text);
    if (strcmp(region, call->server->region) != 0)
        return clv_fail(err, CLV_KMS_NOT_FOUND, "Invalid arn %s", region);
    *resource = text + at;
    return CLV_OK;
}

clv_status clv_call_find_key(clv_call *call, const char *text, clv_key *out, clv_error *err)
{
    char account[CLV_ACCOUNT_SIZE] = "";
    const char *resource = text;
    bool arn = strncmp(text, "arn:", 4) == 0;
    if (arn)
        CLV_TRY(split_arn(call, text, account, &resource, err));
    else
        memcpy(account, call->caller.account, sizeof account);
    if (strncmp(resource, "alias/", 6) == 0)
        return load_alias(call, account, resource, out, err);
    const char *id = resource;
    if (arn && strncmp(resource, "key/", 4) != 0)
        return clv_fail(err, CLV_KMS_INVALID_ARN, "%.256s is not a valid arn", text);
    id += arn ? 4 : 0;
    if (strlen(id) != CLV_KEY_ID_SIZE - 1 || strspn(id, "0123456789abcdef-") != CLV_KEY_ID_SIZE - 1)
        return clv_fail(err, CLV_KMS_NOT_FOUND, "Invalid keyId '%.128s'", id);
    bool found;
    CLV_TRY(clv_key_load(call, id, out, &found, err));
    if (!found || strcmp(out->account, account) != 0)
        return not_found(call, id, err);
    return CLV_OK;
}

static clv_status denied(clv_call *call, const char *action, const char *resource, const char *why,
                         clv_error *err)
{
    return clv_fail(err, CLV_KMS_ACCESS_DENIED,
                    "User: %s is not authorized to perform: %s on resource: %s %s",
                    call->caller.arn, action, resource, why);
}

static clv_status denied_by(clv_call *call, const char *action, const char *resource,
                            const char *policy_kind, clv_error *err)
{
    char why[128];
    snprintf(why, sizeof why, "because no %s policy allows the %s action", policy_kind, action);
    return denied(call, action, resource, why, err);
}

static clv_iam_request request_of(const clv_call *call, const char *action, const char *resource,
                                  const json_t *context)
{
    return (clv_iam_request){
        .principal = {call->caller.arn, call->caller.principal_arn, call->caller.account},
        .action = action,
        .resource = resource,
        .context = context,
    };
}

clv_status clv_call_authorise(clv_call *call, clv_error *err)
{
    char action[64];
    snprintf(action, sizeof action, "kms:%s", call->operation->name);
    clv_iam_request request = request_of(call, action, "*", call->conditions);
    switch (clv_policy_evaluate(call->caller.policy, CLV_POLICY_IDENTITY, &request)) {
    case CLV_IAM_ALLOW:
        return CLV_OK;
    case CLV_IAM_DENY:
        return denied(call, action, "*", "with an explicit deny in an identity-based policy", err);
    default:
        return denied_by(call, action, "*", "identity-based", err);
    }
}

static clv_status add_value(json_t *to, const char *key, const char *value, clv_error *err)
{
    json_t *list = json_object_get(to, key);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(to, key, list);
    }
    if (json_array_append_new(list, json_string(value)) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a condition, found none");
    return CLV_OK;
}

static clv_status add_rows(clv_call *call, json_t *to, const char *sql, const char *id,
                           const char *prefix, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool more;
    CLV_TRY(clv_db_query(call->server->db, &rows, err, sql, "t", id));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more) {
        char key[192];
        snprintf(key, sizeof key, "%s%s", prefix, clv_rows_text(&rows, 0));
        CLV_TRY(add_value(to, key, clv_rows_text(&rows, 1), err));
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return CLV_OK;
}

/* The call's own conditions, with what the key and the encryption context bring. */
static clv_status conditions_for(clv_call *call, const clv_key *key, const json_t *context,
                                 json_t **out, clv_error *err)
{
    clv_auto(clv_json) all = json_deep_copy(call->conditions);
    if (all == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for conditions, found none");
    CLV_TRY(add_value(all, "kms:KeySpec", key->spec, err));
    CLV_TRY(add_value(all, "kms:KeyUsage", key->usage, err));
    CLV_TRY(add_value(all, "kms:KeyOrigin", "AWS_KMS", err));
    CLV_TRY(add_value(all, "kms:MultiRegion", "false", err));
    CLV_TRY(add_value(all, "aws:ResourceAccount", key->account, err));
    CLV_TRY(add_rows(call, all, "SELECT '', name FROM aliases WHERE key_id = ?", key->id,
                     "kms:ResourceAliases", err));
    CLV_TRY(add_rows(call, all, "SELECT name, value FROM tags WHERE key_id = ?", key->id,
                     "aws:ResourceTag/", err));
    json_t *object = (json_t *)context;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        clv_auto(clv_buf) name = CLV_BUF_INIT;
        const char *text;
        CLV_TRY(clv_buf_printf(&name, err, "kms:EncryptionContext:%s", json_object_iter_key(i)));
        CLV_TRY(clv_buf_text(&name, &text, err));
        CLV_TRY(add_value(all, text, json_string_value(json_object_iter_value(i)), err));
        CLV_TRY(add_value(all, "kms:EncryptionContextKeys", json_object_iter_key(i), err));
    }
    *out = all;
    all = NULL;
    return CLV_OK;
}

static clv_status decide(clv_call *call, const clv_key *key, const clv_key_need *need,
                         const clv_iam_request *request, clv_error *err)
{
    clv_auto(clv_json) policy = NULL;
    CLV_TRY(clv_json_parse(clv_bytes_of(key->policy), CLV_POLICY_MAX, &policy, err));
    clv_iam_verdict by_key = clv_policy_evaluate(policy, CLV_POLICY_KEY, request);
    clv_iam_verdict by_identity =
        clv_policy_evaluate(call->caller.policy, CLV_POLICY_IDENTITY, request);
    if (by_key == CLV_IAM_DENY)
        return denied(call, request->action, key->arn,
                      "with an explicit deny in a resource-based policy", err);
    if (by_identity == CLV_IAM_DENY)
        return denied(call, request->action, key->arn,
                      "with an explicit deny in an identity-based policy", err);
    bool same_account = strcmp(key->account, call->caller.account) == 0;
    bool identity_allows = by_identity == CLV_IAM_ALLOW;
    if (by_key == CLV_IAM_ALLOW && (same_account || identity_allows))
        return CLV_OK;
    if (by_key == CLV_IAM_DELEGATED && identity_allows)
        return CLV_OK;
    bool granted = false;
    const char *operation =
        need->grant_operation != NULL ? need->grant_operation : call->operation->name;
    CLV_TRY(clv_grants_allow(call, key, operation, need->context, &granted, err));
    if (granted)
        return CLV_OK;
    return denied_by(call, request->action, key->arn,
                     by_key == CLV_IAM_NONE ? "resource-based" : "identity-based", err);
}

static clv_status authorise(clv_call *call, const clv_key *key, const clv_key_need *need,
                            clv_error *err)
{
    char action[64];
    snprintf(action, sizeof action, "kms:%s", call->operation->name);
    clv_auto(clv_json) conditions = NULL;
    CLV_TRY(conditions_for(call, key, need->context, &conditions, err));
    clv_iam_request request =
        request_of(call, need->action != NULL ? need->action : action, key->arn, conditions);
    return decide(call, key, need, &request, err);
}

static clv_status check_state(const clv_key *key, const clv_key_need *need, clv_error *err)
{
    if (strcmp(key->state, "PendingDeletion") == 0 && !need->pending)
        return clv_fail(err, CLV_KMS_INVALID_STATE, "%s is pending deletion.", key->arn);
    if (strcmp(key->state, "Disabled") == 0 && !need->any_state)
        return clv_fail(err, CLV_KMS_DISABLED, "%s is disabled.", key->arn);
    if (need->usage != NULL && strcmp(key->usage, need->usage) != 0)
        return clv_fail(err, CLV_KMS_INVALID_KEY_USAGE,
                        "%s key usage is %s which is not valid for this operation.", key->arn,
                        key->usage);
    return CLV_OK;
}

clv_status clv_call_use_key(clv_call *call, const clv_key *key, const clv_key_need *need,
                            clv_error *err)
{
    json_array_append_new(call->resources, json_string(key->arn));
    CLV_TRY(clv_grants_check_tokens(call, err));
    CLV_TRY(authorise(call, key, need, err));
    CLV_TRY(check_state(key, need, err));
    if (call->dry_run)
        return clv_fail(err, CLV_KMS_DRY_RUN,
                        "The request would have succeeded, but the DryRun option is set.");
    return CLV_OK;
}

clv_status clv_call_key(clv_call *call, const char *text, const clv_key_need *need, clv_key *out,
                        clv_error *err)
{
    CLV_TRY(clv_call_find_key(call, text, out, err));
    return clv_call_use_key(call, out, need, err);
}

clv_status clv_call_not_locked_out(clv_call *call, const json_t *policy, const char *arn,
                                   clv_error *err)
{
    clv_iam_request request = request_of(call, "kms:PutKeyPolicy", arn, call->conditions);
    clv_iam_verdict by_key = clv_policy_evaluate(policy, CLV_POLICY_KEY, &request);
    clv_iam_verdict by_identity =
        clv_policy_evaluate(call->caller.policy, CLV_POLICY_IDENTITY, &request);
    if (by_key == CLV_IAM_ALLOW || (by_key == CLV_IAM_DELEGATED && by_identity == CLV_IAM_ALLOW))
        return CLV_OK;
    return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                    "The new key policy will not allow you to update the key policy in the "
                    "future.");
}

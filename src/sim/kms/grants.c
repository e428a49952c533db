#include <sim/kms/grants.h>

#include <strings.h>

#include <base/json.h>

bool clv_grant_names_operation(const json_t *grant, const char *operation)
{
    const json_t *list = json_object_get(grant, "Operations");
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (strcmp(json_string_value(json_array_get(list, i)), operation) == 0)
            return true;
    }
    return false;
}

/* KMS API reference, GrantConstraints: keys are compared in either case, values are not. */
static bool has_pair(const json_t *context, const char *key, const json_t *value)
{
    json_t *object = (json_t *)context;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if (strcasecmp(json_object_iter_key(i), key) == 0 &&
            json_equal(json_object_iter_value(i), (json_t *)value))
            return true;
    }
    return false;
}

/* Every pair of `part` is in `whole`. */
static bool has_pairs(const json_t *whole, const json_t *part)
{
    json_t *object = (json_t *)part;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if (!has_pair(whole, json_object_iter_key(i), json_object_iter_value(i)))
            return false;
    }
    return true;
}

/* Operations that a grant can name and that have no encryption context: constraints leave them. */
static bool has_no_context(const char *operation)
{
    return strcmp(operation, "DescribeKey") == 0 || strcmp(operation, "RetireGrant") == 0;
}

static bool constraints_hold(const json_t *grant, const char *operation, const json_t *context)
{
    if (has_no_context(operation))
        return true;
    const json_t *constraints = json_object_get(grant, "Constraints");
    const json_t *subset = json_object_get(constraints, "EncryptionContextSubset");
    const json_t *equal = json_object_get(constraints, "EncryptionContextEquals");
    if (subset != NULL && !has_pairs(context, subset))
        return false;
    return equal == NULL ||
           (has_pairs(context, equal) && json_object_size(context) == json_object_size(equal));
}

clv_status clv_grants_allow(clv_call *call, const clv_key *key, const char *operation,
                            const json_t *context, bool *allowed, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool more;
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT body FROM grants WHERE key_id = ? AND grantee IN (?, ?)", "ttt",
                         key->id, call->caller.arn, call->caller.principal_arn));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    *allowed = false;
    while (more && !*allowed) {
        clv_auto(clv_json) grant = NULL;
        CLV_TRY(clv_json_parse(clv_bytes_of(clv_rows_text(&rows, 0)), CLV_POLICY_MAX, &grant, err));
        *allowed = clv_grant_names_operation(grant, operation) &&
                   constraints_hold(grant, operation, context);
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return CLV_OK;
}

static clv_status check_token(clv_call *call, const char *token, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool found;
    CLV_TRY(clv_db_query(call->server->db, &rows, err, "SELECT 1 FROM grants WHERE token = ?", "t",
                         token));
    CLV_TRY(clv_rows_next(&rows, &found, err));
    return found ? CLV_OK : clv_fail(err, CLV_KMS_INVALID_GRANT_TOKEN, "Invalid grant token.");
}

clv_status clv_grants_check_tokens(clv_call *call, clv_error *err)
{
    const json_t *tokens;
    CLV_TRY(clv_param_list(call, "GrantTokens", &tokens, err));
    for (size_t i = 0; i < json_array_size(tokens); i++)
        CLV_TRY(check_token(call, json_string_value(json_array_get(tokens, i)), err));
    return CLV_OK;
}

/* CreateGrant, ListGrants, ListRetirableGrants, RetireGrant, RevokeGrant. */
#include <sim/kms/ops.h>

#include <stdio.h>

#include <base/json.h>
#include <openssl/rand.h>
#include <sim/kms/grants.h>

#define PAGE           100
#define PAGE_USUAL     50
#define PRINCIPAL_MAX  256
#define GRANT_NAME_MAX 256
#define ID_SIZE        65 /* 32 bytes as hex, and a NUL */
#define TOKEN_MAX      8192
/* KMS API reference, CreateGrant: Constraints */
#define CONSTRAINT_PAIRS_MAX 8

static const char *const OPERATIONS[] = {
    "CreateGrant",
    "Decrypt",
    "DeriveSharedSecret",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GetPublicKey",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RetireGrant",
    "Sign",
    "Verify",
    "VerifyMac",
};

static bool known_operation(const char *name)
{
    for (size_t i = 0; i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++) {
        if (strcmp(OPERATIONS[i], name) == 0)
            return true;
    }
    return false;
}

static clv_status read_principal(clv_call *call, const char *name, const char *condition,
                                 const char **out, clv_error *err)
{
    char account[CLV_ACCOUNT_SIZE];
    CLV_TRY(clv_param_text(call, name, PRINCIPAL_MAX, out, err));
    if (*out == NULL)
        return CLV_OK;
    if (strncmp(*out, "arn:", 4) != 0 || !clv_arn_account(*out, account))
        return clv_fail(err, CLV_KMS_INVALID_ARN, "ARN does not refer to a valid principal: %.128s",
                        *out);
    return clv_call_condition(call, condition, *out, err);
}

static clv_status read_operations(clv_call *call, const json_t **out, clv_error *err)
{
    CLV_TRY(clv_param_list(call, "Operations", out, err));
    if (json_array_size(*out) == 0)
        return clv_param_refuse(err, "Operations", NULL, "Member must not be null");
    for (size_t i = 0; i < json_array_size(*out); i++) {
        const char *name = json_string_value(json_array_get(*out, i));
        if (!known_operation(name))
            return clv_param_refuse(err, "Operations", name,
                                    "Member must satisfy enum value set of grant operations");
        CLV_TRY(clv_call_condition(call, "kms:GrantOperations", name, err));
    }
    return CLV_OK;
}

static bool is_map(const json_t *value)
{
    json_t *object = (json_t *)value;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if (!json_is_string(json_object_iter_value(i)))
            return false;
    }
    return json_is_object(value);
}

static clv_status read_constraints(clv_call *call, const json_t **out, clv_error *err)
{
    static const char *const kinds[] = {"EncryptionContextEquals", "EncryptionContextSubset"};
    size_t known = 0;
    *out = json_object_get(call->parameters, "Constraints");
    if (json_is_null(*out))
        *out = NULL;
    if (*out != NULL && !json_is_object(*out))
        return clv_fail(err, CLV_KMS_SERIALIZATION, "constraints: expected an object, found %s",
                        clv_json_type_name(*out));
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const json_t *pairs = json_object_get(*out, kinds[i]);
        if (pairs == NULL)
            continue;
        if (!is_map(pairs))
            return clv_fail(err, CLV_KMS_SERIALIZATION, "constraints.%s: expected texts", kinds[i]);
        if (json_object_size(pairs) == 0 || json_object_size(pairs) > CONSTRAINT_PAIRS_MAX)
            return clv_fail(err, CLV_KMS_VALIDATION,
                            "Grant constraint %s must have 1 to %d encryption context pairs.",
                            kinds[i], CONSTRAINT_PAIRS_MAX);
        CLV_TRY(clv_call_condition(call, "kms:GrantConstraintType", kinds[i], err));
        known++;
    }
    if (json_object_size(*out) != known)
        return clv_fail(err, CLV_KMS_VALIDATION, "Constraints has a member that is not known");
    return CLV_OK;
}

static clv_status random_text(clv_buf *out, size_t bytes, bool base64, const char **text,
                              clv_error *err)
{
    uint8_t raw[64];
    if (RAND_bytes(raw, (int)bytes) != 1)
        return clv_fail(err, CLV_INTERNAL, "expected random bytes, found none");
    CLV_TRY(base64 ? clv_base64_append(out, CLV_BYTES(raw, bytes), err)
                   : clv_hex_append(out, CLV_BYTES(raw, bytes), err));
    return clv_buf_text(out, text, err);
}

typedef struct new_grant {
    const char *name, *grantee, *retiring;
    const json_t *operations, *constraints;
} new_grant;

static json_t *grant_body(clv_call *call, const new_grant *grant, const char *key_arn,
                          const char *id)
{
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:O}", "KeyId", key_arn, "GrantId", id,
                  "GranteePrincipal", grant->grantee, "IssuingAccount", call->caller.account,
                  "CreationDate", clv_timestamp(call->now_ms), "Operations", grant->operations);
    if (grant->name != NULL)
        json_object_set_new(body, "Name", json_string(grant->name));
    if (grant->retiring != NULL)
        json_object_set_new(body, "RetiringPrincipal", json_string(grant->retiring));
    if (json_object_size(grant->constraints) > 0)
        json_object_set(body, "Constraints", (json_t *)grant->constraints);
    return body;
}

/* A second CreateGrant with the same name and parameters gives the same grant. */
static bool same_grant(const json_t *held, const json_t *asked)
{
    static const char *const members[] = {"Name", "GranteePrincipal", "RetiringPrincipal",
                                          "Operations", "Constraints"};
    if (json_object_get(asked, "Name") == NULL)
        return false;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        json_t *a = json_object_get(held, members[i]), *b = json_object_get(asked, members[i]);
        if ((a == NULL) != (b == NULL) || (a != NULL && !json_equal(a, b)))
            return false;
    }
    return true;
}

static clv_status answer_existing(clv_call *call, const clv_key *key, const json_t *asked,
                                  bool *found, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool more;
    *found = false;
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT id, token, body FROM grants WHERE key_id = ?", "t", key->id));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more && !*found) {
        clv_auto(clv_json) held = NULL;
        CLV_TRY(clv_json_parse(clv_bytes_of(clv_rows_text(&rows, 2)), CLV_POLICY_MAX, &held, err));
        *found = same_grant(held, asked);
        if (*found) {
            CLV_TRY(clv_answer_text(call, "GrantId", clv_rows_text(&rows, 0), err));
            CLV_TRY(clv_answer_text(call, "GrantToken", clv_rows_text(&rows, 1), err));
        }
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return CLV_OK;
}

static clv_status insert_grant(clv_call *call, const clv_key *key, const new_grant *grant,
                               clv_error *err)
{
    clv_auto(clv_buf) id = CLV_BUF_INIT;
    clv_auto(clv_buf) token = CLV_BUF_INIT;
    clv_auto(clv_buf) line = CLV_BUF_INIT;
    const char *id_text, *token_text, *text;
    bool found;
    CLV_TRY(random_text(&id, 32, false, &id_text, err));
    CLV_TRY(random_text(&token, 45, true, &token_text, err));
    clv_auto(clv_json) body = grant_body(call, grant, key->arn, id_text);
    CLV_TRY(answer_existing(call, key, body, &found, err));
    if (found)
        return CLV_OK;
    CLV_TRY(clv_json_append(&line, body, err));
    CLV_TRY(clv_buf_text(&line, &text, err));
    CLV_TRY(clv_db_run(call->server->db, NULL, err, "INSERT INTO grants VALUES (?,?,?,?,?,?,?)",
                       "tttttti", id_text, token_text, key->id, grant->grantee,
                       grant->retiring != NULL ? grant->retiring : "", text,
                       (int64_t)call->now_ms));
    CLV_TRY(clv_answer_text(call, "GrantId", id_text, err));
    return clv_answer_text(call, "GrantToken", token_text, err);
}

clv_status clv_op_create_grant(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    new_grant grant;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(read_principal(call, "GranteePrincipal", "kms:GranteePrincipal", &grant.grantee, err));
    if (grant.grantee == NULL)
        return clv_param_refuse(err, "GranteePrincipal", NULL, "Member must not be null");
    CLV_TRY(
        read_principal(call, "RetiringPrincipal", "kms:RetiringPrincipal", &grant.retiring, err));
    CLV_TRY(clv_param_text(call, "Name", GRANT_NAME_MAX, &grant.name, err));
    CLV_TRY(read_operations(call, &grant.operations, err));
    CLV_TRY(read_constraints(call, &grant.constraints, err));
    CLV_TRY(clv_call_condition(call, "kms:GrantIsForAWSResource", "false", err));
    const clv_key_need need = {.usage = NULL};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    return insert_grant(call, &key, &grant, err);
}

/* Rows of (id, body) as a page. */
static clv_status answer_grants(clv_rows *rows, clv_page *page, clv_error *err)
{
    bool more;
    CLV_TRY(clv_rows_next(rows, &more, err));
    while (more && clv_page_has_room(page)) {
        json_t *body = NULL;
        CLV_TRY(clv_json_parse(clv_bytes_of(clv_rows_text(rows, 1)), CLV_POLICY_MAX, &body, err));
        CLV_TRY(clv_page_add(page, body, clv_rows_text(rows, 0), err));
        CLV_TRY(clv_rows_next(rows, &more, err));
    }
    return clv_page_end(page, more, err);
}

clv_status clv_op_list_grants(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    const char *id, *grant_id, *grantee;
    clv_page page;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_text(call, "GrantId", 128, &grant_id, err));
    CLV_TRY(clv_param_text(call, "GranteePrincipal", PRINCIPAL_MAX, &grantee, err));
    const clv_key_need need = {.any_state = true, .pending = true};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_page_start(call, PAGE, PAGE_USUAL, "Grants", &page, err));
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT id, body FROM grants WHERE key_id = ?1 AND id > ?2"
                         " AND (?3 IS NULL OR id = ?3) AND (?4 IS NULL OR grantee = ?4)"
                         " ORDER BY id LIMIT ?5",
                         "tttti", key.id, page.after, grant_id, grantee, page.limit + 1));
    return answer_grants(&rows, &page, err);
}

clv_status clv_op_list_retirable_grants(clv_call *call, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    const char *retiring;
    clv_page page;
    CLV_TRY(clv_param_need_text(call, "RetiringPrincipal", PRINCIPAL_MAX, &retiring, err));
    CLV_TRY(clv_call_authorise(call, err));
    CLV_TRY(clv_page_start(call, PAGE, PAGE_USUAL, "Grants", &page, err));
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT id, body FROM grants WHERE retiring = ? AND id > ?"
                         " ORDER BY id LIMIT ?",
                         "tti", retiring, page.after, page.limit + 1));
    return answer_grants(&rows, &page, err);
}

static clv_status delete_grant(clv_call *call, const char *key_id, const char *grant_id,
                               clv_error *err)
{
    int changed;
    if (strlen(grant_id) != ID_SIZE - 1 || strspn(grant_id, "0123456789abcdef") != strlen(grant_id))
        return clv_fail(err, CLV_KMS_INVALID_GRANT_ID, "Invalid grant ID %.128s", grant_id);
    CLV_TRY(clv_db_run(call->server->db, &changed, err,
                       "DELETE FROM grants WHERE id = ? AND key_id = ?", "tt", grant_id, key_id));
    return changed > 0 ? CLV_OK
                       : clv_fail(err, CLV_KMS_NOT_FOUND, "Grant ID %s not found", grant_id);
}

clv_status clv_op_revoke_grant(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *id, *grant_id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_need_text(call, "GrantId", 128, &grant_id, err));
    const clv_key_need need = {.any_state = true, .pending = true};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    return delete_grant(call, key.id, grant_id, err);
}

typedef struct retirable {
    char id[ID_SIZE], key_id[CLV_KEY_ID_SIZE];
    bool allowed;
} retirable;

/* The retiring principal may, and a grantee whose grant says so. */
static clv_status find_retirable(clv_call *call, const char *column, const char *value,
                                 retirable *out, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    clv_auto(clv_json) body = NULL;
    bool found;
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT id, key_id, retiring, grantee, body FROM grants WHERE %s = ?",
             column);
    CLV_TRY(clv_db_query(call->server->db, &rows, err, sql, "t", value));
    CLV_TRY(clv_rows_next(&rows, &found, err));
    if (!found)
        return clv_fail(err, CLV_KMS_NOT_FOUND, "Grant not found");
    snprintf(out->id, sizeof out->id, "%s", clv_rows_text(&rows, 0));
    snprintf(out->key_id, sizeof out->key_id, "%s", clv_rows_text(&rows, 1));
    CLV_TRY(clv_json_parse(clv_bytes_of(clv_rows_text(&rows, 4)), CLV_POLICY_MAX, &body, err));
    bool retires = strcmp(clv_rows_text(&rows, 2), call->caller.principal_arn) == 0;
    bool is_grantee = strcmp(clv_rows_text(&rows, 3), call->caller.principal_arn) == 0;
    out->allowed = retires || (is_grantee && clv_grant_names_operation(body, "RetireGrant"));
    return CLV_OK;
}

clv_status clv_op_retire_grant(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *token, *id, *key_id;
    retirable grant = {.allowed = false};
    CLV_TRY(clv_param_text(call, "GrantToken", TOKEN_MAX, &token, err));
    CLV_TRY(clv_param_text(call, "GrantId", 128, &id, err));
    CLV_TRY(clv_param_text(call, "KeyId", CLV_KEY_ID_MAX, &key_id, err));
    if ((token == NULL) == (id == NULL) || (id != NULL && key_id == NULL))
        return clv_fail(err, CLV_KMS_VALIDATION,
                        "Specify either the grant token, or the key and the grant ID.");
    CLV_TRY(find_retirable(call, token != NULL ? "token" : "id", token != NULL ? token : id, &grant,
                           err));
    if (key_id != NULL)
        CLV_TRY(clv_call_find_key(call, key_id, &key, err));
    if (key_id != NULL && strcmp(key.id, grant.key_id) != 0)
        return clv_fail(err, CLV_KMS_NOT_FOUND, "Grant ID %s not found", grant.id);
    if (!grant.allowed)
        return clv_fail(err, CLV_KMS_ACCESS_DENIED,
                        "User: %s is not authorized to perform: kms:RetireGrant on this grant",
                        call->caller.arn);
    return delete_grant(call, grant.key_id, grant.id, err);
}

#include <sim/kms/caller.h>

#include <stdio.h>

#include <base/clock.h>
#include <base/json.h>
#include <base/time.h>
#include <openssl/rand.h>

#define EVERYTHING                                                                   \
    "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"" \
    "kms:*\",\"Resource\":\"*\"}]}"

void clv_caller_drop(clv_caller *caller)
{
    json_decref(caller->policy);
    *caller = (clv_caller){.policy = NULL};
}

/* arn:aws:iam::ACCOUNT:user/NAME, arn:aws:iam::ACCOUNT:root,
 * arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION. */
static clv_status describe(const char *arn, clv_caller *out, clv_error *err)
{
    char role[65] = "", session[65] = "", account[CLV_ACCOUNT_SIZE] = "", path[129] = "";
    snprintf(out->arn, sizeof out->arn, "%s", arn);
    snprintf(out->principal_arn, sizeof out->principal_arn, "%s", arn);
    if (sscanf(arn, "arn:aws:sts::%12[0-9]:assumed-role/%64[^/]/%64[^/]", account, role, session) ==
        3) {
        snprintf(out->principal_arn, sizeof out->principal_arn, "arn:aws:iam::%s:role/%s", account,
                 role);
        snprintf(out->type, sizeof out->type, "AssumedRole");
        snprintf(out->name, sizeof out->name, "%s", role);
    } else if (sscanf(arn, "arn:aws:iam::%12[0-9]:user/%128s", account, path) == 2) {
        snprintf(out->type, sizeof out->type, "IAMUser");
        snprintf(out->name, sizeof out->name, "%s", path);
    } else if (sscanf(arn, "arn:aws:iam::%12[0-9]:%128s", account, path) == 2 &&
               strcmp(path, "root") == 0) {
        snprintf(out->type, sizeof out->type, "Root");
        snprintf(out->name, sizeof out->name, "root");
    }
    if (out->type[0] == '\0' || strlen(account) != CLV_ACCOUNT_SIZE - 1)
        return clv_fail(err, CLV_USAGE,
                        "expected the ARN of an IAM user, of a role's session or of an account's "
                        "root, found \"%.128s\"",
                        arn);
    snprintf(out->account, sizeof out->account, "%s", account);
    return CLV_OK;
}

static clv_status unrecognised(clv_error *err)
{
    return clv_fail(err, CLV_KMS_UNRECOGNIZED_CLIENT,
                    "The security token included in the request is invalid.");
}

typedef struct credentials {
    char secret[129];
    char token[1025];
    uint64_t expires_ms;
} credentials;

static clv_status look_up(clv_kms_server *server, const clv_sigv4_claim *claim, clv_caller *out,
                          credentials *held, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool found;
    CLV_TRY(clv_db_query(server->db, &rows, err,
                         "SELECT secret, token, expires_ms, arn, policy FROM principals"
                         " WHERE access_key_id = ?",
                         "t", claim->access_key));
    CLV_TRY(clv_rows_next(&rows, &found, err));
    if (!found)
        return unrecognised(err);
    snprintf(held->secret, sizeof held->secret, "%s", clv_rows_text(&rows, 0));
    snprintf(held->token, sizeof held->token, "%s", clv_rows_text(&rows, 1));
    held->expires_ms = (uint64_t)clv_rows_integer(&rows, 2);
    CLV_TRY(describe(clv_rows_text(&rows, 3), out, err));
    snprintf(out->access_key, sizeof out->access_key, "%s", claim->access_key);
    return clv_json_parse(clv_bytes_of(clv_rows_text(&rows, 4)), CLV_POLICY_MAX, &out->policy, err);
}

static clv_status check_token(const clv_sigv4_claim *claim, const credentials *held,
                              uint64_t now_ms, clv_error *err)
{
    const char *token = claim->token != NULL ? claim->token : "";
    if (!clv_bytes_equal_secret(clv_bytes_of(token), clv_bytes_of(held->token)))
        return unrecognised(err);
    if (held->expires_ms != 0 && held->expires_ms <= now_ms)
        return clv_fail(err, CLV_KMS_EXPIRED_TOKEN,
                        "The security token included in the request is expired");
    return CLV_OK;
}

clv_status clv_caller_authenticate(clv_kms_server *server, const clv_http_request *request,
                                   uint64_t now_ms, clv_caller *out, clv_error *err)
{
    clv_sigv4_claim claim;
    credentials held = {.expires_ms = 0};
    clv_auto(clv_caller) caller = {.policy = NULL};
    CLV_TRY(clv_sigv4_parse(request, &claim, err));
    CLV_TRY(look_up(server, &claim, &caller, &held, err));
    CLV_TRY(check_token(&claim, &held, now_ms, err));
    const clv_sigv4_expected expected = {server->region, "kms", now_ms};
    CLV_TRY(clv_sigv4_verify(request, &claim, held.secret, &expected, err));
    *out = caller;
    caller.policy = NULL;
    return CLV_OK;
}

/* n characters of an alphabet. */
static clv_status random_text(const char *alphabet, size_t n, char *out, clv_error *err)
{
    size_t letters = strlen(alphabet);
    for (size_t i = 0; i < n; i++) {
        uint8_t byte;
        if (RAND_priv_bytes(&byte, 1) != 1)
            return clv_fail(err, CLV_INTERNAL, "expected random bytes, found none");
        out[i] = alphabet[byte % letters];
    }
    out[n] = '\0';
    return CLV_OK;
}

static const char ID_LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char SECRET_LETTERS[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static clv_status check_identity_policy(const char *text, clv_error *err)
{
    clv_auto(clv_json) policy = NULL;
    CLV_TRY(clv_json_parse(clv_bytes_of(text), CLV_POLICY_MAX, &policy, err));
    return clv_policy_check(policy, CLV_POLICY_IDENTITY, err);
}

clv_status clv_caller_create(clv_db *db, const clv_new_principal *principal, json_t **out,
                             clv_error *err)
{
    clv_auto(clv_caller) caller = {.policy = NULL};
    char id[21], secret[41], token[257];
    bool session = principal->expires_ms != 0;
    const char *policy = principal->policy != NULL ? principal->policy : EVERYTHING;
    CLV_TRY(describe(principal->arn, &caller, err));
    CLV_TRY(check_identity_policy(policy, err));
    memcpy(id, session ? "ASIA" : "AKIA", 4);
    CLV_TRY(random_text(ID_LETTERS, 16, id + 4, err));
    CLV_TRY(random_text(SECRET_LETTERS, 40, secret, err));
    CLV_TRY(random_text(SECRET_LETTERS, 256, token, err));
    CLV_TRY(clv_db_run(db, NULL, err, "INSERT INTO principals VALUES (?,?,?,?,?,?)", "tttitt", id,
                       secret, session ? token : NULL, (int64_t)principal->expires_ms,
                       principal->arn, policy));
    *out = json_pack("{s:s, s:s}", "AccessKeyId", id, "SecretAccessKey", secret);
    if (*out == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for credentials, found none");
    if (session) {
        char expiration[CLV_TIME_TEXT_SIZE];
        clv_time_text(principal->expires_ms, expiration);
        json_object_set_new(*out, "Token", json_string(token));
        json_object_set_new(*out, "Expiration", json_string(expiration));
    }
    return CLV_OK;
}

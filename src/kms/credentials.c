#include <claviger/kms.h>

#include <stdlib.h>

#include <base/json.h>
#include <base/time.h>

#define CREDENTIALS_TEXT_MAX 32768
#define ACCESS_KEY_ID_MIN    16 /* AWS IAM API reference, AccessKey */
#define SECRET_KEY_MAX       256
#define SESSION_TOKEN_MAX    16384
#define ACCOUNT_LENGTH       12

void clv_credentials_drop(clv_credentials *credentials)
{
    clv_secret_free(&credentials->secret_access_key);
    clv_secret_free(&credentials->session_token);
    *credentials = (clv_credentials)CLV_CREDENTIALS_INIT;
}

/* Everything here ends in a header or is signed: no space, no line break, no byte beyond ASCII. */
static bool printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

static clv_status need_length(const char *name, const char *text, size_t min, size_t max,
                              clv_error *err)
{
    size_t n = strlen(text);
    if (n < min || n > max)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "%s: expected %zu to %zu characters, found %zu",
                        name, min, max, n);
    if (!printable(text))
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "%s: expected printable ASCII without spaces, found something else", name);
    return CLV_OK;
}

static clv_status read_access_key_id(clv_json_reader *r, clv_credentials *out, clv_error *err)
{
    const char *text;
    CLV_TRY(clv_json_need_text(r, "AccessKeyId", &text, err));
    CLV_TRY(
        need_length("AccessKeyId", text, ACCESS_KEY_ID_MIN, sizeof out->access_key_id - 1, err));
    for (const char *p = text; *p != '\0'; p++) {
        bool word = (*p >= '0' && *p <= '9') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= 'a' && *p <= 'z') || *p == '_';
        if (!word)
            return clv_fail(err, CLV_KMS_CREDENTIALS,
                            "AccessKeyId: expected letters, digits and _, found something else");
    }
    memcpy(out->access_key_id, text, strlen(text) + 1);
    return CLV_OK;
}

static clv_status read_secrets(clv_json_reader *r, clv_credentials *out, clv_error *err)
{
    const char *secret, *token, *session_token;
    CLV_TRY(clv_json_need_text(r, "SecretAccessKey", &secret, err));
    CLV_TRY(need_length("SecretAccessKey", secret, 1, SECRET_KEY_MAX, err));
    CLV_TRY(clv_secret_copy(clv_bytes_of(secret), &out->secret_access_key, err));

    CLV_TRY(clv_json_text(r, "Token", &token, err));
    CLV_TRY(clv_json_text(r, "SessionToken", &session_token, err));
    if (token != NULL && session_token != NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "expected Token or SessionToken, found both members");
    const char *given = token != NULL ? token : session_token;
    if (given == NULL || given[0] == '\0')
        return CLV_OK;
    CLV_TRY(need_length("Token", given, 1, SESSION_TOKEN_MAX, err));
    return clv_secret_copy(clv_bytes_of(given), &out->session_token, err);
}

static clv_status read_expiration(clv_json_reader *r, clv_credentials *out, clv_error *err)
{
    const char *text;
    CLV_TRY(clv_json_text(r, "Expiration", &text, err));
    if (text == NULL)
        return CLV_OK;
    if (clv_time_parse(text, &out->expires_ms, NULL) != CLV_OK || out->expires_ms == 0)
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "Expiration: expected a time as 2026-01-31T12:00:00Z, found another form");
    return CLV_OK;
}

/* The account, where the source tells it: AccountId (EKS Pod Identity), RoleArn (ECS). */
static clv_status read_account(clv_json_reader *r, clv_credentials *out, clv_error *err)
{
    const char *account, *role;
    CLV_TRY(clv_json_text(r, "AccountId", &account, err));
    CLV_TRY(clv_json_text(r, "RoleArn", &role, err));
    /* arn:partition:iam::ACCOUNT:role/name */
    for (int colons = 0; account == NULL && role != NULL && *role != '\0'; role++) {
        if (*role == ':' && ++colons == 4)
            account = role + 1;
    }
    if (account != NULL && strspn(account, "0123456789") == ACCOUNT_LENGTH)
        memcpy(out->account, account, ACCOUNT_LENGTH);
    return CLV_OK;
}

static clv_status read_members(const json_t *json, clv_credentials *out, clv_error *err)
{
    clv_json_reader r;
    const char *code;
    CLV_TRY(clv_json_open(&r, json, "", err));
    /* IMDS answers 200 with another Code when the role cannot be assumed. */
    CLV_TRY(clv_json_text(&r, "Code", &code, err));
    if (code != NULL && strcmp(code, "Success") != 0)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "Code: expected \"Success\", found \"%.60s\"",
                        printable(code) ? code : "something else");
    CLV_TRY(read_access_key_id(&r, out, err));
    CLV_TRY(read_secrets(&r, out, err));
    CLV_TRY(read_expiration(&r, out, err));
    /* Other members are left alone: each source has some of its own, and AWS adds more. */
    return read_account(&r, out, err);
}

clv_status clv_credentials_parse(clv_bytes text, clv_credentials *out, clv_error *err)
{
    clv_auto(clv_credentials) credentials = CLV_CREDENTIALS_INIT;
    clv_auto(clv_json) json = NULL;
    clv_error inner = {0};
    clv_status status = clv_json_parse(text, CREDENTIALS_TEXT_MAX, &json, &inner);
    if (status == CLV_OK)
        status = read_members(json, &credentials, &inner);
    if (status == CLV_NO_MEMORY)
        return clv_fail(err, status, "%s", inner.text);
    if (status != CLV_OK)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "credentials: %s", inner.text);
    *out = credentials;
    credentials = (clv_credentials)CLV_CREDENTIALS_INIT;
    return CLV_OK;
}

#include <sim/kms/iam.h>

#include <ctype.h>
#include <stdio.h>

#define STATEMENTS_MAX 128

static char fold(char c, bool any_case)
{
    return any_case ? (char)tolower((unsigned char)c) : c;
}

bool clv_iam_match(const char *pattern, const char *text, bool any_case)
{
    const char *star = NULL, *resume = text;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = pattern++;
            resume = text;
        } else if (*pattern == '?' ||
                   (*pattern != '\0' && fold(*pattern, any_case) == fold(*text, any_case))) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return *pattern == '\0';
}

static bool is_account(const char *text)
{
    size_t n = strspn(text, "0123456789");
    return n == CLV_ACCOUNT_SIZE - 1 && text[n] == '\0';
}

bool clv_arn_account(const char *text, char out[CLV_ACCOUNT_SIZE])
{
    const char *at = text;
    if (strncmp(text, "arn:", 4) == 0) {
        for (int colons = 0; colons < 4 && at != NULL; colons++) {
            at = strchr(at, ':');
            at = at != NULL ? at + 1 : NULL;
        }
    }
    char account[CLV_ACCOUNT_SIZE] = "";
    if (at != NULL)
        snprintf(account, sizeof account, "%.12s", at);
    if (!is_account(account) || (at[12] != ':' && at[12] != '\0'))
        return false;
    memcpy(out, account, sizeof account);
    return true;
}

/* One text or an array of texts, as IAM writes most members. */
static size_t list_size(const json_t *value)
{
    return json_is_array(value) ? json_array_size(value) : 1;
}

static const char *list_text(const json_t *value, size_t i)
{
    return json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
}

static bool is_list(const json_t *value)
{
    if (value == NULL || (json_is_array(value) && json_array_size(value) == 0))
        return false;
    for (size_t i = 0; i < list_size(value); i++) {
        if (list_text(value, i) == NULL)
            return false;
    }
    return true;
}

static bool any_matches(const json_t *list, const char *text, bool any_case)
{
    for (size_t i = 0; i < list_size(list); i++) {
        if (clv_iam_match(list_text(list, i), text, any_case))
            return true;
    }
    return false;
}

/* How a principal of a statement fits the caller. */
typedef enum fit { NO_FIT, FIT_ACCOUNT, FIT_CALLER } fit;

static fit fit_text(const char *principal, const clv_iam_principal *caller)
{
    char account[CLV_ACCOUNT_SIZE];
    if (strcmp(principal, "*") == 0 || strcmp(principal, caller->arn) == 0 ||
        strcmp(principal, caller->principal_arn) == 0)
        return FIT_CALLER;
    size_t n = strlen(principal);
    bool whole_account =
        is_account(principal) || (n > 5 && strcmp(principal + n - 5, ":root") == 0);
    if (whole_account && clv_arn_account(principal, account) &&
        strcmp(account, caller->account) == 0)
        return FIT_ACCOUNT;
    return NO_FIT;
}

static fit fit_principal(const json_t *principal, const clv_iam_principal *caller)
{
    if (json_is_string(principal))
        return fit_text(json_string_value(principal), caller);
    const json_t *list = json_object_get(principal, "AWS");
    fit best = NO_FIT;
    for (size_t i = 0; list != NULL && i < list_size(list); i++) {
        fit found = fit_text(list_text(list, i), caller);
        best = found > best ? found : best;
    }
    return best;
}

static fit statement_fit(const json_t *statement, clv_policy_kind kind,
                         const clv_iam_principal *caller)
{
    if (kind == CLV_POLICY_IDENTITY)
        return FIT_CALLER;
    const json_t *principal = json_object_get(statement, "Principal");
    if (principal != NULL)
        return fit_principal(principal, caller);
    const json_t *other = json_object_get(statement, "NotPrincipal");
    return fit_principal(other, caller) == NO_FIT ? FIT_CALLER : NO_FIT;
}

/* A statement that speaks of the caller's action, resource and circumstances? */
static bool applies(const json_t *statement, const clv_iam_request *request)
{
    const json_t *action = json_object_get(statement, "Action");
    const json_t *not_action = json_object_get(statement, "NotAction");
    if (action != NULL ? !any_matches(action, request->action, true)
                       : any_matches(not_action, request->action, true))
        return false;
    const json_t *resource = json_object_get(statement, "Resource");
    const json_t *not_resource = json_object_get(statement, "NotResource");
    if (resource != NULL ? !any_matches(resource, request->resource, false)
                         : any_matches(not_resource, request->resource, false))
        return false;
    const json_t *condition = json_object_get(statement, "Condition");
    return condition == NULL || clv_condition_holds(condition, request->context);
}

static clv_iam_verdict statement_verdict(const json_t *statement, clv_policy_kind kind,
                                         const clv_iam_request *request)
{
    fit found = statement_fit(statement, kind, &request->principal);
    if (found == NO_FIT || !applies(statement, request))
        return CLV_IAM_NONE;
    if (strcmp(json_string_value(json_object_get(statement, "Effect")), "Deny") == 0)
        return CLV_IAM_DENY;
    return found == FIT_ACCOUNT ? CLV_IAM_DELEGATED : CLV_IAM_ALLOW;
}

static const json_t *statement_at(const json_t *policy, size_t i, size_t *count)
{
    const json_t *list = json_object_get(policy, "Statement");
    *count = json_is_array(list) ? json_array_size(list) : 1;
    return json_is_array(list) ? json_array_get(list, i) : list;
}

clv_iam_verdict clv_policy_evaluate(const json_t *policy, clv_policy_kind kind,
                                    const clv_iam_request *request)
{
    clv_iam_verdict best = CLV_IAM_NONE;
    size_t count = 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *statement = statement_at(policy, i, &count);
        if (count == 0)
            break;
        clv_iam_verdict found = statement_verdict(statement, kind, request);
        best = found > best ? found : best;
    }
    return best;
}

static clv_status malformed(clv_error *err, size_t i, const char *what)
{
    return clv_fail(err, CLV_KMS_MALFORMED_POLICY, "Statement %zu: %s", i, what);
}

static bool is_principal_text(const char *text)
{
    char account[CLV_ACCOUNT_SIZE];
    return strcmp(text, "*") == 0 || is_account(text) ||
           (strncmp(text, "arn:", 4) == 0 && strchr(text, '*') == NULL &&
            (strstr(text, ":iam::") != NULL || strstr(text, ":sts::") != NULL) &&
            clv_arn_account(text, account));
}

static bool is_principal(const json_t *principal)
{
    static const char *const kinds[] = {"AWS", "Service", "Federated", "CanonicalUser"};
    if (json_is_string(principal))
        return strcmp(json_string_value(principal), "*") == 0;
    size_t known = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const json_t *list = json_object_get(principal, kinds[i]);
        if (list == NULL)
            continue;
        if (!is_list(list))
            return false;
        for (size_t j = 0; i == 0 && j < list_size(list); j++) {
            if (!is_principal_text(list_text(list, j)))
                return false;
        }
        known++;
    }
    return json_is_object(principal) && known > 0 && known == json_object_size(principal);
}

static bool exactly_one(const json_t *statement, const char *a, const char *b)
{
    return (json_object_get(statement, a) != NULL) != (json_object_get(statement, b) != NULL);
}

static const json_t *either(const json_t *statement, const char *a, const char *b)
{
    const json_t *first = json_object_get(statement, a);
    return first != NULL ? first : json_object_get(statement, b);
}

static bool has_variable(const json_t *value)
{
    for (size_t i = 0; i < list_size(value); i++) {
        if (strstr(list_text(value, i), "${") != NULL)
            return true;
    }
    return false;
}

static bool members_known(const json_t *statement)
{
    static const char *const known[] = {"Sid",          "Effect",      "Principal",
                                        "NotPrincipal", "Action",      "NotAction",
                                        "Resource",     "NotResource", "Condition"};
    size_t found = 0;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        found += json_object_get(statement, known[i]) != NULL;
    return found == json_object_size(statement);
}

static clv_status check_principal(const json_t *statement, clv_policy_kind kind, size_t i,
                                  clv_error *err)
{
    bool none = json_object_get(statement, "Principal") == NULL &&
                json_object_get(statement, "NotPrincipal") == NULL;
    if (kind == CLV_POLICY_IDENTITY)
        return none ? CLV_OK : malformed(err, i, "an identity policy has no Principal");
    if (!exactly_one(statement, "Principal", "NotPrincipal"))
        return malformed(err, i, "expected one of Principal and NotPrincipal");
    if (!is_principal(either(statement, "Principal", "NotPrincipal")))
        return malformed(err, i,
                         "Policy contains a statement with one or more invalid principals.");
    return CLV_OK;
}

static clv_status check_statement(const json_t *statement, clv_policy_kind kind, size_t i,
                                  clv_error *err)
{
    if (!json_is_object(statement) || !members_known(statement))
        return malformed(err, i,
                         "expected an object of Sid, Effect, Principal, Action, Resource "
                         "and Condition, or their Not forms");
    const char *effect = json_string_value(json_object_get(statement, "Effect"));
    if (effect == NULL || (strcmp(effect, "Allow") != 0 && strcmp(effect, "Deny") != 0))
        return malformed(err, i, "expected the Effect \"Allow\" or \"Deny\"");
    CLV_TRY(check_principal(statement, kind, i, err));
    if (!exactly_one(statement, "Action", "NotAction") ||
        !is_list(either(statement, "Action", "NotAction")))
        return malformed(err, i, "expected Action or NotAction with one text or more");
    if (!exactly_one(statement, "Resource", "NotResource") ||
        !is_list(either(statement, "Resource", "NotResource")))
        return malformed(err, i, "expected Resource or NotResource with one text or more");
    if (has_variable(either(statement, "Resource", "NotResource")))
        return malformed(err, i, "policy variables (${…}) are not evaluated here");
    const json_t *condition = json_object_get(statement, "Condition");
    return condition != NULL ? clv_condition_check(condition, err) : CLV_OK;
}

clv_status clv_policy_check(const json_t *policy, clv_policy_kind kind, clv_error *err)
{
    const char *version = json_string_value(json_object_get(policy, "Version"));
    const json_t *list = json_object_get(policy, "Statement");
    if (!json_is_object(policy) || list == NULL || (!json_is_array(list) && !json_is_object(list)))
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                        "expected an object with Version and Statement");
    if (version != NULL && strcmp(version, "2012-10-17") != 0 && strcmp(version, "2008-10-17") != 0)
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                        "expected Version 2012-10-17 or 2008-10-17, found \"%.32s\"", version);
    if (json_is_array(list) && json_array_size(list) > STATEMENTS_MAX)
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY, "expected at most %d statements",
                        STATEMENTS_MAX);
    size_t count = 1;
    for (size_t i = 0; i < count; i++) {
        const json_t *statement = statement_at(policy, i, &count);
        if (count > 0)
            CLV_TRY(check_statement(statement, kind, i, err));
    }
    return CLV_OK;
}

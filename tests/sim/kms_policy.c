/* Key policies: each row is a policy, a request and what IAM's rules make of it. */
#include "../check.h"

#include <base/json.h>
#include <sim/kms/iam.h>

#define ACCOUNT "123456789012"
#define USER    "arn:aws:iam::" ACCOUNT ":user/claviger"
#define KEY     "arn:aws:kms:us-east-1:" ACCOUNT ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define PCR0    "0123456789abcdef0123456789abcdef0123456789abcdef"

/* One statement in a policy; the quotes are written ' here. */
#define POLICY(statements) "{'Version':'2012-10-17','Statement':[" statements "]}"
#define ALLOW(members)     "{'Effect':'Allow'," members "}"
#define DENY(members)      "{'Effect':'Deny'," members "}"
#define ME                 "'Principal':{'AWS':'" USER "'}"
#define ANY                "'Principal':'*'"
#define DECRYPT            "'Action':'kms:Decrypt','Resource':'*'"
#define WHEN(condition)    POLICY(ALLOW(ME "," DECRYPT ",'Condition':{" condition "}"))

/* The request's context: attested, with an encryption context. */
#define CONTEXT                                                                              \
    "{'kms:RecipientAttestation:ImageSha384':['" PCR0 "'],"                                  \
    "'kms:RecipientAttestation:PCR0':['" PCR0                                                \
    "'],'kms:EncryptionContext:Purpose':['AgentSecrets'],"                                   \
    "'kms:EncryptionContextKeys':['Purpose','enclave'],'kms:CallerAccount':['" ACCOUNT "']," \
    "'aws:PrincipalArn':['" USER "'],'aws:SecureTransport':['true'],"                        \
    "'kms:ScheduleKeyDeletionPendingWindowInDays':['7']}"

static json_t *parse(const char *text)
{
    char copy[4096];
    json_t *json = NULL;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *c = copy; *c != '\0'; c++)
        *c = *c == '\'' ? '"' : *c;
    assert_ok(clv_json_parse(clv_bytes_of(copy), sizeof copy, &json, err));
    return json;
}

static clv_iam_verdict evaluate(const char *text, const char *principal, const char *action)
{
    clv_auto(clv_json) policy = parse(text);
    clv_auto(clv_json) context = parse(CONTEXT);
    char account[CLV_ACCOUNT_SIZE];
    assert_true(clv_arn_account(principal, account));
    assert_ok(clv_policy_check(policy, CLV_POLICY_KEY, err));
    const clv_iam_request request = {
        .principal = {principal, principal, account},
        .action = action,
        .resource = KEY,
        .context = context,
    };
    return clv_policy_evaluate(policy, CLV_POLICY_KEY, &request);
}

typedef struct row {
    const char *what;
    const char *policy;
    clv_iam_verdict verdict;
} row;

static void check_rows(const row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        clv_iam_verdict found = evaluate(rows[i].policy, USER, "kms:Decrypt");
        if (found != rows[i].verdict)
            fail_msg("%s: expected verdict %d, found %d", rows[i].what, rows[i].verdict, found);
    }
}

static void decides_by_principal_action_and_resource(void **state)
{
    (void)state;
    static const row rows[] = {
        {"the caller named", POLICY(ALLOW(ME "," DECRYPT)), CLV_IAM_ALLOW},
        {"everyone", POLICY(ALLOW(ANY "," DECRYPT)), CLV_IAM_ALLOW},
        {"everyone as AWS", POLICY(ALLOW("'Principal':{'AWS':'*'}," DECRYPT)), CLV_IAM_ALLOW},
        {"one of several",
         POLICY(ALLOW("'Principal':{'AWS':['arn:aws:iam::" ACCOUNT ":user/other','" USER
                      "']}," DECRYPT)),
         CLV_IAM_ALLOW},
        {"the account's root",
         POLICY(ALLOW("'Principal':{'AWS':'arn:aws:iam::" ACCOUNT ":root'}," DECRYPT)),
         CLV_IAM_DELEGATED},
        {"the account's id", POLICY(ALLOW("'Principal':{'AWS':'" ACCOUNT "'}," DECRYPT)),
         CLV_IAM_DELEGATED},
        {"another account", POLICY(ALLOW("'Principal':{'AWS':'210987654321'}," DECRYPT)),
         CLV_IAM_NONE},
        {"another user",
         POLICY(ALLOW("'Principal':{'AWS':'arn:aws:iam::" ACCOUNT ":user/other'}," DECRYPT)),
         CLV_IAM_NONE},
        {"a user whose name goes on", POLICY(ALLOW("'Principal':{'AWS':'" USER "2'}," DECRYPT)),
         CLV_IAM_NONE},
        {"a service", POLICY(ALLOW("'Principal':{'Service':'ec2.amazonaws.com'}," DECRYPT)),
         CLV_IAM_NONE},
        {"everyone but the caller", POLICY(ALLOW("'NotPrincipal':{'AWS':'" USER "'}," DECRYPT)),
         CLV_IAM_NONE},
        {"everyone but another",
         POLICY(ALLOW("'NotPrincipal':{'AWS':'arn:aws:iam::" ACCOUNT ":user/other'}," DECRYPT)),
         CLV_IAM_ALLOW},
        {"another action", POLICY(ALLOW(ME ",'Action':'kms:Encrypt','Resource':'*'")),
         CLV_IAM_NONE},
        {"actions in any case", POLICY(ALLOW(ME ",'Action':'KMS:decrypt','Resource':'*'")),
         CLV_IAM_ALLOW},
        {"a wildcard action", POLICY(ALLOW(ME ",'Action':'kms:De*','Resource':'*'")),
         CLV_IAM_ALLOW},
        {"a wildcard of one letter", POLICY(ALLOW(ME ",'Action':'kms:Decryp?','Resource':'*'")),
         CLV_IAM_ALLOW},
        {"a wildcard that does not fit", POLICY(ALLOW(ME ",'Action':'kms:Enc*','Resource':'*'")),
         CLV_IAM_NONE},
        {"NotAction of it", POLICY(ALLOW(ME ",'NotAction':'kms:Decrypt','Resource':'*'")),
         CLV_IAM_NONE},
        {"NotAction of another", POLICY(ALLOW(ME ",'NotAction':['kms:Encrypt'],'Resource':'*'")),
         CLV_IAM_ALLOW},
        {"the key's ARN", POLICY(ALLOW(ME ",'Action':'kms:*','Resource':'" KEY "'")),
         CLV_IAM_ALLOW},
        {"another key's ARN", POLICY(ALLOW(ME ",'Action':'kms:*','Resource':'" KEY "0'")),
         CLV_IAM_NONE},
        {"NotResource of it", POLICY(ALLOW(ME ",'Action':'kms:*','NotResource':'" KEY "'")),
         CLV_IAM_NONE},
        {"a deny beats an allow before it", POLICY(ALLOW(ME "," DECRYPT) "," DENY(ANY "," DECRYPT)),
         CLV_IAM_DENY},
        {"a deny beats an allow behind it", POLICY(DENY(ANY "," DECRYPT) "," ALLOW(ME "," DECRYPT)),
         CLV_IAM_DENY},
        {"a deny of the account's root",
         POLICY(ALLOW(ME "," DECRYPT) "," DENY("'Principal':{'AWS':'arn:aws:iam::" ACCOUNT
                                               ":root'}," DECRYPT)),
         CLV_IAM_DENY},
        {"a deny of another action",
         POLICY(ALLOW(ME "," DECRYPT) "," DENY(ANY ",'Action':'kms:Encrypt','Resource':'*'")),
         CLV_IAM_ALLOW},
        {"a deny whose condition fails",
         POLICY(ALLOW(ME "," DECRYPT) "," DENY(
             ANY "," DECRYPT ",'Condition':{'StringEquals':{'kms:CallerAccount':'1'}}")),
         CLV_IAM_ALLOW},
        {"no statement", POLICY(""), CLV_IAM_NONE},
    };
    check_rows(rows, ROWS(rows));
}

static void decides_by_condition(void **state)
{
    (void)state;
    static const row rows[] = {
        {"the image",
         WHEN("'StringEqualsIgnoreCase':{'kms:RecipientAttestation:ImageSha384':"
              "'0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF'}"),
         CLV_IAM_ALLOW},
        {"the image in another case, compared exactly",
         WHEN("'StringEquals':{'kms:RecipientAttestation:ImageSha384':"
              "'0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF'}"),
         CLV_IAM_NONE},
        {"another image", WHEN("'StringEquals':{'kms:RecipientAttestation:ImageSha384':'00'}"),
         CLV_IAM_NONE},
        {"a PCR that the document lacks",
         WHEN("'StringEquals':{'kms:RecipientAttestation:PCR8':'" PCR0 "'}"), CLV_IAM_NONE},
        {"an empty pin for a PCR that is absent",
         WHEN("'StringEquals':{'kms:RecipientAttestation:PCR8':''}"), CLV_IAM_NONE},
        {"a NitroTPM key with an enclave's document",
         WHEN("'StringEquals':{'kms:RecipientAttestation:NitroTPMPCR0':'" PCR0 "'}"), CLV_IAM_NONE},
        {"two values, one fits",
         WHEN("'StringEquals':{'kms:RecipientAttestation:PCR0':['00','" PCR0 "']}"), CLV_IAM_ALLOW},
        {"two keys, both fit",
         WHEN("'StringEquals':{'kms:RecipientAttestation:PCR0':'" PCR0
              "','kms:EncryptionContext:Purpose':'AgentSecrets'}"),
         CLV_IAM_ALLOW},
        {"two keys, one fails",
         WHEN("'StringEquals':{'kms:RecipientAttestation:PCR0':'" PCR0
              "','kms:EncryptionContext:Purpose':'Other'}"),
         CLV_IAM_NONE},
        {"two operators, one fails",
         WHEN("'StringEquals':{'kms:CallerAccount':'" ACCOUNT
              "'},'StringLike':{'kms:EncryptionContext:Purpose':'X*'}"),
         CLV_IAM_NONE},
        {"keys in any case",
         WHEN("'StringEquals':{'KMS:encryptionContext:purpose':'AgentSecrets'}"), CLV_IAM_ALLOW},
        {"like", WHEN("'StringLike':{'kms:EncryptionContext:Purpose':'Agent*'}"), CLV_IAM_ALLOW},
        {"like, in another case", WHEN("'StringLike':{'kms:EncryptionContext:Purpose':'agent*'}"),
         CLV_IAM_NONE},
        {"not like", WHEN("'StringNotLike':{'kms:EncryptionContext:Purpose':'Agent*'}"),
         CLV_IAM_NONE},
        {"a wildcard is no wildcard in StringEquals",
         WHEN("'StringEquals':{'kms:EncryptionContext:Purpose':'Agent*'}"), CLV_IAM_NONE},
        {"not equals, equal", WHEN("'StringNotEquals':{'kms:CallerAccount':'" ACCOUNT "'}"),
         CLV_IAM_NONE},
        {"not equals, other", WHEN("'StringNotEquals':{'kms:CallerAccount':'1'}"), CLV_IAM_ALLOW},
        {"not equals, any of the values",
         WHEN("'StringNotEquals':{'kms:CallerAccount':['1','" ACCOUNT "']}"), CLV_IAM_NONE},
        {"not equals, absent", WHEN("'StringNotEquals':{'kms:RecipientAttestation:PCR8':'x'}"),
         CLV_IAM_ALLOW},
        {"if exists, absent", WHEN("'StringEqualsIfExists':{'kms:RecipientAttestation:PCR8':'x'}"),
         CLV_IAM_ALLOW},
        {"if exists, present and other",
         WHEN("'StringEqualsIfExists':{'kms:RecipientAttestation:PCR0':'x'}"), CLV_IAM_NONE},
        {"null true, absent", WHEN("'Null':{'kms:RecipientAttestation:PCR8':'true'}"),
         CLV_IAM_ALLOW},
        {"null true, present", WHEN("'Null':{'kms:RecipientAttestation:PCR0':true}"), CLV_IAM_NONE},
        {"null false, present", WHEN("'Null':{'kms:RecipientAttestation:PCR0':'false'}"),
         CLV_IAM_ALLOW},
        {"null false, absent", WHEN("'Null':{'kms:RecipientAttestation:PCR8':'false'}"),
         CLV_IAM_NONE},
        {"bool", WHEN("'Bool':{'aws:SecureTransport':'true'}"), CLV_IAM_ALLOW},
        {"bool, other", WHEN("'Bool':{'aws:SecureTransport':false}"), CLV_IAM_NONE},
        {"bool, absent", WHEN("'Bool':{'kms:GrantIsForAWSResource':'true'}"), CLV_IAM_NONE},
        {"any value, one fits",
         WHEN("'ForAnyValue:StringEquals':{'kms:EncryptionContextKeys':['enclave','x']}"),
         CLV_IAM_ALLOW},
        {"any value, none fits",
         WHEN("'ForAnyValue:StringEquals':{'kms:EncryptionContextKeys':'x'}"), CLV_IAM_NONE},
        {"any value, absent", WHEN("'ForAnyValue:StringEquals':{'aws:TagKeys':'x'}"), CLV_IAM_NONE},
        {"all values, all fit",
         WHEN("'ForAllValues:StringEquals':{'kms:EncryptionContextKeys':['enclave','Purpose']}"),
         CLV_IAM_ALLOW},
        {"all values, one does not",
         WHEN("'ForAllValues:StringEquals':{'kms:EncryptionContextKeys':'Purpose'}"), CLV_IAM_NONE},
        {"all values, absent", WHEN("'ForAllValues:StringEquals':{'aws:TagKeys':'x'}"),
         CLV_IAM_ALLOW},
        {"context keys keep their case",
         WHEN("'ForAnyValue:StringEquals':{'kms:EncryptionContextKeys':'purpose'}"), CLV_IAM_NONE},
        {"an ARN with a wildcard",
         WHEN("'ArnLike':{'aws:PrincipalArn':'arn:aws:iam::" ACCOUNT ":user/*'}"), CLV_IAM_ALLOW},
        {"numbers, at least",
         WHEN("'NumericGreaterThanEquals':{'kms:ScheduleKeyDeletionPendingWindowInDays':7}"),
         CLV_IAM_ALLOW},
        {"numbers, less",
         WHEN("'NumericLessThan':{'kms:ScheduleKeyDeletionPendingWindowInDays':'7'}"),
         CLV_IAM_NONE},
    };
    check_rows(rows, ROWS(rows));
}

static void refuses_policies_that_it_cannot_evaluate(void **state)
{
    (void)state;
    static const struct {
        const char *policy, *sentence;
    } rows[] = {
        {"[]", "Statement"},
        {"{'Version':'2012-10-17'}", "Statement"},
        {"{'Version':'2020-01-01','Statement':[]}", "2020-01-01"},
        {POLICY("'x'"), "object"},
        {POLICY("{'Effect':'Maybe'," ME "," DECRYPT "}"), "Effect"},
        {POLICY(ALLOW(DECRYPT)), "Principal"},
        {POLICY(ALLOW(ME ",'NotPrincipal':'*'," DECRYPT)), "Principal"},
        {POLICY(ALLOW("'Principal':'someone'," DECRYPT)), "invalid principals"},
        {POLICY(ALLOW("'Principal':{'AWS':'arn:aws:iam::" ACCOUNT ":user/*'}," DECRYPT)),
         "invalid principals"},
        {POLICY(ALLOW("'Principal':{'AWS':'AIDACKCEVSQ6C2EXAMPLE'}," DECRYPT)),
         "invalid principals"},
        {POLICY(ALLOW("'Principal':{'Martian':'x'}," DECRYPT)), "invalid principals"},
        {POLICY(ALLOW(ME ",'Resource':'*'")), "Action"},
        {POLICY(ALLOW(ME ",'Action':[],'Resource':'*'")), "Action"},
        {POLICY(ALLOW(ME ",'Action':'kms:*'")), "Resource"},
        {POLICY(ALLOW(ME ",'Action':'kms:*','Resource':'${aws:username}'")), "variables"},
        {POLICY(ALLOW(ME "," DECRYPT ",'Extra':1")), "Sid"},
        {WHEN("'StringEquals':{'kms:ViaService':'s3.us-east-1.amazonaws.com'}"), "kms:ViaService"},
        {WHEN("'StringEquals':{'kms:RecipientAttestation':'x'}"), "kms:RecipientAttestation"},
        {WHEN("'StringEquals':{'kms:RecipientAttestation:PCR32':'x'}"), "PCR32"},
        {WHEN("'StringEquals':{'aws:PrincipalOrgID':'x'}"), "aws:PrincipalOrgID"},
        {WHEN("'DateLessThan':{'aws:CurrentTime':'2030-01-01'}"), "DateLessThan"},
        {WHEN("'ForSomeValues:StringEquals':{'aws:TagKeys':'x'}"), "ForSomeValues"},
        {WHEN("'NullIfExists':{'aws:TagKeys':'true'}"), "NullIfExists"},
        {WHEN("'StringEquals':{}"), "object"},
        {WHEN("'StringEquals':{'kms:CallerAccount':[]}"), "none"},
        {WHEN("'Null':{'kms:EncryptionContextKeys':[]}"), "none"},
        {WHEN("'Null':{'kms:EncryptionContextKeys':'perhaps'}"), "true or false"},
        {WHEN("'Bool':{'aws:SecureTransport':['true','1']}"), "true or false"},
        {WHEN("'StringEquals':{'kms:RecipientAttestation:PCR01':'x'}"), "PCR01"},
        {WHEN("'StringEquals':{'kms:CallerAccount':null}"), "null"},
        {WHEN("'StringEquals':{'kms:CallerAccount':'${aws:username}'}"), "variables"},
    };
    for (size_t i = 0; i < ROWS(rows); i++) {
        clv_auto(clv_json) policy = parse(rows[i].policy);
        clv_error err = {0};
        clv_status status = clv_policy_check(policy, CLV_POLICY_KEY, &err);
        if (status != CLV_KMS_MALFORMED_POLICY || strstr(err.text, rows[i].sentence) == NULL)
            fail_msg("%s: found %s: %s", rows[i].policy, clv_status_slug(status), err.text);
    }
}

static void matches_wildcards_without_backtracking_forever(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool matches;
    } rows[] = {
        {"", "", true},
        {"*", "", true},
        {"?", "", false},
        {"a*b", "ab", true},
        {"a*b", "axxb", true},
        {"a*b", "axxbc", false},
        {"*a*a*", "aa", true},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"**", "x", true},
        {"*x", "xxxy", false},
        {"a", "A", false},
        {"*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
    };
    for (size_t i = 0; i < ROWS(rows); i++)
        assert_int_equal(clv_iam_match(rows[i].pattern, rows[i].text, false), rows[i].matches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decides_by_principal_action_and_resource),
        cmocka_unit_test(decides_by_condition),
        cmocka_unit_test(refuses_policies_that_it_cannot_evaluate),
        cmocka_unit_test(matches_wildcards_without_backtracking_forever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

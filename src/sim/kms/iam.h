/*
 * Policies: the part of IAM's policy language that key policies and identity policies of KMS need
 * (docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies.html, "Policy evaluation logic").
 *
 * Statements have Effect, Principal or NotPrincipal (key policies only), Action or NotAction,
 * Resource or NotResource and Condition. Pure: policy and request in, verdict out.
 *
 * What is not evaluated is refused when the policy is written, never ignored: a policy that means
 * something else here than at AWS would be worse than none.
 */
#ifndef CLV_SIM_KMS_IAM_H
#define CLV_SIM_KMS_IAM_H

#include <jansson.h>

#include <claviger/bytes.h>

#define CLV_POLICY_MAX   32768 /* KMS API reference, PutKeyPolicy: Policy */
#define CLV_ACCOUNT_SIZE 13    /* twelve digits and a NUL */
#define CLV_ARN_MAX      2048

typedef enum clv_policy_kind {
    CLV_POLICY_KEY,      /* with principals */
    CLV_POLICY_IDENTITY, /* of the caller, without */
} clv_policy_kind;

/* Who asks. For a role's session: arn is the session's, principal_arn the role's. */
typedef struct clv_iam_principal {
    const char *arn;
    const char *principal_arn;
    const char *account;
} clv_iam_principal;

typedef struct clv_iam_request {
    clv_iam_principal principal;
    const char *action;    /* "kms:Decrypt" */
    const char *resource;  /* a key's ARN, or "*" */
    const json_t *context; /* condition keys in lower case to arrays of texts */
} clv_iam_request;

typedef enum clv_iam_verdict {
    CLV_IAM_NONE,      /* no statement speaks of the request */
    CLV_IAM_DELEGATED, /* allowed to the caller's account: its identity policies decide */
    CLV_IAM_ALLOW,
    CLV_IAM_DENY,
} clv_iam_verdict;

/* Whether the policy can be evaluated in full. CLV_KMS_MALFORMED_POLICY says what cannot. */
CLV_NODISCARD clv_status clv_policy_check(const json_t *policy, clv_policy_kind kind,
                                          clv_error *err);

/* An explicit deny wins over everything; the policy must have passed clv_policy_check(). */
clv_iam_verdict clv_policy_evaluate(const json_t *policy, clv_policy_kind kind,
                                    const clv_iam_request *request);

/* IAM's wildcards: '*' any run, '?' one character; letters in either case where asked. */
bool clv_iam_match(const char *pattern, const char *text, bool any_case);

/* Conditions, in iam_condition.c. */
CLV_NODISCARD clv_status clv_condition_check(const json_t *condition, clv_error *err);
bool clv_condition_holds(const json_t *condition, const json_t *context);

/* The account of an ARN (its fifth part), or of a bare account id; false when it has neither. */
bool clv_arn_account(const char *text, char out[CLV_ACCOUNT_SIZE]);

#endif

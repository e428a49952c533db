/* What a policy allows, in words, and what of it is weaker than it could be. */
#ifndef CLV_CLI_LINT_H
#define CLV_CLI_LINT_H

#include <base/json.h>
#include <claviger/policy.h>

/* What the file says, one line a fact, on standard output. */
CLV_NODISCARD clv_status clv_lint_describe(const clv_policy *policy, clv_error *err);

/*
 * The warnings: an array of {"warning": slug, "text": sentence}. docs/policy.md lists them. A new
 * reference.
 */
CLV_NODISCARD clv_status clv_lint_warnings(const clv_policy *policy, json_t **out, clv_error *err);

/* Who may do what, one line for each agent and capability, on standard output. */
void clv_lint_table(const clv_policy *policy);

#endif

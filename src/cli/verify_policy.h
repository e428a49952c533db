/* What a policy file demands of a genuine document, for `claviger verify --policy`. */
#ifndef CLV_CLI_VERIFY_POLICY_H
#define CLV_CLI_VERIFY_POLICY_H

#include <claviger/policy.h>

/* Read and parse the file; errors name it. */
CLV_NODISCARD clv_status clv_verify_policy_read(const char *path, clv_policy **out, clv_error *err);

/*
 * PCR16 measures this very policy, the pins match, the image is not in debug mode unless the
 * policy allows it, and with a baseline (a file, and its signature in the same name with .minisig
 * behind) a release that one of the policy's keys signed matches. baseline may be NULL.
 */
CLV_NODISCARD clv_status clv_verify_policy_check(const clv_policy *policy, const char *baseline,
                                                 const clv_document *document, clv_error *err);

#endif

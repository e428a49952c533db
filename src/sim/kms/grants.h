/* Grants (AWS KMS developer guide, "Grants in AWS KMS"). */
#ifndef CLV_SIM_KMS_GRANTS_H
#define CLV_SIM_KMS_GRANTS_H

#include <sim/kms/call.h>

/* Whether a grant lets the caller do this operation with the key under this encryption context. */
CLV_NODISCARD clv_status clv_grants_allow(clv_call *call, const clv_key *key, const char *operation,
                                          const json_t *context, bool *allowed, clv_error *err);

/*
 * GrantTokens: each must be of a grant. A grant is effective at once here, so that a token gives
 * nothing that the grant does not. CLV_KMS_INVALID_GRANT_TOKEN.
 */
CLV_NODISCARD clv_status clv_grants_check_tokens(clv_call *call, clv_error *err);

/* Whether a grant, as CreateGrant stored it, is for this operation. */
bool clv_grant_names_operation(const json_t *grant, const char *operation);

#endif

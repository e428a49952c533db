/* Grants (AWS KMS developer guide, "Grants in AWS KMS"). */
#ifndef CLV_SIM_KMS_GRANTS_H
#define CLV_SIM_KMS_GRANTS_H

#include <sim/kms/call.h>

/* Whether a grant lets the caller do this operation with the key under this encryption context. */
CLV_NODISCARD clv_status clv_grants_allow(clv_call *call, const clv_key *key, const char *operation,
                                          const json_t *context, bool *allowed, clv_error *err);

#endif

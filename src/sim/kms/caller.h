/* Principals: whose access key is whose. */
#ifndef CLV_SIM_KMS_CALLER_H
#define CLV_SIM_KMS_CALLER_H

#include <sim/kms/call.h>
#include <sim/kms/sigv4.h>

/*
 * Who signed the request, shown by the signature and, for session credentials, the token.
 * MissingAuthenticationToken, IncompleteSignature, UnrecognizedClient, ExpiredToken,
 * InvalidSignature.
 */
CLV_NODISCARD clv_status clv_caller_authenticate(clv_kms_server *server,
                                                 const clv_http_request *request, uint64_t now_ms,
                                                 clv_caller *out, clv_error *err);

/* A principal to be added. The ARN is of an IAM user, of a role's session (sts) or of a root. */
typedef struct clv_new_principal {
    const char *arn;
    const char *policy;  /* its identity policy; NULL: kms:* on everything */
    uint64_t expires_ms; /* session credentials with a token until then; 0: long-lived */
} clv_new_principal;

/*
 * Make credentials for it. The answer has the members of the credentials that IMDS gives:
 * AccessKeyId, SecretAccessKey, and for a session Token and Expiration.
 */
CLV_NODISCARD clv_status clv_caller_create(clv_db *db, const clv_new_principal *principal,
                                           json_t **out, clv_error *err);

#endif

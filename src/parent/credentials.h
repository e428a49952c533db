/*
 * Where the parent's AWS credentials come from. They are handed to the enclave as the JSON object
 * that IMDS gives, and never logged. The text is a secret: it is held in a clv_buf, which wipes.
 */
#ifndef CLV_PARENT_CREDENTIALS_H
#define CLV_PARENT_CREDENTIALS_H

#include <base/json.h>

/* "env": AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. "file:PATH": a JSON object as
 * IMDS gives it, read again at each call. CLV_KMS_CREDENTIALS names the source and what it lacks.
 */
CLV_NODISCARD clv_status clv_credentials_source_check(const char *source, clv_error *err);
CLV_NODISCARD clv_status clv_credentials_fetch(const char *source, clv_buf *out, clv_error *err);

#endif

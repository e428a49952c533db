/*
 * Where the parent's AWS credentials come from. They are handed to the enclave as the JSON object
 * that IMDS gives, and never logged. The text is a secret: it is held in a clv_buf, which wipes.
 *
 *     env              AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *     file:PATH        a JSON object as IMDS gives it
 *     profile[:NAME]   a section of the shared credentials file (AWS_SHARED_CREDENTIALS_FILE, else
 *                      ~/.aws/credentials) or of the shared config file (AWS_CONFIG_FILE, else
 *                      ~/.aws/config); NAME else AWS_PROFILE else "default"
 *     imds             the instance's role, by IMDSv2 (AWS_EC2_METADATA_SERVICE_ENDPOINT)
 *     container        ECS and EKS Pod Identity: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or
 *                      _FULL_URI, AWS_CONTAINER_AUTHORIZATION_TOKEN or _FILE
 *     web-identity     STS AssumeRoleWithWebIdentity: AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN,
 *                      AWS_ROLE_SESSION_NAME, AWS_REGION, AWS_ENDPOINT_URL_STS
 *     auto             the first of env, web-identity, profile, container, imds that is configured
 *
 * The last four are kept and fetched again CLV_CREDENTIALS_EARLY_MS before they expire, by a thread
 * of their own; while a source is out, the old ones are given until they expire, and it is asked
 * again and again with growing pauses. The others are read at each call.
 */
#ifndef CLV_PARENT_CREDENTIALS_H
#define CLV_PARENT_CREDENTIALS_H

#include <base/json.h>

#define CLV_CREDENTIALS_EARLY_MS ((uint64_t)15 * 60 * 1000)

typedef struct clv_provider clv_provider;

/* CLV_USAGE names the forms. The first fetch is made at the first call. */
CLV_NODISCARD clv_status clv_provider_new(const char *source, clv_provider **out, clv_error *err);
void clv_provider_free(clv_provider **provider);

/*
 * Take another source, or the same anew: it is asked at once, and until it gives credentials those
 * from before are given while they are valid. CLV_USAGE changes nothing.
 */
CLV_NODISCARD clv_status clv_provider_reload(clv_provider *provider, const char *source,
                                             clv_error *err);

/* Whether it is the name of a source: CLV_USAGE. */
CLV_NODISCARD clv_status clv_provider_check(const char *source, clv_error *err);

/* What can be told of credentials without telling them. */
typedef struct clv_provider_report {
    char source[64]; /* without a path or a profile's name */
    uint64_t fetches, failures;
    bool valid;
    uint64_t expires_ms; /* 0: never, or not known */
    uint64_t failed_ms;  /* when the last failure was; 0: none since the last success */
    char failure[CLV_ERROR_TEXT_MAX]; /* its sentence */
} clv_provider_report;
void clv_provider_tell(clv_provider *provider, clv_provider_report *out);

/* The JSON object, appended. CLV_KMS_CREDENTIALS names the source and what it lacks. */
CLV_NODISCARD clv_status clv_provider_get(clv_provider *provider, clv_buf *out, clv_error *err);

#endif

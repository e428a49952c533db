/* Between the files of this room: the pieces of reading a policy. */
#ifndef CLV_POLICY_POLICY_H
#define CLV_POLICY_POLICY_H

#include <base/json.h>
#include <claviger/policy.h>

/* 1 to CLV_POLICY_NAME_MAX of A-Z a-z 0-9 . _ -: it appears in contexts, capabilities and logs. */
bool clv_policy_is_name(const char *text);

/*
 * A full key ARN, arn:PARTITION:kms:REGION:ACCOUNT:key/ID (AWS KMS developer guide, "Key ARN").
 * Aliases and bare ids are refused (R10). region: what the ARN's region must be, or NULL.
 */
CLV_NODISCARD clv_status clv_policy_check_arn(const char *arn, const char *region, const char *path,
                                              clv_error *err);

/* The sections "keys" and "agents". */
CLV_NODISCARD clv_status clv_policy_read_keys(const json_t *keys, clv_policy *out, clv_error *err);
CLV_NODISCARD clv_status clv_policy_read_agents(const json_t *agents, clv_policy *out,
                                                clv_error *err);

/* The section "witness", after the keys. */
CLV_NODISCARD clv_status clv_policy_read_witness(const json_t *witness, clv_policy *out,
                                                 clv_error *err);

/* https://HOST[:PORT]: nothing that a URL parser could read another host out of. */
bool clv_policy_is_endpoint(const char *url);

/* A member of 1 to max bytes, copied: CLV_JSON_VALUE. */
CLV_NODISCARD clv_status clv_policy_read_text(clv_json_reader *r, const char *name, size_t max,
                                              char **out, clv_error *err);

#define CLV_POLICY_ENDPOINT_MAX 512
#define CLV_POLICY_PATH_MAX     512

/* Whether a context value is a literal or made of known templates: CLV_POLICY_TEMPLATE. */
CLV_NODISCARD clv_status clv_policy_check_template(const char *value, clv_error *err);

#endif

/* The sources of credentials.h, one function each: a JSON object as IMDS gives it, appended. */
#ifndef CLV_PARENT_CREDENTIALS_SOURCES_H
#define CLV_PARENT_CREDENTIALS_SOURCES_H

#include <base/json.h>

#define CLV_CREDENTIALS_MAX 16384

/* A variable of the environment; NULL where it is absent or empty. */
const char *clv_credentials_variable(const char *name);

/* Whether a profile is chosen, or a shared credentials file is there. */
bool clv_credentials_have_profile(void);

/* argument: what follows the colon of the source, "" where there is none. */
typedef clv_status (*clv_credentials_source)(const char *argument, clv_buf *out, clv_error *err);

clv_status clv_credentials_from_env(const char *argument, clv_buf *out, clv_error *err);
clv_status clv_credentials_from_file(const char *argument, clv_buf *out, clv_error *err);
clv_status clv_credentials_from_profile(const char *argument, clv_buf *out, clv_error *err);
clv_status clv_credentials_from_imds(const char *argument, clv_buf *out, clv_error *err);
clv_status clv_credentials_from_container(const char *argument, clv_buf *out, clv_error *err);
clv_status clv_credentials_from_web_identity(const char *argument, clv_buf *out, clv_error *err);
clv_status clv_credentials_from_any(const char *argument, clv_buf *out, clv_error *err);

/* The object, from its parts; token and expiration may be NULL. */
clv_status clv_credentials_make(const char *id, const char *secret, const char *token,
                                const char *expiration, clv_buf *out, clv_error *err);

/* Only the shape that makes it worth sending on: the enclave checks every member. *expires_ms is 0
 * where none is given. The sentence never quotes the text. */
clv_status clv_credentials_check(clv_bytes text, uint64_t *expires_ms, clv_error *err);

#endif

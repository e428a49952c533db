/*
 * AWS Signature Version 4 (AWS IAM user guide, "Create a signed AWS API request") for requests to
 * the root path. Ours and not libcurl's because the time has to be the attested one, and because
 * the secret key then never leaves guarded memory.
 */
#ifndef CLV_KMS_SIGV4_H
#define CLV_KMS_SIGV4_H

#include <claviger/secret.h>

/* The name in lower case; the value without white space at its ends. */
typedef struct clv_header {
    const char *name;
    clv_bytes value;
} clv_header;

typedef struct clv_sigv4 {
    const char *method;
    const char *query;        /* canonical already; "" for none */
    const clv_header *header; /* all that are signed, sorted by name; host among them */
    size_t header_count;
    clv_bytes body;
    const char *region;
    const char *service;
    uint64_t now_ms; /* the instant that x-amz-date names */
} clv_sigv4;

/* "20150830T123600Z": x-amz-date. */
#define CLV_SIGV4_DATE_SIZE 17
CLV_NODISCARD clv_status clv_sigv4_date(uint64_t now_ms, char out[CLV_SIGV4_DATE_SIZE],
                                        clv_error *err);

/* The value of the Authorization header, appended. secret_key is used in place; what is derived
 * from it lives in guarded memory and is wiped. */
CLV_NODISCARD clv_status clv_sigv4_authorize(const clv_sigv4 *request, const char *access_key_id,
                                             const clv_secret *secret_key, clv_buf *out,
                                             clv_error *err);

#endif

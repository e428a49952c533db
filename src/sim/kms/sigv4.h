/*
 * AWS Signature Version 4, the verifying side, written from "Create a signed AWS API request" of
 * the IAM user guide (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html): requests
 * signed in the Authorization header.
 *
 * Pure: the request, the secret and the time come in as arguments. Errors carry AWS's names:
 * MissingAuthenticationToken, IncompleteSignature, InvalidSignature (CLV_KMS_…).
 */
#ifndef CLV_SIM_KMS_SIGV4_H
#define CLV_SIM_KMS_SIGV4_H

#include <claviger/bytes.h>

#define CLV_HEADERS_MAX      64
#define CLV_ACCESS_KEY_MAX   128
#define CLV_SIGV4_SKEW_MS    (5 * 60 * 1000) /* how far a request's date may be from now */
#define CLV_SIGV4_DIGEST_HEX 64

typedef struct clv_http_header {
    const char *name;
    const char *value;
} clv_http_header;

typedef struct clv_http_request {
    const char *method;
    const char *target; /* path and query exactly as in the request line */
    clv_http_header header[CLV_HEADERS_MAX];
    size_t header_count;
    clv_bytes body;
} clv_http_request;

/* The value of the first header of this name, in any case, or NULL. */
const char *clv_http_header_get(const clv_http_request *request, const char *name);

/* What the Authorization header says. Views point into the request's header values. */
typedef struct clv_sigv4_claim {
    char access_key[CLV_ACCESS_KEY_MAX + 1];
    clv_bytes scope; /* date/region/service/aws4_request */
    clv_bytes date, region, service;
    clv_bytes signed_headers; /* names in lower case, separated by ';' */
    clv_bytes signature;      /* hex */
    const char *timestamp;    /* X-Amz-Date, or Date */
    const char *token;        /* X-Amz-Security-Token, or NULL */
} clv_sigv4_claim;

CLV_NODISCARD clv_status clv_sigv4_parse(const clv_http_request *request, clv_sigv4_claim *out,
                                         clv_error *err);

typedef struct clv_sigv4_expected {
    const char *region;
    const char *service;
    uint64_t now_ms;
} clv_sigv4_expected;

/*
 * Whether the secret made this signature over this request for this region and service, and the
 * request's date is within CLV_SIGV4_SKEW_MS of now. Signatures are compared in constant time.
 */
CLV_NODISCARD clv_status clv_sigv4_verify(const clv_http_request *request,
                                          const clv_sigv4_claim *claim, const char *secret,
                                          const clv_sigv4_expected *expected, clv_error *err);

/* The steps of it, for tests against AWS's published examples. */
CLV_NODISCARD clv_status clv_sigv4_canonical_request(const clv_http_request *request,
                                                     const clv_sigv4_claim *claim, clv_buf *out,
                                                     clv_error *err);
CLV_NODISCARD clv_status clv_sigv4_string_to_sign(const clv_sigv4_claim *claim,
                                                  clv_bytes canonical_request, clv_buf *out,
                                                  clv_error *err);
CLV_NODISCARD clv_status clv_sigv4_signature(const clv_sigv4_claim *claim, const char *secret,
                                             clv_bytes string_to_sign,
                                             char out[CLV_SIGV4_DIGEST_HEX + 1], clv_error *err);

#endif

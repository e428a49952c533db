/*
 * One certificate of a document (RFC 5280), read strictly: DER X.509 v3 with nothing behind it,
 * signed with ecdsa-with-SHA384 (RFC 5758 section 3.2), holding a key on the named curve P-384
 * (RFC 5480), extensions once each and no critical one that is not understood here. What links it
 * to its neighbours is chain.h's part.
 */
#ifndef CLV_ATTESTATION_CERTIFICATE_H
#define CLV_ATTESTATION_CERTIFICATE_H

#include <openssl/x509.h>

#include <claviger/bytes.h>

/* Bits of keyUsage as RFC 5280 section 4.2.1.3 numbers them. */
#define CLV_USAGE_DIGITAL_SIGNATURE (UINT32_C(1) << 0)
#define CLV_USAGE_KEY_CERT_SIGN     (UINT32_C(1) << 5)

typedef struct clv_certificate {
    X509 *x509;
    EVP_PKEY *key;
    int64_t not_before_s; /* since 1970, both ends inclusive */
    int64_t not_after_s;
    bool has_basic, ca;
    int64_t path_length; /* -1: none */
    bool has_usage;
    uint32_t usage;
} clv_certificate;

#define CLV_CERTIFICATE_INIT                         \
    {                                                \
        NULL, NULL, 0, 0, false, false, -1, false, 0 \
    }
void clv_certificate_drop(clv_certificate *certificate);

/*
 * CLV_ATT_CERT_PARSE: not DER, not v3, a time of another form, bytes behind it.
 * CLV_ATT_CERT_ALGORITHM, CLV_ATT_CERT_KEY, CLV_ATT_CERT_EXTENSION, CLV_ATT_CERT_CRITICAL.
 */
CLV_NODISCARD clv_status clv_certificate_parse(clv_bytes der, clv_certificate *out, clv_error *err);

#endif

/*
 * COSE_Sign1 (RFC 9052 section 4.2) with ES384 (RFC 9053 section 2.1), as the NSM makes it: an
 * array of four, untagged or under tag 18, protected header {1: -35}, unprotected header {}.
 */
#ifndef CLV_ATTESTATION_COSE_H
#define CLV_ATTESTATION_COSE_H

#include <openssl/evp.h>

#include <claviger/bytes.h>

#define CLV_COSE_TAG            18  /* RFC 9052 section 2 */
#define CLV_COSE_LABEL_ALG      1   /* RFC 9052 section 3.1 */
#define CLV_COSE_ES384          -35 /* RFC 9053 section 2.1 */
#define CLV_COSE_SIGNATURE_SIZE 96  /* r || s, RFC 9053 section 2.1 */

typedef struct clv_cose {
    bool tagged;
    clv_bytes protected_header;
    bool unprotected_null; /* null in place of {}: for clv_cose_check_unprotected() */
    clv_bytes payload;
    clv_bytes signature;
} clv_cose;

/*
 * Split the envelope; the views point into bytes. Checked are the array, the algorithm, the
 * lengths, that each head is in its shortest form (CLV_ATT_ENCODING) and that nothing follows. Null
 * in place of the unprotected header is only noted here: it is refused once the payload was read,
 * whose faults say more about where it came from.
 */
CLV_NODISCARD clv_status clv_cose_parse(clv_bytes bytes, clv_cose *out, clv_error *err);
CLV_NODISCARD clv_status clv_cose_check_unprotected(const clv_cose *cose, clv_error *err);

/*
 * Whether key signed Sig_structure ["Signature1", protected, h'', payload] (RFC 9052 section 4.4).
 * CLV_ATT_SIGNATURE_RANGE: r or s is zero or not below the order of P-384. CLV_ATT_SIGNATURE.
 */
CLV_NODISCARD clv_status clv_cose_verify(clv_bytes protected_header, clv_bytes payload,
                                         clv_bytes signature, EVP_PKEY *key, clv_error *err);

#endif

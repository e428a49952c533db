/*
 * The verifier: an attestation document in, a verdict out.
 *
 * Pure: nothing here does I/O, reads a clock or keeps state. The root and the time come in as
 * arguments. Documents are COSE_Sign1 (RFC 9052 section 4.2) over a CBOR map, as described in
 * "Verifying the root of trust" of the AWS Nitro Enclaves user guide and in
 * github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md.
 *
 * clv_document_parse() only says what the bytes claim. clv_document_verify() says whether the
 * claim is genuine: signature, chain to the pinned root, times, limits. The clv_document_match_*()
 * functions say whether a genuine document is the one wanted.
 */
#ifndef CLAVIGER_ATTESTATION_H
#define CLAVIGER_ATTESTATION_H

#include <claviger/bytes.h>

/* Limits of a document: AWS attestation_process.md section 2; user_data, nonce and public_key go
 * to 1024 because genuine documents do. */
#define CLV_DOCUMENT_MAX     (16384 + 256) /* payload limit plus the COSE envelope */
#define CLV_PAYLOAD_MAX      16384
#define CLV_CERTIFICATE_MAX  1024
#define CLV_OPTIONAL_MAX     1024 /* user_data, nonce, public_key as received */
#define CLV_OPTIONAL_ASK_MAX 512  /* … as asked for (public_key: CLV_OPTIONAL_MAX) */
#define CLV_MODULE_ID_MAX    128
#define CLV_BUNDLE_MAX       8
#define CLV_PCR_COUNT        32
#define CLV_PCR_SIZE         48 /* SHA-384 */
#define CLV_ROOT_DIGEST_SIZE 32 /* SHA-256 of the root certificate's DER */

/* SHA-256 of the DER of "aws.nitro-enclaves" G1, AWS user guide "Verifying the root of trust". */
#define CLV_AWS_ROOT_SHA256 "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

typedef enum clv_document_kind {
    CLV_KIND_ENCLAVE,  /* Nitro Enclaves: the member is "pcrs" */
    CLV_KIND_NITROTPM, /* EC2 instance attestation: the member is "nitrotpm_pcrs" */
} clv_document_kind;

const char *clv_document_kind_name(clv_document_kind kind);

/* A bank of PCRs. Bit i of present is set when register i is there. */
typedef struct clv_pcrs {
    uint32_t present;
    uint8_t value[CLV_PCR_COUNT][CLV_PCR_SIZE];
} clv_pcrs;

/* An optional member: null and absent are both !present; zero length is present. */
typedef struct clv_optional {
    bool present;
    clv_bytes bytes;
} clv_optional;

/* What a document says. All views point into the bytes that were parsed. */
typedef struct clv_document {
    clv_document_kind kind;
    bool tagged; /* CBOR tag 18 in front (RFC 9052 section 2) */
    clv_bytes protected_header;
    clv_bytes payload;
    clv_bytes signature;   /* r || s, 48 bytes each */
    clv_bytes module_id;   /* UTF-8 */
    uint64_t timestamp_ms; /* since 1970 */
    clv_pcrs pcrs;
    clv_bytes certificate;            /* the leaf's DER */
    clv_bytes bundle[CLV_BUNDLE_MAX]; /* DER, root first */
    size_t bundle_count;
    clv_optional public_key;
    clv_optional user_data;
    clv_optional nonce;
} clv_document;

/*
 * Read the shape: every member present, of the right type, within its limits, once; nothing
 * behind it. No signature or certificate is looked at. Each failure has its own CLV_ATT_ code.
 * An indefinite length is accepted for the payload map alone.
 */
CLV_NODISCARD clv_status clv_document_parse(clv_bytes bytes, clv_document *out, clv_error *err);

typedef struct clv_verify_options {
    uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE]; /* what bundle[0] must hash to */
    clv_document_kind kind;                    /* what is required; the other is CLV_ATT_KIND */
    /*
     * The instant at which all certificates must be valid, beside the document's own timestamp
     * at which they always must: milliseconds since 1970, or CLV_AT_DOCUMENT for no other.
     */
    uint64_t at_ms;
} clv_verify_options;

#define CLV_AT_DOCUMENT UINT64_MAX

/* Options for the AWS root, an enclave document, CLV_AT_DOCUMENT. */
void clv_verify_options_init(clv_verify_options *options);

/*
 * Parse and verify: algorithm, root digest, each certificate (key, algorithm, names, signature,
 * time window, basicConstraints, path length, key usage, critical extensions), and the signature
 * over the RFC 9052 section 4.4 Sig_structure with the leaf's key. *out is filled only on CLV_OK.
 */
CLV_NODISCARD clv_status clv_document_verify(clv_bytes bytes, const clv_verify_options *options,
                                             clv_document *out, clv_error *err);

/* What a document must carry, byte for byte. A NULL p with n 0 in an optional that is !present
 * demands that the member be null or absent. */
typedef struct clv_binding {
    clv_optional public_key;
    clv_optional user_data;
    clv_optional nonce;
} clv_binding;

/* CLV_ATT_NONCE, CLV_ATT_USER_DATA or CLV_ATT_PUBLIC_KEY. Compared in constant time. */
CLV_NODISCARD clv_status clv_document_match_binding(const clv_document *document,
                                                    const clv_binding *expected, clv_error *err);

/*
 * Every register present in expected must be present in found, equal and not all zero:
 * CLV_ATT_PCR_MISSING, CLV_ATT_PCR_MISMATCH, CLV_ATT_PCR_ZERO. Nothing expected is an error too
 * (CLV_ATT_PCR_MISSING): an empty pin never matches.
 */
CLV_NODISCARD clv_status clv_pcrs_match(const clv_pcrs *found, const clv_pcrs *expected,
                                        clv_error *err);

/* Debug mode zeroes PCR0, 1 and 2 (AWS Nitro CLI, --debug-mode). True when PCR0 is absent or zero.
 */
bool clv_pcrs_debug(const clv_pcrs *pcrs);

/* One certificate's facts, for people: claviger inspect. */
typedef struct clv_certificate_facts {
    char subject[256];
    char issuer[256];
    char serial[64];
    uint64_t not_before_ms;
    uint64_t not_after_ms;
    bool ca;
    int path_length; /* -1: none */
} clv_certificate_facts;

CLV_NODISCARD clv_status clv_certificate_describe(clv_bytes der, clv_certificate_facts *out,
                                                  clv_error *err);

/*
 * The signed baseline: which releases this enclave may be.
 *
 *     { "version": 1,
 *       "releases": [ { "name": "1.4.0", "pcrs": { "0": "hex", "1": "hex", "2": "hex" } } ],
 *       "revoked": [ "1.3.0" ],
 *       "expires": "2027-01-31T00:00:00Z" }
 *
 * signed in minisign's format (jedisct1.github.io/minisign, "Signature format"), both with the
 * legacy "Ed" and the prehashed "ED" algorithm; public keys as minisign prints them ("RW…").
 */
#define CLV_BASELINE_MAX     65536
#define CLV_RELEASES_MAX     64
#define CLV_RELEASE_NAME_MAX 64
#define CLV_RELEASE_KEYS_MAX 8

typedef struct clv_release_key {
    uint8_t id[8];
    uint8_t key[32];
} clv_release_key;

typedef struct clv_release {
    char name[CLV_RELEASE_NAME_MAX + 1];
    bool revoked;
    clv_pcrs pcrs;
} clv_release;

typedef struct clv_baseline {
    clv_release release[CLV_RELEASES_MAX];
    size_t count;
    uint64_t expires_ms; /* since 1970, the last instant included; UINT64_MAX: never */
} clv_baseline;

/* The base64 line of a minisign public key. CLV_BASELINE_KEY. */
CLV_NODISCARD clv_status clv_release_key_parse(const char *text, clv_release_key *out,
                                               clv_error *err);

/*
 * Check the signature file's text over the baseline's bytes with one of the keys, then parse it.
 * Nothing of the baseline is looked at before its signature holds.
 */
CLV_NODISCARD clv_status clv_baseline_open(clv_bytes baseline, clv_bytes signature,
                                           const clv_release_key *keys, size_t key_count,
                                           clv_baseline *out, clv_error *err);

/* Parse without a signature: for `claviger baseline add`, never for a decision. */
CLV_NODISCARD clv_status clv_baseline_parse(clv_bytes baseline, clv_baseline *out, clv_error *err);

/*
 * at_ms, the time of the document that the registers come from, must not be behind the baseline's
 * last instant: CLV_BASELINE_EXPIRED. Find the release whose registers (0, 1 and 2 always, more
 * where listed) all match. CLV_BASELINE_REVOKED when a revoked one does, else CLV_BASELINE_NO_MATCH
 * when none does.
 */
CLV_NODISCARD clv_status clv_baseline_match(const clv_baseline *baseline, const clv_pcrs *found,
                                            uint64_t at_ms, const clv_release **out,
                                            clv_error *err);

#endif

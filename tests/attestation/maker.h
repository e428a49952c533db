/*
 * Makes attestation documents, right or wrong in exactly one way: a chain of its own, the payload,
 * the COSE envelope, each with knobs. It shares no code with the verifier but the CBOR heads.
 *
 * Every knob's zero means "as it should be", so that a case names only what is wrong with it.
 */
#ifndef CLV_TESTS_ATTESTATION_MAKER_H
#define CLV_TESTS_ATTESTATION_MAKER_H

#include <openssl/evp.h>

#include <claviger/attestation.h>

#define MAKER_CAS   4 /* root, region, zone, instance */
#define MAKER_CERTS (MAKER_CAS + 1)
#define MAKER_LEAF  MAKER_CAS
/* The instant at which made documents are made, and their certificates' default window. */
#define MAKER_TIME_S      INT64_C(1700000000)
#define MAKER_TIME_MS     UINT64_C(1700000000123)
#define MAKER_VALID_FROM  (MAKER_TIME_S - 3600)
#define MAKER_VALID_UNTIL (MAKER_TIME_S + 3600)

/* Numbers whose zero must be sayable: SIZE(0), PATH(0). */
#define SIZE(n)   ((n) + 1)
#define PATH(n)   ((n) + 1)
#define PATH_NONE (-1)

typedef enum maker_ca { CA_RIGHT, CA_TRUE, CA_FALSE, CA_ABSENT } maker_ca;
typedef enum maker_usage {
    USAGE_RIGHT,
    USAGE_ABSENT,
    USAGE_DIGITAL_SIGNATURE,
    USAGE_CERT_SIGN,
    USAGE_CRL_SIGN,
    USAGE_BOTH,
} maker_usage;
typedef enum maker_key {
    KEY_P384,
    KEY_P256,
    KEY_P521,
    KEY_RSA,
    KEY_EXPLICIT,
    KEY_COMPRESSED,
    KEY_OFF_CURVE,
} maker_key;
typedef enum maker_algorithm {
    ALGORITHM_SHA384,
    ALGORITHM_SHA256,
    ALGORITHM_SHA512,
    ALGORITHM_OUTER_SHA256, /* only signatureAlgorithm says so */
    ALGORITHM_INNER_SHA256, /* only TBSCertificate.signature says so */
} maker_algorithm;
typedef enum maker_extension {
    EXTENSION_NONE,
    EXTENSION_UNKNOWN,
    EXTENSION_UNKNOWN_CRITICAL,
    EXTENSION_UNKNOWN_TWICE,
    EXTENSION_NAME_CONSTRAINTS_CRITICAL,
    EXTENSION_BASIC_TWICE,
    EXTENSION_USAGE_TWICE,
    EXTENSION_BASIC_MALFORMED,
    EXTENSION_BASIC_TRAILING,
    EXTENSION_USAGE_MALFORMED,
    EXTENSION_PATH_NEGATIVE,
    EXTENSION_PATH_HUGE,
} maker_extension;
typedef enum maker_der {
    DER_RIGHT,
    DER_TRAILING,
    DER_CUT,
    DER_INDEFINITE,
    DER_VERSION_1,
    DER_TIME_OFFSET, /* +0000 in place of Z */
    DER_TIME_SHORT,  /* no seconds */
    DER_GARBAGE,
} maker_der;
typedef enum maker_signer { SIGNER_RIGHT, SIGNER_STRANGER, SIGNER_FLIPPED } maker_signer;

typedef struct maker_certificate {
    int64_t not_before, not_after; /* seconds since 1970 */
    maker_ca ca;
    int path; /* PATH(n), PATH_NONE */
    maker_usage usage;
    maker_key key;
    maker_algorithm algorithm;
    maker_extension extension;
    maker_der der;
    maker_signer signer;
    const char *subject, *issuer; /* common names; "" is an empty name */
} maker_certificate;

typedef enum maker_field_name {
    FIELD_MODULE_ID,
    FIELD_DIGEST,
    FIELD_TIMESTAMP,
    FIELD_PCRS,
    FIELD_CERTIFICATE,
    FIELD_CABUNDLE,
    FIELD_PUBLIC_KEY,
    FIELD_USER_DATA,
    FIELD_NONCE,
    MAKER_FIELDS
} maker_field_name;
extern const char *const maker_field_text[MAKER_FIELDS];

/* What stands in a value's place. */
typedef enum maker_as {
    AS_RIGHT,
    AS_NULL,
    AS_UINT,
    AS_NEGINT,
    AS_BYTES,
    AS_TEXT,
    AS_BOOL,
    AS_FLOAT,
    AS_ARRAY,
    AS_MAP,
    AS_DEEP,             /* a thousand arrays inside each other */
    AS_TAG,              /* the right value under a tag */
    AS_BREAK,            /* a stray break */
    AS_INDEFINITE_BYTES, /* in chunks */
    AS_INDEFINITE_TEXT,
    AS_INDEFINITE_ARRAY,
    AS_INDEFINITE_MAP,
    AS_BAD_UTF8,
    AS_RESERVED, /* additional information 28 */
    MAKER_AS_COUNT
} maker_as;

typedef struct maker_field {
    bool omit, twice;
    maker_as as;
    int size; /* SIZE(n): a string of n bytes, an array or map of n items */
} maker_field;

typedef enum maker_bundle {
    BUNDLE_RIGHT,
    BUNDLE_SWAPPED,  /* the two in the middle */
    BUNDLE_REVERSED, /* root last */
    BUNDLE_NO_ROOT,  /* begins below the root */
    BUNDLE_ROOT_TWICE,
    BUNDLE_ROOT_ONLY, /* the leaf right below the root */
    BUNDLE_NULL_ITEM,
    BUNDLE_TEXT_ITEM,
    BUNDLE_NESTED_ITEM,
    BUNDLE_EMPTY_ITEM,
    BUNDLE_LONG_ITEM,
} maker_bundle;

typedef enum maker_pcrs {
    PCRS_RIGHT,
    PCRS_INDEX_32,
    PCRS_INDEX_HUGE,
    PCRS_INDEX_NEGATIVE,
    PCRS_INDEX_TEXT,
    PCRS_SHORT,
    PCRS_LONG,
    PCRS_EMPTY_VALUE,
    PCRS_TWICE,
    PCRS_TEXT_VALUE,
    PCRS_NULL_VALUE,
    PCRS_NESTED_VALUE,
    PCRS_ZERO, /* PCR0 to PCR2: debug mode */
} maker_pcrs;

typedef enum maker_signature {
    SIGNATURE_RIGHT,
    SIGNATURE_FLIPPED,
    SIGNATURE_R_ZERO,
    SIGNATURE_S_ZERO,
    SIGNATURE_R_ORDER,
    SIGNATURE_S_ORDER,
    SIGNATURE_R_MAX,
    SIGNATURE_95,
    SIGNATURE_97,
    SIGNATURE_EMPTY,
    SIGNATURE_DER,
    SIGNATURE_TEXT,
    SIGNATURE_NESTED,
    SIGNATURE_STRANGER, /* by a key of no certificate */
    SIGNATURE_ISSUER,   /* by the instance certificate's key */
} maker_signature;

/* Which string of the envelope has its length in four bytes. */
typedef enum maker_long { LONG_NONE, LONG_PROTECTED, LONG_PAYLOAD, LONG_SIGNATURE } maker_long;

typedef struct maker_knobs {
    maker_certificate certificate[MAKER_CERTS];
    maker_field field[MAKER_FIELDS];
    uint64_t timestamp_ms;
    maker_bundle bundle;
    maker_pcrs pcrs;
    maker_signature signature;
    bool nitrotpm;          /* the registers under their NitroTPM name */
    bool both_banks;        /* under both names */
    bool indefinite;        /* the payload's map */
    bool no_break;          /* … without its break */
    bool unknown_field;     /* one more member */
    bool number_key;        /* a member whose key is a number */
    bool payload_trailing;  /* a byte after the map */
    int payload_pairs;      /* more (or fewer) than there are */
    bool payload_padded;    /* user_data makes it longer than any document may be */
    maker_as payload_as;    /* in place of the byte string */
    const char *prefix;     /* hex in front of the array: tags */
    const char *array;      /* hex: the array's head */
    const char *protected_; /* hex: the protected header's content */
    maker_as protected_as;
    const char *unprotected; /* hex: the whole item */
    maker_long long_head;
    const char *suffix; /* hex behind the document */
    int cut;            /* bytes cut off the end */
} maker_knobs;

/* No knob turned. */
#define RIGHT    \
    {            \
        .cut = 0 \
    }

/* The keys of a chain. */
typedef struct maker {
    EVP_PKEY *key[MAKER_CERTS];
    EVP_PKEY *stranger;
    EVP_PKEY *odd[KEY_OFF_CURVE + 1]; /* one of each other kind */
} maker;

/* All of these end the process when OpenSSL or memory fails: they are for tests. */
void maker_start(maker *m);
void maker_drop(maker *m);

/* A document by these knobs, and the digest of its root. */
void maker_make(const maker *m, const maker_knobs *knobs, clv_buf *document,
                uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE]);

/* A document of these values as they stand, signed with this key: for a module that is asked. */
void maker_sign(const clv_document *document, EVP_PKEY *leaf, clv_buf *out);

/*
 * What another document says, encoded again by these knobs, under its old signature: the
 * certificates' knobs and those of the signature that need a key do nothing.
 */
void maker_remake(const clv_document *document, const maker_knobs *knobs, clv_buf *out);

#endif

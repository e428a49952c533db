/*
 * Key specs and algorithms of KMS (AWS KMS developer guide, "Key spec reference"), as tables, and
 * the making of key material: raw bytes for symmetric and HMAC keys, PKCS #8 for key pairs.
 */
#ifndef CLV_SIM_KMS_KEYSPEC_H
#define CLV_SIM_KMS_KEYSPEC_H

#include <jansson.h>
#include <openssl/evp.h>

#include <claviger/bytes.h>

typedef enum clv_key_family {
    CLV_FAMILY_SYMMETRIC,
    CLV_FAMILY_HMAC,
    CLV_FAMILY_RSA,
    CLV_FAMILY_EC,
} clv_key_family;

typedef struct clv_key_spec {
    const char *name;
    clv_key_family family;
    int bits;           /* of the modulus, or of the raw key */
    const char *group;  /* OpenSSL's name of the curve */
    const char *usages; /* those that it may have, the default first, separated by spaces */
    bool pair;          /* GenerateDataKeyPair takes it */
} clv_key_spec;

/* NULL when there is none of this name. */
const clv_key_spec *clv_key_spec_of(const char *name);
bool clv_key_spec_allows(const clv_key_spec *spec, const char *usage);
/* All names, or those for data key pairs, as "[A, B]": for ValidationException's sentence. */
CLV_NODISCARD clv_status clv_key_spec_names(bool pairs, clv_buf *out, clv_error *err);

typedef struct clv_algorithm {
    const char *name;
    const char *usage;
    clv_key_family family;
    const char *specs;  /* the key specs it goes with, separated by spaces; NULL: the family's */
    const char *digest; /* OpenSSL's name */
    int padding;        /* RSA_…_PADDING */
} clv_algorithm;

const clv_algorithm *clv_algorithm_of(const char *name);
bool clv_algorithm_fits(const clv_algorithm *algorithm, const clv_key_spec *spec,
                        const char *usage);
/* A JSON array of the names that fit. */
CLV_NODISCARD clv_status clv_algorithm_list(const clv_key_spec *spec, const char *usage,
                                            json_t **out, clv_error *err);

/* Fresh material, appended. */
CLV_NODISCARD clv_status clv_material_generate(const clv_key_spec *spec, clv_buf *out,
                                               clv_error *err);
/* The key pair of PKCS #8 material. */
CLV_NODISCARD clv_status clv_material_pair(clv_bytes material, EVP_PKEY **out, clv_error *err);

#endif

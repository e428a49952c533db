#include <sim/kms/keyspec.h>

#include <stdlib.h>

#include <base/crypto.h>
#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

static const clv_key_spec SPECS[] = {
    {"SYMMETRIC_DEFAULT", CLV_FAMILY_SYMMETRIC, 256, NULL, "ENCRYPT_DECRYPT", false},
    {"HMAC_224", CLV_FAMILY_HMAC, 224, NULL, "GENERATE_VERIFY_MAC", false},
    {"HMAC_256", CLV_FAMILY_HMAC, 256, NULL, "GENERATE_VERIFY_MAC", false},
    {"HMAC_384", CLV_FAMILY_HMAC, 384, NULL, "GENERATE_VERIFY_MAC", false},
    {"HMAC_512", CLV_FAMILY_HMAC, 512, NULL, "GENERATE_VERIFY_MAC", false},
    {"RSA_2048", CLV_FAMILY_RSA, 2048, NULL, "ENCRYPT_DECRYPT SIGN_VERIFY", true},
    {"RSA_3072", CLV_FAMILY_RSA, 3072, NULL, "ENCRYPT_DECRYPT SIGN_VERIFY", true},
    {"RSA_4096", CLV_FAMILY_RSA, 4096, NULL, "ENCRYPT_DECRYPT SIGN_VERIFY", true},
    {"ECC_NIST_P256", CLV_FAMILY_EC, 256, "P-256", "SIGN_VERIFY KEY_AGREEMENT", true},
    {"ECC_NIST_P384", CLV_FAMILY_EC, 384, "P-384", "SIGN_VERIFY KEY_AGREEMENT", true},
    {"ECC_NIST_P521", CLV_FAMILY_EC, 521, "P-521", "SIGN_VERIFY KEY_AGREEMENT", true},
    {"ECC_SECG_P256K1", CLV_FAMILY_EC, 256, "secp256k1", "SIGN_VERIFY", true},
};

static const clv_algorithm ALGORITHMS[] = {
    {"SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", CLV_FAMILY_SYMMETRIC, NULL, NULL, 0},
    {"RSAES_OAEP_SHA_1", "ENCRYPT_DECRYPT", CLV_FAMILY_RSA, NULL, "SHA1", RSA_PKCS1_OAEP_PADDING},
    {"RSAES_OAEP_SHA_256", "ENCRYPT_DECRYPT", CLV_FAMILY_RSA, NULL, "SHA256",
     RSA_PKCS1_OAEP_PADDING},
    {"RSASSA_PKCS1_V1_5_SHA_256", "SIGN_VERIFY", CLV_FAMILY_RSA, NULL, "SHA256", RSA_PKCS1_PADDING},
    {"RSASSA_PKCS1_V1_5_SHA_384", "SIGN_VERIFY", CLV_FAMILY_RSA, NULL, "SHA384", RSA_PKCS1_PADDING},
    {"RSASSA_PKCS1_V1_5_SHA_512", "SIGN_VERIFY", CLV_FAMILY_RSA, NULL, "SHA512", RSA_PKCS1_PADDING},
    {"RSASSA_PSS_SHA_256", "SIGN_VERIFY", CLV_FAMILY_RSA, NULL, "SHA256", RSA_PKCS1_PSS_PADDING},
    {"RSASSA_PSS_SHA_384", "SIGN_VERIFY", CLV_FAMILY_RSA, NULL, "SHA384", RSA_PKCS1_PSS_PADDING},
    {"RSASSA_PSS_SHA_512", "SIGN_VERIFY", CLV_FAMILY_RSA, NULL, "SHA512", RSA_PKCS1_PSS_PADDING},
    {"ECDSA_SHA_256", "SIGN_VERIFY", CLV_FAMILY_EC, "ECC_NIST_P256 ECC_SECG_P256K1", "SHA256", 0},
    {"ECDSA_SHA_384", "SIGN_VERIFY", CLV_FAMILY_EC, "ECC_NIST_P384", "SHA384", 0},
    {"ECDSA_SHA_512", "SIGN_VERIFY", CLV_FAMILY_EC, "ECC_NIST_P521", "SHA512", 0},
    {"ECDH", "KEY_AGREEMENT", CLV_FAMILY_EC, NULL, NULL, 0},
    {"HMAC_SHA_224", "GENERATE_VERIFY_MAC", CLV_FAMILY_HMAC, "HMAC_224", "SHA224", 0},
    {"HMAC_SHA_256", "GENERATE_VERIFY_MAC", CLV_FAMILY_HMAC, "HMAC_256", "SHA256", 0},
    {"HMAC_SHA_384", "GENERATE_VERIFY_MAC", CLV_FAMILY_HMAC, "HMAC_384", "SHA384", 0},
    {"HMAC_SHA_512", "GENERATE_VERIFY_MAC", CLV_FAMILY_HMAC, "HMAC_512", "SHA512", 0},
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* Whether a list of words separated by spaces has this word. */
static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = strstr(words, word); at != NULL; at = strstr(at + 1, word)) {
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
            return true;
    }
    return false;
}

const clv_key_spec *clv_key_spec_of(const char *name)
{
    for (size_t i = 0; i < COUNT(SPECS); i++) {
        if (strcmp(SPECS[i].name, name) == 0)
            return &SPECS[i];
    }
    return NULL;
}

bool clv_key_spec_allows(const clv_key_spec *spec, const char *usage)
{
    return has_word(spec->usages, usage);
}

clv_status clv_key_spec_names(bool pairs, clv_buf *out, clv_error *err)
{
    const char *separator = "[";
    for (size_t i = 0; i < COUNT(SPECS); i++) {
        if (pairs && !SPECS[i].pair)
            continue;
        CLV_TRY(clv_buf_printf(out, err, "%s%s", separator, SPECS[i].name));
        separator = ", ";
    }
    return clv_buf_append_text(out, "]", err);
}

const clv_algorithm *clv_algorithm_of(const char *name)
{
    for (size_t i = 0; i < COUNT(ALGORITHMS); i++) {
        if (strcmp(ALGORITHMS[i].name, name) == 0)
            return &ALGORITHMS[i];
    }
    return NULL;
}

bool clv_algorithm_fits(const clv_algorithm *algorithm, const clv_key_spec *spec, const char *usage)
{
    return algorithm->family == spec->family && strcmp(algorithm->usage, usage) == 0 &&
           (algorithm->specs == NULL || has_word(algorithm->specs, spec->name));
}

clv_status clv_algorithm_list(const clv_key_spec *spec, const char *usage, json_t **out,
                              clv_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < COUNT(ALGORITHMS); i++) {
        if (clv_algorithm_fits(&ALGORITHMS[i], spec, usage))
            json_array_append_new(list, json_string(ALGORITHMS[i].name));
    }
    if (list == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a list, found none");
    *out = list;
    return CLV_OK;
}

static clv_status append_pkcs8(EVP_PKEY *pair, clv_buf *out, clv_error *err)
{
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pair);
    unsigned char *der = NULL;
    int n = info != NULL ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : -1;
    PKCS8_PRIV_KEY_INFO_free(info);
    if (n <= 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a private key as PKCS #8");
    clv_status status = clv_buf_append(out, CLV_BYTES(der, n), err);
    OPENSSL_clear_free(der, (size_t)n);
    return status;
}

clv_status clv_material_generate(const clv_key_spec *spec, clv_buf *out, clv_error *err)
{
    if (spec->family == CLV_FAMILY_SYMMETRIC || spec->family == CLV_FAMILY_HMAC) {
        size_t n = (size_t)spec->bits / 8;
        uint8_t *to;
        CLV_TRY(clv_buf_reserve(out, n, &to, err));
        if (RAND_priv_bytes(to, (int)n) != 1)
            return clv_fail_openssl(err, CLV_INTERNAL, "random bytes");
        out->n += n;
        return CLV_OK;
    }
    clv_auto(clv_pkey) pair =
        spec->family == CLV_FAMILY_RSA ? EVP_RSA_gen((size_t)spec->bits) : EVP_EC_gen(spec->group);
    if (pair == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "a fresh key pair");
    return append_pkcs8(pair, out, err);
}

clv_status clv_material_pair(clv_bytes material, EVP_PKEY **out, clv_error *err)
{
    const uint8_t *p = material.p;
    *out = d2i_AutoPrivateKey(NULL, &p, (long)material.n);
    if (*out == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "a stored private key");
    return CLV_OK;
}

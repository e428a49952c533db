#include <vault/derive.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <base/cbor.h>
#include <base/crypto.h>

#define SALT         "claviger derivation v1"
#define INFO_TAG     "claviger-derive-1"
#define ROOT_ID_INFO "claviger-root-id-1"
#define EC_OKM_BYTES 48 /* 256 bits of scalar and 128 more, so that the bias is below 2^-128 */
#define SCALAR_BYTES 32
#define INFO_MAX     32768

typedef struct algorithm_facts {
    const char *name;
    uint32_t min, max, standard; /* of the key in bytes */
    int curve;                   /* NID of a Weierstrass curve, else 0 */
} algorithm_facts;

static const algorithm_facts facts[CLV_DERIVE_ALGORITHM_COUNT] = {
    [CLV_DERIVE_RAW] = {"raw", 1, CLV_DERIVE_MAX, 32, 0},
    [CLV_DERIVE_HMAC_SHA256] = {"hmac-sha256", 32, 32, 32, 0},
    [CLV_DERIVE_HMAC_SHA512] = {"hmac-sha512", 64, 64, 64, 0},
    [CLV_DERIVE_ED25519] = {"ed25519", 32, 32, 32, 0},
    [CLV_DERIVE_X25519] = {"x25519", 32, 32, 32, 0},
    [CLV_DERIVE_P256] = {"p256", SCALAR_BYTES, SCALAR_BYTES, SCALAR_BYTES, NID_X9_62_prime256v1},
    [CLV_DERIVE_SECP256K1] = {"secp256k1", SCALAR_BYTES, SCALAR_BYTES, SCALAR_BYTES, NID_secp256k1},
};

typedef BIGNUM *bignum;
static void bignum_drop(bignum *b)
{
    BN_clear_free(*b);
}

typedef EC_GROUP *group;
static void group_drop(group *g)
{
    EC_GROUP_free(*g);
}

const char *clv_derive_algorithm_name(clv_derive_algorithm algorithm)
{
    return facts[algorithm].name;
}

clv_status clv_derive_algorithm_of(const char *name, clv_derive_algorithm *out, clv_error *err)
{
    for (unsigned i = 0; i < CLV_DERIVE_ALGORITHM_COUNT; i++) {
        if (strcmp(facts[i].name, name) == 0) {
            *out = (clv_derive_algorithm)i;
            return CLV_OK;
        }
    }
    return clv_fail(err, CLV_DERIVE_INVALID,
                    "algorithm: expected raw, hmac-sha256, hmac-sha512, ed25519, x25519, p256 or "
                    "secp256k1, found \"%.40s\"",
                    name);
}

static clv_status check_text(const char *member, const char *text, clv_error *err)
{
    size_t n = strlen(text);
    if (n == 0 || n > CLV_DERIVE_TEXT_MAX)
        return clv_fail(err, CLV_DERIVE_INVALID, "%s: expected 1 to %d bytes, found %zu", member,
                        CLV_DERIVE_TEXT_MAX, n);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < 0x20 || *c > 0x7e)
            return clv_fail(err, CLV_DERIVE_INVALID,
                            "%s: expected printable ASCII, found the byte 0x%02x", member,
                            (unsigned char)*c);
    }
    return CLV_OK;
}

clv_status clv_derivation_check(clv_derivation *derivation, clv_error *err)
{
    const algorithm_facts *of = &facts[derivation->algorithm];
    CLV_TRY(check_text("purpose", derivation->purpose, err));
    CLV_TRY(check_text("path", derivation->path, err));
    if (derivation->length == 0)
        derivation->length = of->standard;
    if (derivation->length < of->min || derivation->length > of->max)
        return clv_fail(err, CLV_DERIVE_INVALID, "length: expected %u to %u for %s, found %u",
                        of->min, of->max, of->name, derivation->length);
    return CLV_OK;
}

/* Deterministic CBOR sorts map keys by their encoded bytes: shorter ones first, then bytewise. */
static const struct clv_context_pair *next_pair(const clv_context *context,
                                                const struct clv_context_pair *after)
{
    const struct clv_context_pair *best = NULL;
    for (size_t i = 0; i < context->count; i++) {
        const struct clv_context_pair *at = &context->pair[i];
        size_t n = strlen(at->key);
        size_t past = after != NULL ? strlen(after->key) : 0;
        if (after != NULL && (n < past || (n == past && strcmp(at->key, after->key) <= 0)))
            continue;
        size_t least = best != NULL ? strlen(best->key) : SIZE_MAX;
        if (best == NULL || n < least || (n == least && strcmp(at->key, best->key) < 0))
            best = at;
    }
    return best;
}

static clv_status put_context(clv_buf *info, const clv_context *context, clv_error *err)
{
    CLV_TRY(clv_cbor_put_map(info, context->count, err));
    for (const struct clv_context_pair *p = next_pair(context, NULL); p != NULL;
         p = next_pair(context, p)) {
        CLV_TRY(clv_cbor_put_text(info, p->key, err));
        CLV_TRY(clv_cbor_put_text(info, p->value, err));
    }
    return CLV_OK;
}

clv_status clv_derivation_info(const clv_derivation *derivation, const char *key_arn,
                               const clv_context *context, clv_buf *info, clv_error *err)
{
    CLV_TRY(clv_cbor_put_array(info, 7, err));
    CLV_TRY(clv_cbor_put_text(info, INFO_TAG, err));
    CLV_TRY(clv_cbor_put_text(info, key_arn, err));
    CLV_TRY(put_context(info, context, err));
    CLV_TRY(clv_cbor_put_text(info, facts[derivation->algorithm].name, err));
    CLV_TRY(clv_cbor_put_uint(info, derivation->length, err));
    CLV_TRY(clv_cbor_put_text(info, derivation->purpose, err));
    return clv_cbor_put_text(info, derivation->path, err);
}

static clv_status hkdf(const clv_secret *root, clv_bytes info, uint8_t *out, size_t n,
                       clv_error *err)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    clv_bytes ikm = clv_secret_bytes(root);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA512", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)ikm.p, ikm.n),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)SALT, strlen(SALT)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info.p, info.n),
        OSSL_PARAM_construct_end(),
    };
    bool done = ctx != NULL && EVP_KDF_derive(ctx, out, n, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return done ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "HKDF");
}

clv_status clv_derive_root_id(const clv_secret *root, uint8_t out[CLV_DERIVE_ROOT_ID],
                              clv_error *err)
{
    return hkdf(root, clv_bytes_of(ROOT_ID_INFO), out, CLV_DERIVE_ROOT_ID, err);
}

/* FIPS 186-5 appendix A.2.1: d = (c mod (n - 1)) + 1. */
static clv_status scalar_of(int curve, const clv_secret *okm, clv_secret *out, clv_error *err)
{
    clv_bytes bytes = clv_secret_bytes(okm);
    clv_auto(group) g = EC_GROUP_new_by_curve_name(curve);
    clv_auto(bignum) less = g != NULL ? BN_dup(EC_GROUP_get0_order(g)) : NULL;
    clv_auto(bignum) c = BN_secure_new();
    clv_auto(bignum) d = BN_secure_new();
    BN_CTX *ctx = BN_CTX_secure_new();
    bool done = less != NULL && c != NULL && d != NULL && ctx != NULL;
    if (done)
        BN_set_flags(c, BN_FLG_CONSTTIME);
    done = done && BN_sub_word(less, 1) == 1 && BN_bin2bn(bytes.p, (int)bytes.n, c) != NULL &&
           BN_mod(d, c, less, ctx) == 1 && BN_add_word(d, 1) == 1 &&
           BN_bn2binpad(d, clv_secret_writable(out), SCALAR_BYTES) == SCALAR_BYTES;
    BN_CTX_free(ctx);
    return done ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "an elliptic curve scalar");
}

clv_status clv_derive_key(const clv_secret *root, const clv_derivation *derivation,
                          const char *key_arn, const clv_context *context, clv_secret **out,
                          clv_error *err)
{
    const algorithm_facts *of = &facts[derivation->algorithm];
    clv_auto(clv_buf) info = CLV_BUF_LIMITED(INFO_MAX);
    clv_auto_ptr(clv_secret) okm = NULL;
    CLV_TRY(clv_derivation_info(derivation, key_arn, context, &info, err));
    CLV_TRY(clv_secret_new(of->curve != 0 ? EC_OKM_BYTES : derivation->length, &okm, err));
    CLV_TRY(
        hkdf(root, clv_buf_bytes(&info), clv_secret_writable(okm), clv_secret_length(okm), err));
    if (of->curve == 0) {
        *out = okm;
        okm = NULL;
        return CLV_OK;
    }
    clv_auto_ptr(clv_secret) scalar = NULL;
    CLV_TRY(clv_secret_new(SCALAR_BYTES, &scalar, err));
    CLV_TRY(scalar_of(of->curve, okm, scalar, err));
    *out = scalar;
    scalar = NULL;
    return CLV_OK;
}

/* What can be done with a derived key without giving it away: its public half, signatures, tags. */
#include <vault/derive.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>

#include <base/crypto.h>

#define DIGEST_BYTES 32

/* A curve's two names in OpenSSL, and its number. */
typedef struct curve {
    const char *name;
    int nid;
} curve;

static const curve curve_of[CLV_DERIVE_ALGORITHM_COUNT] = {
    [CLV_DERIVE_P256] = {"prime256v1", NID_X9_62_prime256v1},
    [CLV_DERIVE_SECP256K1] = {"secp256k1", NID_secp256k1},
};

static clv_status no_such(clv_derive_algorithm algorithm, const char *use, clv_error *err)
{
    return clv_fail(err, CLV_DERIVE_INVALID, "algorithm: expected one that %s, found %s", use,
                    clv_derive_algorithm_name(algorithm));
}

/* The uncompressed public point of a scalar. */
static clv_status public_point(const curve *of, clv_bytes scalar,
                               uint8_t out[CLV_DERIVE_PUBLIC_MAX], clv_error *err)
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(of->nid);
    EC_POINT *point = group != NULL ? EC_POINT_new(group) : NULL;
    BIGNUM *d = BN_secure_new();
    BN_CTX *ctx = BN_CTX_secure_new();
    bool done =
        point != NULL && d != NULL && ctx != NULL && BN_bin2bn(scalar.p, (int)scalar.n, d) != NULL;
    if (done)
        BN_set_flags(d, BN_FLG_CONSTTIME);
    done = done && EC_POINT_mul(group, point, d, NULL, NULL, ctx) == 1 &&
           EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, out,
                              CLV_DERIVE_PUBLIC_MAX, ctx) == CLV_DERIVE_PUBLIC_MAX;
    BN_CTX_free(ctx);
    BN_clear_free(d);
    EC_POINT_free(point);
    EC_GROUP_free(group);
    return done ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "a public point");
}

static clv_status open_ec(const curve *of, clv_bytes scalar, EVP_PKEY **out, clv_error *err)
{
    uint8_t point[CLV_DERIVE_PUBLIC_MAX];
    CLV_TRY(public_point(of, scalar, point, err));
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    BIGNUM *d = BN_secure_new();
    OSSL_PARAM *params = NULL;
    bool done =
        build != NULL && ctx != NULL && d != NULL &&
        BN_bin2bn(scalar.p, (int)scalar.n, d) != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, of->name, 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) ==
            1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1 &&
        (params = OSSL_PARAM_BLD_to_param(build)) != NULL && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, out, EVP_PKEY_KEYPAIR, params) == 1;
    OSSL_PARAM_free(params);
    BN_clear_free(d);
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_BLD_free(build);
    return done ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "a derived elliptic curve key");
}

static clv_status open_edwards(int type, clv_bytes key, EVP_PKEY **out, clv_error *err)
{
    *out = EVP_PKEY_new_raw_private_key(type, NULL, key.p, key.n);
    return *out != NULL ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "a derived key");
}

static int edwards_type(clv_derive_algorithm algorithm)
{
    return algorithm == CLV_DERIVE_ED25519  ? EVP_PKEY_ED25519
           : algorithm == CLV_DERIVE_X25519 ? EVP_PKEY_X25519
                                            : 0;
}

bool clv_derive_has_public(clv_derive_algorithm algorithm)
{
    return curve_of[algorithm].nid != 0 || edwards_type(algorithm) != 0;
}

clv_status clv_derive_public(clv_derive_algorithm algorithm, const clv_secret *key,
                             clv_buf *public_key, clv_error *err)
{
    uint8_t out[CLV_DERIVE_PUBLIC_MAX];
    size_t n = sizeof out;
    const curve *of = &curve_of[algorithm];
    if (of->nid != 0) {
        CLV_TRY(public_point(of, clv_secret_bytes(key), out, err));
    } else if (edwards_type(algorithm) != 0) {
        clv_auto(clv_pkey) pkey = NULL;
        CLV_TRY(open_edwards(edwards_type(algorithm), clv_secret_bytes(key), &pkey, err));
        if (EVP_PKEY_get_raw_public_key(pkey, out, &n) != 1)
            return clv_fail_openssl(err, CLV_INTERNAL, "a public key");
    } else {
        return no_such(algorithm, "has a public key", err);
    }
    return clv_buf_append(public_key, CLV_BYTES(out, n), err);
}

clv_status clv_derive_open(clv_derive_algorithm algorithm, const clv_secret *key, EVP_PKEY **out,
                           clv_error *err)
{
    if (curve_of[algorithm].nid != 0)
        return open_ec(&curve_of[algorithm], clv_secret_bytes(key), out, err);
    if (edwards_type(algorithm) != 0)
        return open_edwards(edwards_type(algorithm), clv_secret_bytes(key), out, err);
    return no_such(algorithm, "has a public key", err);
}

static clv_status sign_ed25519(const clv_secret *key, clv_bytes message, clv_buf *signature,
                               clv_error *err)
{
    clv_auto(clv_pkey) pkey = NULL;
    CLV_TRY(open_edwards(EVP_PKEY_ED25519, clv_secret_bytes(key), &pkey, err));
    uint8_t out[64];
    size_t n = sizeof out;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey) == 1 &&
                EVP_DigestSign(ctx, out, &n, message.n > 0 ? message.p : out, message.n) == 1;
    EVP_MD_CTX_free(ctx);
    if (!done)
        return clv_fail_openssl(err, CLV_INTERNAL, "an Ed25519 signature");
    return clv_buf_append(signature, CLV_BYTES(out, n), err);
}

/* DER to r || s with the lower s: of s and n - s both verify, and wallets take only the lower. */
static clv_status plain_signature(int nid, const uint8_t *der, size_t n, uint8_t out[64],
                                  clv_error *err)
{
    const uint8_t *at = der;
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
    EC_GROUP *group = EC_GROUP_new_by_curve_name(nid);
    BIGNUM *half = BN_new();
    BIGNUM *s = sig != NULL ? BN_dup(ECDSA_SIG_get0_s(sig)) : NULL;
    bool done = sig != NULL && group != NULL && half != NULL && s != NULL &&
                BN_rshift1(half, EC_GROUP_get0_order(group)) == 1;
    if (done && BN_cmp(s, half) > 0)
        done = BN_sub(s, EC_GROUP_get0_order(group), s) == 1;
    done = done && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32) == 32 &&
           BN_bn2binpad(s, out + 32, 32) == 32;
    BN_free(s);
    BN_free(half);
    EC_GROUP_free(group);
    ECDSA_SIG_free(sig);
    return done ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "an ECDSA signature");
}

static clv_status sign_ecdsa(const curve *of, const clv_secret *key,
                             const uint8_t digest[DIGEST_BYTES], clv_buf *signature, clv_error *err)
{
    clv_auto(clv_pkey) pkey = NULL;
    CLV_TRY(open_ec(of, clv_secret_bytes(key), &pkey, err));
    uint8_t der[80], out[64];
    size_t n = sizeof der;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
    bool done = ctx != NULL && EVP_PKEY_sign_init(ctx) == 1 &&
                EVP_PKEY_sign(ctx, der, &n, digest, DIGEST_BYTES) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!done)
        return clv_fail_openssl(err, CLV_INTERNAL, "an ECDSA signature");
    CLV_TRY(plain_signature(of->nid, der, n, out, err));
    return clv_buf_append(signature, CLV_BYTES(out, sizeof out), err);
}

clv_status clv_derive_sign(clv_derive_algorithm algorithm, const clv_secret *key, clv_bytes message,
                           bool is_digest, clv_buf *signature, clv_error *err)
{
    uint8_t digest[CLV_SHA256_SIZE];
    if (algorithm == CLV_DERIVE_ED25519 && !is_digest)
        return sign_ed25519(key, message, signature, err);
    if (curve_of[algorithm].nid == 0)
        return no_such(algorithm, is_digest ? "signs digests" : "signs", err);
    if (is_digest && message.n != sizeof digest)
        return clv_fail(err, CLV_DERIVE_INVALID, "digest: expected %zu bytes, found %zu",
                        sizeof digest, message.n);
    if (is_digest)
        memcpy(digest, message.p, sizeof digest);
    else
        CLV_TRY(clv_sha256(message, digest, err));
    return sign_ecdsa(&curve_of[algorithm], key, digest, signature, err);
}

clv_status clv_derive_hmac(clv_derive_algorithm algorithm, const clv_secret *key, clv_bytes message,
                           clv_buf *tag, clv_error *err)
{
    const EVP_MD *digest = algorithm == CLV_DERIVE_HMAC_SHA256   ? EVP_sha256()
                           : algorithm == CLV_DERIVE_HMAC_SHA512 ? EVP_sha512()
                                                                 : NULL;
    if (digest == NULL)
        return no_such(algorithm, "makes tags", err);
    clv_bytes bytes = clv_secret_bytes(key);
    uint8_t out[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (HMAC(digest, bytes.p, (int)bytes.n, message.n > 0 ? message.p : out, message.n, out, &n) ==
        NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "an HMAC");
    return clv_buf_append(tag, CLV_BYTES(out, n), err);
}

#include <base/crypto.h>

#include <limits.h>

#include <openssl/err.h>
#include <openssl/objects.h>

clv_status clv_fail_openssl(clv_error *err, clv_status code, const char *what)
{
    unsigned long reason = ERR_peek_last_error();
    const char *text = reason != 0 ? ERR_reason_error_string(reason) : NULL;
    clv_status status =
        clv_fail(err, code, "%s%s%s", what, text != NULL ? ": " : "", text != NULL ? text : "");
    ERR_clear_error();
    return status;
}

static clv_status digest(const EVP_MD *md, clv_bytes data, uint8_t *out, clv_error *err)
{
    if (EVP_Digest(data.n > 0 ? (const void *)data.p : "", data.n, out, NULL, md, NULL) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "a digest failed");
    return CLV_OK;
}

clv_status clv_sha256(clv_bytes data, uint8_t out[CLV_SHA256_SIZE], clv_error *err)
{
    return digest(EVP_sha256(), data, out, err);
}

clv_status clv_sha384(clv_bytes data, uint8_t out[CLV_SHA384_SIZE], clv_error *err)
{
    return digest(EVP_sha384(), data, out, err);
}

void clv_pkey_drop(clv_pkey *pkey)
{
    EVP_PKEY_free(*pkey);
    *pkey = NULL;
}

void clv_x509_drop(clv_x509 *x509)
{
    X509_free(*x509);
    *x509 = NULL;
}

clv_status clv_spki_append(clv_buf *out, EVP_PKEY *key, clv_error *err)
{
    int n = i2d_PUBKEY(key, NULL);
    if (n <= 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a public key cannot be encoded");
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, (size_t)n, &to, err));
    if (i2d_PUBKEY(key, &to) != n)
        return clv_fail_openssl(err, CLV_INTERNAL, "a public key cannot be encoded");
    out->n += (size_t)n;
    return CLV_OK;
}

clv_status clv_spki_parse(clv_bytes der, EVP_PKEY **out, clv_error *err)
{
    const uint8_t *p = der.p;
    clv_auto(clv_pkey) key =
        der.n > 0 && der.n <= INT_MAX ? d2i_PUBKEY(NULL, &p, (long)der.n) : NULL;
    if (key == NULL || p != der.p + der.n)
        return clv_fail_openssl(err, CLV_BAD_ENCODING,
                                "expected a DER SubjectPublicKeyInfo, found something else");
    *out = key;
    key = NULL;
    return CLV_OK;
}

clv_status clv_spki_shared_size(clv_bytes der, size_t *size, clv_error *err)
{
    static const struct {
        const char *group; /* as OpenSSL names it */
        size_t size;
    } curves[] = {{SN_X9_62_prime256v1, 32}, {SN_secp384r1, 48}, {SN_secp521r1, 66}, {SN_sm2, 32}};
    clv_auto(clv_pkey) key = NULL;
    char group[32];
    CLV_TRY(clv_spki_parse(der, &key, err));
    *size = 0;
    if (EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1) {
        for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++) {
            if (strcmp(group, curves[i].group) == 0)
                *size = curves[i].size;
        }
    }
    ERR_clear_error();
    if (*size == 0)
        return clv_fail(err, CLV_BAD_ENCODING,
                        "expected a public key on P-256, P-384, P-521 or SM2, found another");
    return CLV_OK;
}

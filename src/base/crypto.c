#include <base/crypto.h>

#include <openssl/err.h>

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

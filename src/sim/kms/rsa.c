#include <sim/kms/rsa.h>

#include <base/crypto.h>
#include <openssl/rsa.h>

typedef EVP_PKEY_CTX *pkey_ctx;

static void pkey_ctx_drop(pkey_ctx *ctx)
{
    EVP_PKEY_CTX_free(*ctx);
    *ctx = NULL;
}

typedef int (*start_function)(EVP_PKEY_CTX *ctx);

static clv_status start(clv_call *call, const clv_key *key, const clv_algorithm *algorithm,
                        start_function begin, pkey_ctx *out, size_t *size, clv_error *err)
{
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    clv_auto(clv_pkey) pair = NULL;
    CLV_TRY(clv_key_material(call, key->id, key->version, &material, err));
    CLV_TRY(clv_material_pair(clv_buf_bytes(&material), &pair, err));
    const EVP_MD *digest = EVP_get_digestbyname(algorithm->digest);
    *size = (size_t)EVP_PKEY_get_size(pair);
    *out = EVP_PKEY_CTX_new_from_pkey(NULL, pair, NULL);
    if (*out == NULL || begin(*out) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(*out, algorithm->padding) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(*out, digest) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(*out, digest) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "RSAES-OAEP");
    return CLV_OK;
}

clv_status clv_rsa_encrypt(clv_call *call, const clv_key *key, const clv_algorithm *algorithm,
                           clv_bytes plaintext, clv_buf *out, clv_error *err)
{
    clv_auto(pkey_ctx) ctx = NULL;
    size_t n;
    uint8_t *to;
    CLV_TRY(start(call, key, algorithm, EVP_PKEY_encrypt_init, &ctx, &n, err));
    CLV_TRY(clv_buf_reserve(out, n, &to, err));
    if (EVP_PKEY_encrypt(ctx, to, &n, plaintext.p, plaintext.n) != 1)
        return clv_fail_openssl(err, CLV_KMS_VALIDATION,
                                "the plaintext is too long for this key and algorithm");
    out->n += n;
    return CLV_OK;
}

clv_status clv_rsa_decrypt(clv_call *call, const clv_key *key, const clv_algorithm *algorithm,
                           clv_bytes ciphertext, clv_buf *out, clv_error *err)
{
    clv_auto(pkey_ctx) ctx = NULL;
    size_t n;
    uint8_t *to;
    CLV_TRY(start(call, key, algorithm, EVP_PKEY_decrypt_init, &ctx, &n, err));
    CLV_TRY(clv_buf_reserve(out, n, &to, err));
    if (EVP_PKEY_decrypt(ctx, to, &n, ciphertext.p, ciphertext.n) != 1)
        return clv_fail_openssl(err, CLV_KMS_INVALID_CIPHERTEXT, "RSAES-OAEP");
    out->n += n;
    return CLV_OK;
}

#include <sim/kms/blob.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/crypto.h>
#include <claviger/secret.h>
#include <openssl/rand.h>

#define MAGIC        "CLVK"
#define MAGIC_SIZE   4
#define BLOB_VERSION 1
#define UUID_SIZE    16
#define IV_SIZE      12
#define TAG_SIZE     16
#define HEADER_SIZE  (MAGIC_SIZE + 1 + UUID_SIZE + 4)

typedef EVP_CIPHER_CTX *cipher_ctx;

static void cipher_ctx_drop(cipher_ctx *ctx)
{
    EVP_CIPHER_CTX_free(*ctx);
    *ctx = NULL;
}

static clv_status not_ours(clv_error *err)
{
    return clv_fail(err, CLV_KMS_INVALID_CIPHERTEXT,
                    "expected a CiphertextBlob of this KMS, found other bytes");
}

static clv_status read_header(clv_blob *out, clv_cursor *c)
{
    clv_bytes magic, uuid;
    uint8_t version;
    CLV_TRY(clv_cursor_take(c, MAGIC_SIZE, &magic, NULL));
    CLV_TRY(clv_cursor_u8(c, &version, NULL));
    CLV_TRY(clv_cursor_take(c, UUID_SIZE, &uuid, NULL));
    CLV_TRY(clv_cursor_u32(c, &out->version, NULL));
    if (!clv_bytes_equal(magic, CLV_BYTES(MAGIC, MAGIC_SIZE)) || version != BLOB_VERSION)
        return CLV_KMS_INVALID_CIPHERTEXT;
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_hex_append(&hex, uuid, NULL));
    CLV_TRY(clv_buf_text(&hex, &text, NULL));
    snprintf(out->key_id, sizeof out->key_id, "%.8s-%.4s-%.4s-%.4s-%.12s", text, text + 8,
             text + 12, text + 16, text + 20);
    return CLV_OK;
}

clv_status clv_blob_parse(clv_bytes bytes, clv_blob *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    *out = (clv_blob){0};
    if (bytes.n < HEADER_SIZE + IV_SIZE + TAG_SIZE || read_header(out, &c) != CLV_OK)
        return not_ours(err);
    out->header = CLV_BYTES(bytes.p, HEADER_SIZE);
    CLV_TRY(clv_cursor_take(&c, IV_SIZE, &out->iv, err));
    CLV_TRY(clv_cursor_take(&c, c.rest.n - TAG_SIZE, &out->ciphertext, err));
    out->tag = c.rest;
    return CLV_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static clv_status append_counted(clv_buf *out, const char *text, clv_error *err)
{
    CLV_TRY(clv_buf_u32(out, (uint32_t)strlen(text), err));
    return clv_buf_append_text(out, text, err);
}

#define CONTEXT_PAIRS_MAX 512

static clv_status append_context(clv_buf *out, const json_t *context, clv_error *err)
{
    size_t count = json_object_size(context);
    if (count > CONTEXT_PAIRS_MAX)
        return clv_fail(err, CLV_KMS_VALIDATION, "expected at most %d pairs, found %zu",
                        CONTEXT_PAIRS_MAX, count);
    const char *keys[CONTEXT_PAIRS_MAX];
    size_t n = 0;
    json_t *object = (json_t *)context;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i))
        keys[n++] = json_object_iter_key(i);
    if (n > 0)
        qsort(keys, n, sizeof keys[0], by_text);
    CLV_TRY(clv_buf_u32(out, (uint32_t)n, err));
    for (size_t i = 0; i < n; i++) {
        CLV_TRY(append_counted(out, keys[i], err));
        CLV_TRY(append_counted(out, json_string_value(json_object_get(context, keys[i])), err));
    }
    return CLV_OK;
}

static clv_status append_header(clv_buf *out, const char *key_id, uint32_t version, clv_error *err)
{
    clv_auto(clv_buf) digits = CLV_BUF_INIT;
    for (const char *c = key_id; *c != '\0'; c++) {
        if (*c != '-')
            CLV_TRY(clv_buf_append(&digits, CLV_BYTES(c, 1), err));
    }
    uint8_t uuid[UUID_SIZE];
    CLV_TRY(clv_hex_decode_exact(clv_buf_bytes(&digits), uuid, sizeof uuid, err));
    CLV_TRY(clv_buf_append_text(out, MAGIC, err));
    CLV_TRY(clv_buf_u8(out, BLOB_VERSION, err));
    CLV_TRY(clv_buf_append(out, CLV_BYTES(uuid, sizeof uuid), err));
    return clv_buf_u32(out, version, err);
}

clv_status clv_blob_seal(const char *key_id, uint32_t version, clv_bytes material,
                         const json_t *context, clv_bytes plaintext, clv_buf *out, clv_error *err)
{
    clv_auto(clv_buf) aad = CLV_BUF_INIT;
    CLV_TRY(append_header(&aad, key_id, version, err));
    CLV_TRY(clv_buf_append(out, clv_buf_bytes(&aad), err));
    CLV_TRY(append_context(&aad, context, err));
    uint8_t iv[IV_SIZE], tag[TAG_SIZE];
    clv_auto(cipher_ctx) ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    if (material.n != CLV_SYMMETRIC_SIZE || ctx == NULL || RAND_bytes(iv, sizeof iv) != 1 ||
        EVP_EncryptInit_ex2(ctx, EVP_aes_256_gcm(), material.p, iv, NULL) != 1 ||
        EVP_EncryptUpdate(ctx, NULL, &n, aad.p, (int)aad.n) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-GCM");
    CLV_TRY(clv_buf_append(out, CLV_BYTES(iv, sizeof iv), err));
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, plaintext.n, &to, err));
    int last = 0;
    if (EVP_EncryptUpdate(ctx, to, &n, plaintext.p, (int)plaintext.n) != 1 ||
        EVP_EncryptFinal_ex(ctx, tag, &last) != 1 ||
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_SIZE, tag) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-GCM");
    out->n += plaintext.n;
    return clv_buf_append(out, CLV_BYTES(tag, sizeof tag), err);
}

/* aad NULL: the caller does not want the tag looked at. */
static clv_status open_blob(const clv_blob *blob, clv_bytes material, const clv_buf *aad,
                            clv_buf *out, clv_error *err)
{
    clv_auto(cipher_ctx) ctx = EVP_CIPHER_CTX_new();
    int n = 0;
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, blob->ciphertext.n, &to, err));
    if (material.n != CLV_SYMMETRIC_SIZE || ctx == NULL ||
        EVP_DecryptInit_ex2(ctx, EVP_aes_256_gcm(), material.p, blob->iv.p, NULL) != 1 ||
        (aad != NULL && EVP_DecryptUpdate(ctx, NULL, &n, aad->p, (int)aad->n) != 1) ||
        EVP_DecryptUpdate(ctx, to, &n, blob->ciphertext.p, (int)blob->ciphertext.n) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-GCM");
    uint8_t none[TAG_SIZE];
    if (aad != NULL &&
        (EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_SIZE, (void *)blob->tag.p) != 1 ||
         EVP_DecryptFinal_ex(ctx, none, &n) != 1)) {
        clv_wipe(to, blob->ciphertext.n);
        return clv_fail(err, CLV_KMS_INVALID_CIPHERTEXT,
                        "the ciphertext was altered or belongs to another encryption context");
    }
    out->n += blob->ciphertext.n;
    return CLV_OK;
}

clv_status clv_blob_open(const clv_blob *blob, clv_bytes material, const json_t *context,
                         clv_buf *out, clv_error *err)
{
    clv_auto(clv_buf) aad = CLV_BUF_INIT;
    CLV_TRY(clv_buf_append(&aad, blob->header, err));
    CLV_TRY(append_context(&aad, context, err));
    return open_blob(blob, material, &aad, out, err);
}

clv_status clv_blob_reveal(const clv_blob *blob, clv_bytes material, clv_buf *out, clv_error *err)
{
    return open_blob(blob, material, NULL, out, err);
}

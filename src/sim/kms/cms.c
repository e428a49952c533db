#include <sim/kms/cms.h>

#include <base/crypto.h>
#include <claviger/secret.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define CONTENT_KEY_SIZE 32
#define IV_SIZE          16
#define PIECE_SIZE       16 /* of each OCTET STRING in CLV_CMS_MANY */

/* Identifier octets, X.690 section 8.1.2. */
enum {
    INTEGER = 0x02,
    OCTET_STRING = 0x04,
    OBJECT = 0x06,
    SEQUENCE = 0x30,
    SET = 0x31,
    CONTEXT_0 = 0x80,
    CONTEXT_0_CONSTRUCTED = 0xa0,
};

/* Whole object identifiers and AlgorithmIdentifiers in DER. */
static const char ENVELOPED_DATA[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03";
static const char DATA[] = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";
static const char AES_256_CBC[] = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2a";
static const char OAEP_SHA256[] =
    "\x30\x3c\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x30\x2f"
    "\xa0\x0f\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00"
    "\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"
    "\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00";

#define LITERAL(text) CLV_BYTES(text, sizeof(text) - 1)

static const char *const SHAPES[CLV_CMS_SHAPE_COUNT] = {
    [CLV_CMS_ONE] = "one",
    [CLV_CMS_MANY] = "many",
    [CLV_CMS_PRIMITIVE] = "primitive",
};

bool clv_cms_shape_of(const char *name, clv_cms_shape *out)
{
    for (int i = 0; i < CLV_CMS_SHAPE_COUNT; i++) {
        if (strcmp(name, SHAPES[i]) == 0) {
            *out = (clv_cms_shape)i;
            return true;
        }
    }
    return false;
}

/* X.690 section 8.1.3: short form below 128, else as few length octets as do. */
static clv_status append_tlv(clv_buf *out, uint8_t tag, clv_bytes value, clv_error *err)
{
    CLV_TRY(clv_buf_u8(out, tag, err));
    if (value.n < 0x80) {
        CLV_TRY(clv_buf_u8(out, (uint8_t)value.n, err));
    } else if (value.n <= 0xff) {
        CLV_TRY(clv_buf_u8(out, 0x81, err));
        CLV_TRY(clv_buf_u8(out, (uint8_t)value.n, err));
    } else if (value.n <= 0xffff) {
        CLV_TRY(clv_buf_u8(out, 0x82, err));
        CLV_TRY(clv_buf_u16(out, (uint16_t)value.n, err));
    } else {
        return clv_fail(err, CLV_TOO_LARGE, "expected at most 65535 bytes, found %zu", value.n);
    }
    return clv_buf_append(out, value, err);
}

static clv_status open_indefinite(clv_buf *out, uint8_t tag, clv_error *err)
{
    CLV_TRY(clv_buf_u8(out, tag, err));
    return clv_buf_u8(out, 0x80, err);
}

static clv_status close_indefinite(clv_buf *out, int levels, clv_error *err)
{
    for (int i = 0; i < levels; i++)
        CLV_TRY(clv_buf_u16(out, 0, err));
    return CLV_OK;
}

static clv_status append_recipient_infos(clv_buf *out, const clv_cms_parts *parts, clv_error *err)
{
    clv_auto(clv_buf) info = CLV_BUF_INIT;
    clv_auto(clv_buf) sequence = CLV_BUF_INIT;
    CLV_TRY(append_tlv(&info, INTEGER, LITERAL("\x02"), err));
    CLV_TRY(append_tlv(&info, CONTEXT_0,
                       CLV_BYTES(parts->key_identifier, sizeof parts->key_identifier), err));
    CLV_TRY(clv_buf_append(&info, LITERAL(OAEP_SHA256), err));
    CLV_TRY(append_tlv(&info, OCTET_STRING, parts->encrypted_key, err));
    CLV_TRY(append_tlv(&sequence, SEQUENCE, clv_buf_bytes(&info), err));
    return append_tlv(out, SET, clv_buf_bytes(&sequence), err);
}

static clv_status append_content(clv_buf *out, clv_bytes content, clv_cms_shape shape,
                                 clv_error *err)
{
    if (shape == CLV_CMS_PRIMITIVE)
        return append_tlv(out, CONTEXT_0, content, err);
    CLV_TRY(open_indefinite(out, CONTEXT_0_CONSTRUCTED, err));
    size_t piece = shape == CLV_CMS_MANY ? PIECE_SIZE : content.n;
    clv_cursor c = clv_cursor_of(content);
    while (c.rest.n > 0) {
        clv_bytes part;
        CLV_TRY(clv_cursor_take(&c, c.rest.n < piece ? c.rest.n : piece, &part, err));
        CLV_TRY(append_tlv(out, OCTET_STRING, part, err));
    }
    return close_indefinite(out, 1, err);
}

clv_status clv_cms_encode(const clv_cms_parts *parts, clv_cms_shape shape, clv_buf *out,
                          clv_error *err)
{
    clv_auto(clv_buf) algorithm = CLV_BUF_INIT;
    CLV_TRY(clv_buf_append(&algorithm, LITERAL(AES_256_CBC), err));
    CLV_TRY(append_tlv(&algorithm, OCTET_STRING, CLV_BYTES(parts->iv, sizeof parts->iv), err));

    CLV_TRY(open_indefinite(out, SEQUENCE, err));
    CLV_TRY(clv_buf_append(out, LITERAL(ENVELOPED_DATA), err));
    CLV_TRY(open_indefinite(out, CONTEXT_0_CONSTRUCTED, err));
    CLV_TRY(open_indefinite(out, SEQUENCE, err));
    CLV_TRY(append_tlv(out, INTEGER, LITERAL("\x02"), err));
    CLV_TRY(append_recipient_infos(out, parts, err));
    CLV_TRY(open_indefinite(out, SEQUENCE, err));
    CLV_TRY(clv_buf_append(out, LITERAL(DATA), err));
    CLV_TRY(append_tlv(out, SEQUENCE, clv_buf_bytes(&algorithm), err));
    CLV_TRY(append_content(out, parts->content, shape, err));
    return close_indefinite(out, 4, err);
}

typedef EVP_CIPHER_CTX *cipher_ctx;
typedef EVP_PKEY_CTX *pkey_ctx;

static void cipher_ctx_drop(cipher_ctx *ctx)
{
    EVP_CIPHER_CTX_free(*ctx);
    *ctx = NULL;
}

static void pkey_ctx_drop(pkey_ctx *ctx)
{
    EVP_PKEY_CTX_free(*ctx);
    *ctx = NULL;
}

static clv_status encrypt_content(const uint8_t key[CONTENT_KEY_SIZE], const uint8_t iv[IV_SIZE],
                                  clv_bytes plaintext, clv_buf *out, clv_error *err)
{
    clv_auto(cipher_ctx) ctx = EVP_CIPHER_CTX_new();
    uint8_t *to;
    int n = 0, last = 0;
    CLV_TRY(clv_buf_reserve(out, plaintext.n + IV_SIZE, &to, err));
    if (ctx == NULL || EVP_EncryptInit_ex2(ctx, EVP_aes_256_cbc(), key, iv, NULL) != 1 ||
        EVP_EncryptUpdate(ctx, to, &n, plaintext.p, (int)plaintext.n) != 1 ||
        EVP_EncryptFinal_ex(ctx, to + n, &last) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-CBC");
    out->n += (size_t)(n + last);
    return CLV_OK;
}

static clv_status encrypt_key(EVP_PKEY *recipient, const uint8_t key[CONTENT_KEY_SIZE],
                              clv_buf *out, clv_error *err)
{
    clv_auto(pkey_ctx) ctx = EVP_PKEY_CTX_new_from_pkey(NULL, recipient, NULL);
    size_t n = (size_t)EVP_PKEY_get_size(recipient);
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, n, &to, err));
    if (ctx == NULL || EVP_PKEY_encrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) != 1 ||
        EVP_PKEY_encrypt(ctx, to, &n, key, CONTENT_KEY_SIZE) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "RSAES-OAEP");
    out->n += n;
    return CLV_OK;
}

clv_status clv_cms_seal(clv_bytes spki, clv_bytes plaintext, clv_cms_shape shape, clv_buf *out,
                        clv_error *err)
{
    const uint8_t *p = spki.p;
    clv_auto(clv_pkey) recipient = d2i_PUBKEY(NULL, &p, (long)spki.n);
    if (recipient == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "the recipient's SubjectPublicKeyInfo");
    clv_cms_parts parts = {0};
    uint8_t key[CONTENT_KEY_SIZE];
    clv_auto(clv_buf) content = CLV_BUF_INIT;
    clv_auto(clv_buf) encrypted_key = CLV_BUF_INIT;
    if (RAND_priv_bytes(key, sizeof key) != 1 || RAND_bytes(parts.iv, sizeof parts.iv) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "random bytes");
    clv_status status = encrypt_content(key, parts.iv, plaintext, &content, err);
    if (status == CLV_OK)
        status = encrypt_key(recipient, key, &encrypted_key, err);
    clv_wipe(key, sizeof key);
    CLV_TRY(status);
    CLV_TRY(clv_sha256(spki, parts.key_identifier, err));
    parts.encrypted_key = clv_buf_bytes(&encrypted_key);
    parts.content = clv_buf_bytes(&content);
    return clv_cms_encode(&parts, shape, out, err);
}

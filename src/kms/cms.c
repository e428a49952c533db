#include <kms/cms.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include <base/crypto.h>
#include <kms/ber.h>

#define OID(...) CLV_BYTES(((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__}))

/* RFC 5652 sections 4 and 6.1, RFC 8017 appendix A.2.1, RFC 4055 section 2.1, RFC 3565 section 4.1:
 * the content octets of each object identifier. */
#define OID_DATA           OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01)
#define OID_ENVELOPED_DATA OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03)
#define OID_RSAES_OAEP     OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07)
#define OID_MGF1           OID(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08)
#define OID_SHA256         OID(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01)
#define OID_AES_256_CBC    OID(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a)

/* EnvelopedData and KeyTransRecipientInfo with a subjectKeyIdentifier (RFC 5652
 * sections 6.1, 6.2.1) are both version 2. */
#define VERSION 2

void clv_cms_drop(clv_cms *cms)
{
    clv_buf_drop(&cms->content);
    *cms = (clv_cms)CLV_CMS_INIT;
}

static clv_status expect_version(clv_cursor *c, const char *what, clv_error *err)
{
    clv_bytes number;
    CLV_TRY(clv_ber_expect(c, CLV_BER_INTEGER, what, &number, err));
    if (number.n != 1 || number.p[0] != VERSION)
        return clv_fail(err, CLV_CMS_FORMAT, "%s: expected %d, found another", what, VERSION);
    return CLV_OK;
}

static clv_status expect_oid(clv_cursor *c, clv_bytes oid, clv_status code, const char *what,
                             clv_error *err)
{
    clv_bytes found;
    CLV_TRY(clv_ber_expect(c, CLV_BER_OID, what, &found, err));
    if (!clv_bytes_equal(found, oid))
        return clv_fail(err, code, "%s: expected it, found another object identifier", what);
    return CLV_OK;
}

/* AlgorithmIdentifier of SHA-256: its parameters are NULL or absent (RFC 4055 section 2.1). */
static clv_status expect_sha256(clv_cursor *c, const char *what, clv_error *err)
{
    clv_bytes inside, null = {0};
    CLV_TRY(clv_ber_expect(c, CLV_BER_SEQUENCE, what, &inside, err));
    clv_cursor algorithm = clv_cursor_of(inside);
    CLV_TRY(expect_oid(&algorithm, OID_SHA256, CLV_CMS_ALGORITHM, what, err));
    if (algorithm.rest.n > 0)
        CLV_TRY(clv_ber_expect(&algorithm, CLV_BER_NULL, what, &null, err));
    if (null.n > 0)
        return clv_fail(err, CLV_CMS_FORMAT, "%s: expected an empty NULL, found content", what);
    return clv_ber_end(&algorithm, what, err);
}

/*
 * RSAES-OAEP-params (RFC 8017 appendix A.2.1). Absent members stand for SHA-1, which is refused
 * like any other algorithm than the one asked of KMS; a label is refused too.
 */
static clv_status expect_oaep_sha256(clv_cursor *c, clv_error *err)
{
    clv_bytes inside, member;
    CLV_TRY(clv_ber_expect(c, CLV_BER_SEQUENCE, "OAEP parameters", &inside, err));
    clv_cursor params = clv_cursor_of(inside);
    if (clv_ber_peek(&params) != CLV_BER_CONSTRUCTED(0))
        return clv_fail(err, CLV_CMS_ALGORITHM,
                        "OAEP parameters: expected SHA-256, found the default, SHA-1");
    CLV_TRY(clv_ber_expect(&params, CLV_BER_CONSTRUCTED(0), "OAEP hash", &member, err));
    clv_cursor hash = clv_cursor_of(member);
    CLV_TRY(expect_sha256(&hash, "OAEP hash SHA-256", err));
    CLV_TRY(clv_ber_end(&hash, "OAEP hash", err));

    if (clv_ber_peek(&params) != CLV_BER_CONSTRUCTED(1))
        return clv_fail(err, CLV_CMS_ALGORITHM,
                        "OAEP parameters: expected MGF1 with SHA-256, found the default, SHA-1");
    CLV_TRY(clv_ber_expect(&params, CLV_BER_CONSTRUCTED(1), "OAEP mask", &member, err));
    clv_cursor mask = clv_cursor_of(member);
    CLV_TRY(clv_ber_expect(&mask, CLV_BER_SEQUENCE, "OAEP mask", &member, err));
    CLV_TRY(clv_ber_end(&mask, "OAEP mask", err));
    clv_cursor mgf = clv_cursor_of(member);
    CLV_TRY(expect_oid(&mgf, OID_MGF1, CLV_CMS_ALGORITHM, "OAEP mask MGF1", err));
    CLV_TRY(expect_sha256(&mgf, "OAEP mask hash SHA-256", err));
    CLV_TRY(clv_ber_end(&mgf, "OAEP mask", err));

    if (clv_ber_peek(&params) == CLV_BER_CONSTRUCTED(2))
        return clv_fail(err, CLV_CMS_ALGORITHM, "OAEP parameters: expected no label, found one");
    return clv_ber_end(&params, "OAEP parameters", err);
}

/* RecipientInfos (RFC 5652 section 6.2) of exactly one KeyTransRecipientInfo. */
static clv_status parse_recipient(clv_bytes set, clv_cms *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(set);
    clv_bytes inside;
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SEQUENCE, "the only KeyTransRecipientInfo", &inside, err));
    CLV_TRY(clv_ber_end(&c, "RecipientInfos", err));

    c = clv_cursor_of(inside);
    CLV_TRY(expect_version(&c, "KeyTransRecipientInfo version", err));
    CLV_TRY(
        clv_ber_expect(&c, CLV_BER_CONTEXT(0), "subjectKeyIdentifier", &out->recipient_id, err));
    if (out->recipient_id.n != CLV_CMS_RECIPIENT_ID_SIZE)
        return clv_fail(err, CLV_CMS_FORMAT, "subjectKeyIdentifier: expected %d bytes, found %zu",
                        CLV_CMS_RECIPIENT_ID_SIZE, out->recipient_id.n);

    clv_bytes algorithm;
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SEQUENCE, "keyEncryptionAlgorithm", &algorithm, err));
    clv_cursor a = clv_cursor_of(algorithm);
    CLV_TRY(expect_oid(&a, OID_RSAES_OAEP, CLV_CMS_ALGORITHM, "keyEncryptionAlgorithm RSAES-OAEP",
                       err));
    CLV_TRY(expect_oaep_sha256(&a, err));
    CLV_TRY(clv_ber_end(&a, "keyEncryptionAlgorithm", err));

    CLV_TRY(clv_ber_expect(&c, CLV_BER_OCTET_STRING, "encryptedKey", &out->encrypted_key, err));
    return clv_ber_end(&c, "KeyTransRecipientInfo", err);
}

/* [0] IMPLICIT OCTET STRING: primitive, or constructed of any number of OCTET STRINGs (X.690
 * section 8.7). Both come from KMS. */
static clv_status join_content(clv_cursor *c, clv_buf *content, clv_error *err)
{
    clv_bytes inside;
    if (clv_ber_peek(c) != CLV_BER_CONSTRUCTED(0)) {
        CLV_TRY(clv_ber_expect(c, CLV_BER_CONTEXT(0), "encryptedContent", &inside, err));
        return clv_buf_append(content, inside, err);
    }
    CLV_TRY(clv_ber_expect(c, CLV_BER_CONSTRUCTED(0), "encryptedContent", &inside, err));
    clv_cursor pieces = clv_cursor_of(inside);
    while (pieces.rest.n > 0) {
        clv_bytes piece;
        CLV_TRY(clv_ber_expect(&pieces, CLV_BER_OCTET_STRING, "a piece of encryptedContent", &piece,
                               err));
        CLV_TRY(clv_buf_append(content, piece, err));
    }
    return CLV_OK;
}

/* EncryptedContentInfo (RFC 5652 section 6.1). */
static clv_status parse_content(clv_bytes info, clv_cms *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(info);
    CLV_TRY(expect_oid(&c, OID_DATA, CLV_CMS_FORMAT, "contentType data", err));
    clv_bytes algorithm;
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SEQUENCE, "contentEncryptionAlgorithm", &algorithm, err));
    clv_cursor a = clv_cursor_of(algorithm);
    CLV_TRY(expect_oid(&a, OID_AES_256_CBC, CLV_CMS_ALGORITHM,
                       "contentEncryptionAlgorithm AES-256-CBC", err));
    CLV_TRY(clv_ber_expect(&a, CLV_BER_OCTET_STRING, "AES-256-CBC IV", &out->iv, err));
    if (out->iv.n != CLV_CMS_BLOCK_SIZE)
        return clv_fail(err, CLV_CMS_FORMAT, "AES-256-CBC IV: expected %d bytes, found %zu",
                        CLV_CMS_BLOCK_SIZE, out->iv.n);
    CLV_TRY(clv_ber_end(&a, "contentEncryptionAlgorithm", err));

    CLV_TRY(join_content(&c, &out->content, err));
    if (out->content.n == 0 || out->content.n % CLV_CMS_BLOCK_SIZE != 0)
        return clv_fail(err, CLV_CMS_FORMAT,
                        "encryptedContent: expected whole blocks of %d bytes, "
                        "found %zu bytes",
                        CLV_CMS_BLOCK_SIZE, out->content.n);
    return clv_ber_end(&c, "EncryptedContentInfo", err);
}

static clv_status parse_enveloped(clv_bytes enveloped, clv_cms *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(enveloped);
    clv_bytes recipients, content;
    CLV_TRY(expect_version(&c, "EnvelopedData version", err));
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SET, "RecipientInfos", &recipients, err));
    CLV_TRY(parse_recipient(recipients, out, err));
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SEQUENCE, "EncryptedContentInfo", &content, err));
    CLV_TRY(parse_content(content, out, err));
    return clv_ber_end(&c, "EnvelopedData", err);
}

clv_status clv_cms_parse(clv_bytes bytes, clv_cms *out, clv_error *err)
{
    if (bytes.n == 0 || bytes.n > CLV_CMS_MAX)
        return clv_fail(err, CLV_CMS_FORMAT, "expected 1 to %d bytes of CMS, found %zu",
                        CLV_CMS_MAX, bytes.n);
    clv_auto(clv_cms) cms = CLV_CMS_INIT;
    clv_cursor c = clv_cursor_of(bytes);
    clv_bytes inside, explicit, enveloped;
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SEQUENCE, "ContentInfo", &inside, err));
    CLV_TRY(clv_ber_end(&c, "the CMS message", err));

    c = clv_cursor_of(inside);
    CLV_TRY(expect_oid(&c, OID_ENVELOPED_DATA, CLV_CMS_FORMAT, "contentType envelopedData", err));
    CLV_TRY(clv_ber_expect(&c, CLV_BER_CONSTRUCTED(0), "content", &explicit, err));
    CLV_TRY(clv_ber_end(&c, "ContentInfo", err));

    c = clv_cursor_of(explicit);
    CLV_TRY(clv_ber_expect(&c, CLV_BER_SEQUENCE, "EnvelopedData", &enveloped, err));
    CLV_TRY(clv_ber_end(&c, "content", err));
    CLV_TRY(parse_enveloped(enveloped, &cms, err));

    *out = cms;
    cms = (clv_cms)CLV_CMS_INIT;
    return CLV_OK;
}

clv_status clv_cms_check(clv_bytes cms, uint8_t recipient_id[32], clv_error *err)
{
    clv_auto(clv_cms) parts = CLV_CMS_INIT;
    CLV_TRY(clv_cms_parse(cms, &parts, err));
    memcpy(recipient_id, parts.recipient_id.p, CLV_CMS_RECIPIENT_ID_SIZE);
    return CLV_OK;
}

/* The one error for everything that depends on a key. */
static clv_status cannot_open(clv_error *err)
{
    ERR_clear_error();
    return clv_fail(err, CLV_CMS_OPEN,
                    "expected a content that this key opens, found a wrong key or wrong padding");
}

/* All ones when a < b, else zero; both below 2^31. */
static uint32_t mask_less(uint32_t a, uint32_t b)
{
    return (uint32_t)0 - ((a - b) >> 31);
}

/* All ones when a is zero, else zero. */
static uint32_t mask_zero(uint32_t a)
{
    return ((a | ((uint32_t)0 - a)) >> 31) - 1;
}

/*
 * The length without the padding of RFC 5652 section 6.3, and a mask that is all ones when the
 * padding is right. It reads the same bytes in the same order whatever they hold.
 */
static uint32_t check_padding(clv_bytes text, uint32_t *length)
{
    uint32_t pad = text.p[text.n - 1];
    uint32_t wrong = mask_zero(pad) | mask_less(CLV_CMS_BLOCK_SIZE, pad);
    for (uint32_t i = 0; i < CLV_CMS_BLOCK_SIZE; i++)
        wrong |= mask_less(i, pad) & (text.p[text.n - 1 - i] ^ pad);
    uint32_t right = mask_zero(wrong);
    *length = (uint32_t)text.n - (pad & right);
    return right;
}

typedef EVP_CIPHER_CTX *cipher_ctx;
static void cipher_ctx_drop(cipher_ctx *ctx)
{
    EVP_CIPHER_CTX_free(*ctx); /* wipes the key schedule */
}

static clv_status decrypt_cbc(const clv_cms *cms, const clv_secret *content_key, clv_secret *out,
                              clv_error *err)
{
    clv_auto(cipher_ctx) ctx = EVP_CIPHER_CTX_new();
    int n = 0, rest = 0;
    uint8_t *to = clv_secret_writable(out);
    if (ctx == NULL ||
        EVP_DecryptInit_ex2(ctx, EVP_aes_256_cbc(), clv_secret_bytes(content_key).p, cms->iv.p,
                            NULL) != 1 ||
        EVP_CIPHER_CTX_set_padding(ctx, 0) != 1 ||
        EVP_DecryptUpdate(ctx, to, &n, cms->content.p, (int)cms->content.n) != 1 ||
        EVP_DecryptFinal_ex(ctx, to + n, &rest) != 1 || (size_t)(n + rest) != cms->content.n)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-CBC failed");
    return CLV_OK;
}

/* `usable`: all ones when content_key is what the recipient's key gave, zero when it is a stand-in
 * whose result must not leave. */
static clv_status decrypt_content(const clv_cms *cms, const clv_secret *content_key,
                                  uint32_t usable, clv_secret **out, clv_error *err)
{
    clv_auto_ptr(clv_secret) text = NULL;
    CLV_TRY(clv_secret_new(cms->content.n, &text, err));
    CLV_TRY(decrypt_cbc(cms, content_key, text, err));
    uint32_t length;
    uint32_t right = check_padding(clv_secret_bytes(text), &length) & usable;
    /* KMS has no empty plaintext, and neither have secrets. */
    if ((right & mask_less(0, length)) == 0)
        return cannot_open(err);
    clv_secret_shrink(text, length);
    *out = text;
    text = NULL;
    return CLV_OK;
}

clv_status clv_cms_decrypt(const clv_cms *cms, const clv_secret *content_key, clv_secret **out,
                           clv_error *err)
{
    if (clv_secret_length(content_key) != CLV_CMS_CONTENT_KEY_SIZE)
        return clv_fail(err, CLV_CMS_OPEN, "expected a content key of %d bytes, found %zu",
                        CLV_CMS_CONTENT_KEY_SIZE, clv_secret_length(content_key));
    return decrypt_content(cms, content_key, UINT32_MAX, out, err);
}

static clv_status check_recipient(const clv_cms *cms, EVP_PKEY *key, clv_error *err)
{
    if (!EVP_PKEY_is_a(key, "RSA"))
        return clv_fail(err, CLV_CMS_RECIPIENT, "expected an RSA key, found another");
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_spki_append(&spki, key, err));
    CLV_TRY(clv_sha256(clv_buf_bytes(&spki), digest, err));
    if (!clv_bytes_equal(cms->recipient_id, CLV_BYTES(digest, sizeof digest)))
        return clv_fail(err, CLV_CMS_RECIPIENT,
                        "subjectKeyIdentifier: expected the SHA-256 of this key, found another");
    if (cms->encrypted_key.n != (size_t)EVP_PKEY_get_size(key))
        return clv_fail(err, CLV_CMS_FORMAT, "encryptedKey: expected %d bytes, found %zu",
                        EVP_PKEY_get_size(key), cms->encrypted_key.n);
    return CLV_OK;
}

typedef EVP_PKEY_CTX *pkey_ctx;
static void pkey_ctx_drop(pkey_ctx *ctx)
{
    EVP_PKEY_CTX_free(*ctx);
}

/*
 * RSAES-OAEP into `opened`, which has the room that the RSA operation asks for. *usable is a mask:
 * all ones when a content key of the right length came out.
 */
static clv_status decrypt_key(const clv_cms *cms, EVP_PKEY *key, clv_secret *opened,
                              uint32_t *usable, clv_error *err)
{
    clv_auto(pkey_ctx) ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (ctx == NULL || EVP_PKEY_decrypt_init(ctx) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "RSAES-OAEP cannot be set up");
    size_t n = clv_secret_length(opened);
    int result = EVP_PKEY_decrypt(ctx, clv_secret_writable(opened), &n, cms->encrypted_key.p,
                                  cms->encrypted_key.n);
    ERR_clear_error();
    *usable = mask_zero((uint32_t)result ^ 1) & mask_zero((uint32_t)n ^ CLV_CMS_CONTENT_KEY_SIZE);
    return CLV_OK;
}

clv_status clv_cms_open(clv_bytes cms, EVP_PKEY *key, clv_secret **out, clv_error *err)
{
    clv_auto(clv_cms) parts = CLV_CMS_INIT;
    CLV_TRY(clv_cms_parse(cms, &parts, err));
    CLV_TRY(check_recipient(&parts, key, err));

    /* RFC 5652 section 11 and RFC 3218: a key that does not decrypt must look like any other
     * failure, so the content is then decrypted under a random one. */
    clv_auto_ptr(clv_secret) opened = NULL;
    clv_auto_ptr(clv_secret) content_key = NULL;
    uint32_t usable = 0;
    CLV_TRY(clv_secret_new((size_t)EVP_PKEY_get_size(key), &opened, err));
    CLV_TRY(decrypt_key(&parts, key, opened, &usable, err));
    CLV_TRY(clv_secret_random(CLV_CMS_CONTENT_KEY_SIZE, &content_key, err));
    const uint8_t *from = clv_secret_bytes(opened).p;
    uint8_t *to = clv_secret_writable(content_key);
    for (size_t i = 0; i < CLV_CMS_CONTENT_KEY_SIZE; i++)
        to[i] = (uint8_t)((from[i] & usable) | (to[i] & ~usable));
    return decrypt_content(&parts, content_key, usable, out, err);
}

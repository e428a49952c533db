#include "cms_writer.h"

#include "../check.h"

#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define RAW(literal) CLV_BYTES(literal, sizeof(literal) - 1)

enum form { DEFINITE, LONG, INDEFINITE };

static void write_as(clv_buf *out, uint8_t tag, clv_bytes content, enum form form)
{
    assert_ok(clv_buf_u8(out, tag, err));
    if (form == INDEFINITE)
        assert_ok(clv_buf_u8(out, 0x80, err));
    else if (form == LONG)
        assert_ok(clv_buf_u8(out, 0x84, err));
    else if (content.n >= 0x100)
        assert_ok(clv_buf_u8(out, 0x82, err));
    else if (content.n >= 0x80)
        assert_ok(clv_buf_u8(out, 0x81, err));
    if (form == LONG)
        assert_ok(clv_buf_u32(out, (uint32_t)content.n, err));
    else if (form == DEFINITE && content.n >= 0x100)
        assert_ok(clv_buf_u16(out, (uint16_t)content.n, err));
    else if (form == DEFINITE)
        assert_ok(clv_buf_u8(out, (uint8_t)content.n, err));
    assert_ok(clv_buf_append(out, content, err));
    if (form == INDEFINITE)
        assert_ok(clv_buf_append(out, RAW("\0\0"), err));
}

void ber_write(clv_buf *out, uint8_t tag, clv_bytes content)
{
    write_as(out, tag, content, DEFINITE);
}

typedef struct writer {
    const cms_shape *shape;
    uint8_t spki_digest[32];
    clv_buf encrypted_key, iv, content;
} writer;

static void element(const writer *w, clv_buf *out, cms_element which, uint8_t tag,
                    clv_bytes content)
{
    const clv_bytes *replaced = &w->shape->replaced[which];
    if (replaced->p != NULL)
        assert_ok(clv_buf_append(out, *replaced, err));
    else if (tag != 0)
        write_as(out, tag, content, w->shape->long_lengths ? LONG : DEFINITE);
}

/* A container: of definite length, or as KMS writes the outer ones. */
static void wrap(const writer *w, clv_buf *out, uint8_t tag, const clv_buf *inside, bool outer)
{
    enum form definite = w->shape->long_lengths ? LONG : DEFINITE;
    write_as(out, tag, clv_buf_bytes(inside), outer && !w->shape->definite ? INDEFINITE : definite);
}

#define NOTHING CLV_BYTES(NULL, 0)

static void write_sha256(const writer *w, clv_buf *out)
{
    clv_auto(clv_buf) inside = CLV_BUF_INIT;
    ber_write(&inside, 0x06, RAW("\x60\x86\x48\x01\x65\x03\x04\x02\x01"));
    if (!w->shape->no_null)
        ber_write(&inside, 0x05, NOTHING);
    wrap(w, out, 0x30, &inside, false);
}

static void write_oaep(const writer *w, clv_buf *out)
{
    clv_auto(clv_buf) params = CLV_BUF_INIT, hash = CLV_BUF_INIT, mask = CLV_BUF_INIT,
                      mgf = CLV_BUF_INIT;
    write_sha256(w, &hash);
    element(w, &params, CMS_OAEP_HASH, 0xa0, clv_buf_bytes(&hash));
    ber_write(&mgf, 0x06, RAW("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"));
    write_sha256(w, &mgf);
    wrap(w, &mask, 0x30, &mgf, false);
    element(w, &params, CMS_OAEP_MASK, 0xa1, clv_buf_bytes(&mask));
    element(w, &params, CMS_OAEP_LABEL, 0, NOTHING);
    element(w, &params, CMS_OAEP_END, 0, NOTHING);
    wrap(w, out, 0x30, &params, false);
}

static void write_recipient(const writer *w, clv_buf *out)
{
    clv_auto(clv_buf) set = CLV_BUF_INIT, info = CLV_BUF_INIT, algorithm = CLV_BUF_INIT;
    element(w, &info, CMS_RECIPIENT_VERSION, 0x02, RAW("\x02"));
    element(w, &info, CMS_RECIPIENT_ID, 0x80, CLV_BYTES(w->spki_digest, 32));
    ber_write(&algorithm, 0x06, RAW("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07"));
    write_oaep(w, &algorithm);
    element(w, &algorithm, CMS_KEY_ALGORITHM_END, 0, NOTHING);
    element(w, &info, CMS_KEY_ALGORITHM, 0x30, clv_buf_bytes(&algorithm));
    element(w, &info, CMS_ENCRYPTED_KEY, 0x04, clv_buf_bytes(&w->encrypted_key));
    element(w, &info, CMS_RECIPIENT_END, 0, NOTHING);
    wrap(w, &set, 0x30, &info, false);
    element(w, &set, CMS_RECIPIENTS_END, 0, NOTHING);
    wrap(w, out, 0x31, &set, false);
}

static void write_pieces(const writer *w, clv_buf *out)
{
    clv_auto(clv_buf) pieces = CLV_BUF_INIT;
    size_t step = w->shape->form == CMS_SEVERAL_PIECES ? 7 : w->content.n;
    for (size_t at = 0; at < w->content.n; at += step) {
        size_t n = w->content.n - at < step ? w->content.n - at : step;
        ber_write(&pieces, 0x04, CLV_BYTES(w->content.p + at, n));
    }
    wrap(w, out, 0xa0, &pieces, true);
}

static void write_content(const writer *w, clv_buf *out)
{
    clv_auto(clv_buf) info = CLV_BUF_INIT, cipher = CLV_BUF_INIT;
    element(w, &info, CMS_CONTENT_TYPE, 0x06, RAW("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"));
    element(w, &cipher, CMS_CIPHER, 0x06, RAW("\x60\x86\x48\x01\x65\x03\x04\x01\x2a"));
    element(w, &cipher, CMS_IV, 0x04, clv_buf_bytes(&w->iv));
    element(w, &cipher, CMS_CIPHER_END, 0, NOTHING);
    wrap(w, &info, 0x30, &cipher, false);
    if (w->shape->replaced[CMS_CONTENT].p != NULL || w->shape->form == CMS_PRIMITIVE)
        element(w, &info, CMS_CONTENT, 0x80, clv_buf_bytes(&w->content));
    else
        write_pieces(w, &info);
    element(w, &info, CMS_CONTENT_END, 0, NOTHING);
    wrap(w, out, 0x30, &info, true);
}

static void encrypt_key(writer *w, EVP_PKEY *recipient, const uint8_t *key, size_t key_length)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(recipient, NULL);
    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()), 1);
    uint8_t *to;
    size_t n = (size_t)EVP_PKEY_get_size(recipient);
    assert_ok(clv_buf_reserve(&w->encrypted_key, n, &to, err));
    assert_int_equal(EVP_PKEY_encrypt(ctx, to, &n, key, key_length), 1);
    w->encrypted_key.n = n;
    EVP_PKEY_CTX_free(ctx);
}

static void encrypt_content(writer *w, const uint8_t *key, clv_bytes plaintext)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    uint8_t *to;
    int n = 0, rest = 0;
    assert_ok(clv_buf_reserve(&w->content, plaintext.n + 16, &to, err));
    assert_int_equal(EVP_EncryptInit_ex2(ctx, EVP_aes_256_cbc(), key, w->iv.p, NULL), 1);
    EVP_CIPHER_CTX_set_padding(ctx, w->shape->keep_padding ? 0 : 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, to, &n, plaintext.p, (int)plaintext.n), 1);
    assert_int_equal(EVP_EncryptFinal_ex(ctx, to + n, &rest), 1);
    w->content.n = (size_t)(n + rest);
    EVP_CIPHER_CTX_free(ctx);
}

static void digest_spki(EVP_PKEY *recipient, uint8_t out[32])
{
    uint8_t *der = NULL;
    int n = i2d_PUBKEY(recipient, &der);
    assert_true(n > 0);
    assert_int_equal(EVP_Digest(der, (size_t)n, out, NULL, EVP_sha256(), NULL), 1);
    OPENSSL_free(der);
}

void cms_write(const cms_shape *shape, EVP_PKEY *recipient, clv_bytes plaintext, clv_buf *out)
{
    writer w = {.shape = shape};
    uint8_t key[64], *iv;
    assert_int_equal(RAND_bytes(key, sizeof key), 1);
    assert_ok(clv_buf_reserve(&w.iv, 16, &iv, err));
    assert_int_equal(RAND_bytes(iv, 16), 1);
    w.iv.n = 16;
    digest_spki(recipient, w.spki_digest);
    encrypt_key(&w, recipient, key, shape->key_length != 0 ? shape->key_length : 32);
    encrypt_content(&w, key, plaintext);

    clv_auto(clv_buf) enveloped = CLV_BUF_INIT, explicit = CLV_BUF_INIT, outer = CLV_BUF_INIT;
    clv_auto(clv_buf) inside = CLV_BUF_INIT;
    element(&w, &enveloped, CMS_VERSION, 0x02, RAW("\x02"));
    element(&w, &enveloped, CMS_ORIGINATOR, 0, NOTHING);
    write_recipient(&w, &enveloped);
    write_content(&w, &enveloped);
    element(&w, &enveloped, CMS_ENVELOPED_END, 0, NOTHING);
    wrap(&w, &explicit, 0x30, &enveloped, true);
    element(&w, &explicit, CMS_EXPLICIT_END, 0, NOTHING);
    element(&w, &inside, CMS_OUTER_OID, 0x06, RAW("\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03"));
    wrap(&w, &inside, 0xa0, &explicit, true);
    element(&w, &inside, CMS_OUTER_END, 0, NOTHING);
    wrap(&w, &outer, 0x30, &inside, true);
    element(&w, &outer, CMS_TRAILING, 0, NOTHING);
    assert_ok(clv_buf_append(out, clv_buf_bytes(&outer), err));
    clv_buf_drop(&w.encrypted_key);
    clv_buf_drop(&w.iv);
    clv_buf_drop(&w.content);
}

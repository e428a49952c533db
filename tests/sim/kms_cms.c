/* CiphertextForRecipient as the local KMS writes it: byte for byte what KMS writes, and openable
 * by OpenSSL's own CMS code. */
#include "../check.h"

#include <openssl/cms.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <sim/kms/cms.h>
#include <sys/stat.h>

#include <base/crypto.h>
#include <base/file.h>

static const char *vectors(void)
{
    const char *named = getenv("CLAVIGER_VECTORS");
    return named != NULL ? named : getenv("CLAVIGER_VECTORS_DEFAULT");
}

/* Where the parts stand in an answer for a 2048-bit key, after the shape of KMS's samples. */
enum { SKI_AT = 33, KEY_AT = 131, KEY_SIZE = 256, IV_AT = 415, CONTENT_AT = 431 };

static void writes_the_bytes_that_kms_wrote(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        clv_cms_shape shape;
        size_t at, n; /* the content */
    } rows[] = {
        {"01-aws-sdk-c-plain.cms", CLV_CMS_ONE, CONTENT_AT + 4, 48},
        {"02-aws-sdk-c-primitive-ctx0.cms", CLV_CMS_PRIMITIVE, CONTENT_AT + 2, 16},
        {"04-enclaver-rust.cms", CLV_CMS_ONE, CONTENT_AT + 4, 16},
        {"05-aws-samples-eks-wallet.cms", CLV_CMS_ONE, CONTENT_AT + 5, 160},
        {"07-yawn-ned-readme.cms", CLV_CMS_ONE, CONTENT_AT + 4, 32},
        {"09-rust-luks-prod.cms", CLV_CMS_ONE, CONTENT_AT + 4, 48},
    };
    struct stat there;
    if (vectors() == NULL || stat(vectors(), &there) != 0)
        skip();
    for (size_t i = 0; i < ROWS(rows); i++) {
        char path[4096];
        clv_auto(clv_buf) theirs = CLV_BUF_INIT;
        clv_auto(clv_buf) ours = CLV_BUF_INIT;
        clv_cms_parts parts = {.content = {NULL, 0}};
        snprintf(path, sizeof path, "%s/cms/%s", vectors(), rows[i].name);
        assert_ok(clv_file_read(path, 4096, &theirs, err));
        memcpy(parts.key_identifier, theirs.p + SKI_AT, sizeof parts.key_identifier);
        memcpy(parts.iv, theirs.p + IV_AT, sizeof parts.iv);
        parts.encrypted_key = CLV_BYTES(theirs.p + KEY_AT, KEY_SIZE);
        parts.content = CLV_BYTES(theirs.p + rows[i].at, rows[i].n);
        assert_ok(clv_cms_encode(&parts, rows[i].shape, &ours, err));
        assert_int_equal(ours.n, theirs.n);
        assert_memory_equal(ours.p, theirs.p, ours.n);
    }
}

/* OpenSSL finds a recipient by its certificate; the key alone is given here. */
static void open_with_openssl(EVP_PKEY *key, clv_bytes cms, clv_buf *out)
{
    const uint8_t *p = cms.p;
    CMS_ContentInfo *info = d2i_CMS_ContentInfo(NULL, &p, (long)cms.n);
    assert_non_null(info);
    assert_int_equal((size_t)(p - cms.p), cms.n);
    BIO *memory = BIO_new(BIO_s_mem());
    assert_int_equal(CMS_decrypt(info, key, NULL, NULL, memory, 0), 1);
    char *text = NULL;
    long n = BIO_get_mem_data(memory, &text);
    assert_ok(clv_buf_append(out, CLV_BYTES(text, n), err));
    BIO_free(memory);
    CMS_ContentInfo_free(info);
}

static void is_opened_by_openssl_in_every_shape_and_size(void **state)
{
    (void)state;
    static const int bits[] = {2048, 3072, 4096};
    static const size_t sizes[] = {1, 15, 16, 17, 32, 127, 128, 1024};
    for (size_t b = 0; b < ROWS(bits); b++) {
        clv_auto(clv_pkey) key = EVP_RSA_gen((size_t)bits[b]);
        clv_auto(clv_buf) spki = CLV_BUF_INIT;
        assert_ok(clv_spki_append(&spki, key, err));
        for (size_t s = 0; s < ROWS(sizes); s++) {
            for (int shape = 0; shape < CLV_CMS_SHAPE_COUNT; shape++) {
                uint8_t plaintext[1024];
                clv_auto(clv_buf) cms = CLV_BUF_INIT;
                clv_auto(clv_buf) opened = CLV_BUF_INIT;
                memset(plaintext, (int)(s + 1), sizeof plaintext);
                assert_ok(clv_cms_seal(clv_buf_bytes(&spki), CLV_BYTES(plaintext, sizes[s]),
                                       (clv_cms_shape)shape, &cms, err));
                open_with_openssl(key, clv_buf_bytes(&cms), &opened);
                assert_int_equal(opened.n, sizes[s]);
                assert_memory_equal(opened.p, plaintext, sizes[s]);
            }
        }
    }
}

static void names_the_recipient_by_the_digest_of_its_key(void **state)
{
    (void)state;
    clv_auto(clv_pkey) key = EVP_RSA_gen(2048);
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    uint8_t digest[CLV_SHA256_SIZE];
    assert_ok(clv_spki_append(&spki, key, err));
    assert_ok(clv_sha256(clv_buf_bytes(&spki), digest, err));
    assert_ok(clv_cms_seal(clv_buf_bytes(&spki), clv_bytes_of("secret"), CLV_CMS_ONE, &cms, err));
    assert_memory_equal(cms.p + SKI_AT, digest, sizeof digest);
}

static void encrypts_anew_each_time(void **state)
{
    (void)state;
    clv_auto(clv_pkey) key = EVP_RSA_gen(2048);
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    clv_auto(clv_buf) one = CLV_BUF_INIT;
    clv_auto(clv_buf) two = CLV_BUF_INIT;
    assert_ok(clv_spki_append(&spki, key, err));
    assert_ok(clv_cms_seal(clv_buf_bytes(&spki), clv_bytes_of("secret"), CLV_CMS_ONE, &one, err));
    assert_ok(clv_cms_seal(clv_buf_bytes(&spki), clv_bytes_of("secret"), CLV_CMS_ONE, &two, err));
    assert_memory_not_equal(one.p + IV_AT, two.p + IV_AT, 16);
    assert_memory_not_equal(one.p + KEY_AT, two.p + KEY_AT, KEY_SIZE);
    assert_memory_not_equal(one.p + CONTENT_AT + 4, two.p + CONTENT_AT + 4, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_bytes_that_kms_wrote),
        cmocka_unit_test(is_opened_by_openssl_in_every_shape_and_size),
        cmocka_unit_test(names_the_recipient_by_the_digest_of_its_key),
        cmocka_unit_test(encrypts_anew_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

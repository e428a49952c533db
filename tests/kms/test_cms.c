#include "../check.h"
#include "cms_writer.h"

#include <base/crypto.h>
#include <base/file.h>
#include <kms/cms.h>

#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/rsa.h>

#define RAW(literal) CLV_BYTES(literal, sizeof(literal) - 1)
#define GONE         CLV_BYTES("", 0)
#define PLAINTEXT    "thirty-two bytes of a data key.."

/* The algorithm identifier SEQUENCE { sha256, NULL } and the like, as replacements. */
#define OID_SHA1   "\x06\x05\x2b\x0e\x03\x02\x1a"
#define OID_SHA256 "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
#define OID_MGF1   "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"

static EVP_PKEY *key, *other_key;

static int make_keys(void **state)
{
    (void)state;
    key = EVP_RSA_gen(2048);
    other_key = EVP_RSA_gen(2048);
    return key != NULL && other_key != NULL ? 0 : -1;
}

static int drop_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
    return 0;
}

static const char *vectors(void)
{
    const char *given = getenv("CLAVIGER_VECTORS");
    return given != NULL ? given : getenv("CLAVIGER_VECTORS_DEFAULT");
}

/* The vector, or the test is skipped where there are none. */
static void read_vector(const char *name, clv_buf *out)
{
    char path[512];
    snprintf(path, sizeof path, "%s/cms/%s", vectors(), name);
    if (vectors() == NULL || access(path, R_OK) != 0)
        skip();
    assert_ok(clv_file_read(path, CLV_CMS_MAX, out, err));
}

static void opens_messages_that_kms_made(void **state)
{
    (void)state;
    static const char *const names[] = {"04-enclaver-rust", "05-aws-samples-eks-wallet"};
    for (size_t i = 0; i < ROWS(names); i++) {
        char file[100];
        clv_auto(clv_buf) cms = CLV_BUF_INIT, pem = CLV_BUF_INIT, plaintext = CLV_BUF_INIT;
        snprintf(file, sizeof file, "%s.cms", names[i]);
        read_vector(file, &cms);
        snprintf(file, sizeof file, "%s.key.pem", names[i]);
        read_vector(file, &pem);
        snprintf(file, sizeof file, "%s.plaintext", names[i]);
        read_vector(file, &plaintext);
        BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
        clv_auto(clv_pkey) private = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
        BIO_free(bio);
        assert_non_null(private);
        clv_auto_ptr(clv_secret) opened = NULL;
        assert_ok(clv_cms_open(clv_buf_bytes(&cms), private, &opened, err));
        assert_true(clv_bytes_equal(clv_secret_bytes(opened), clv_buf_bytes(&plaintext)));
        clv_auto_ptr(clv_secret) none = NULL;
        assert_code(clv_cms_open(clv_buf_bytes(&cms), key, &none, err), CLV_CMS_RECIPIENT);
    }
}

static void opens_a_message_that_kms_made_with_its_content_key(void **state)
{
    (void)state;
    clv_auto(clv_buf) cms = CLV_BUF_INIT, hex = CLV_BUF_INIT, plaintext = CLV_BUF_INIT;
    read_vector("07-yawn-ned-readme.cms", &cms);
    read_vector("07-yawn-ned-readme.cek.hex", &hex);
    read_vector("07-yawn-ned-readme.plaintext", &plaintext);
    uint8_t bytes[32];
    assert_ok(clv_hex_decode_exact(CLV_BYTES(hex.p, 64), bytes, sizeof bytes, err));
    clv_auto_ptr(clv_secret) content_key = NULL;
    clv_auto_ptr(clv_secret) opened = NULL;
    clv_auto(clv_cms) parts = CLV_CMS_INIT;
    assert_ok(clv_secret_copy(CLV_BYTES(bytes, sizeof bytes), &content_key, err));
    assert_ok(clv_cms_parse(clv_buf_bytes(&cms), &parts, err));
    assert_ok(clv_cms_decrypt(&parts, content_key, &opened, err));
    assert_true(clv_bytes_equal(clv_secret_bytes(opened), clv_buf_bytes(&plaintext)));
}

static void reads_every_shape_that_kms_made(void **state)
{
    (void)state;
    static const char *const names[] = {"01-aws-sdk-c-plain.cms", "02-aws-sdk-c-primitive-ctx0.cms",
                                        "09-rust-luks-prod.cms"};
    for (size_t i = 0; i < ROWS(names); i++) {
        clv_auto(clv_buf) cms = CLV_BUF_INIT;
        read_vector(names[i], &cms);
        uint8_t id[32];
        assert_ok(clv_cms_check(clv_buf_bytes(&cms), id, err));
    }
}

static void refuses_oaep_with_its_sha1_defaults(void **state)
{
    (void)state;
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    read_vector("08-rockowl-oaep-sha1-default.cms", &cms);
    uint8_t id[32];
    assert_code(clv_cms_check(clv_buf_bytes(&cms), id, err), CLV_CMS_ALGORITHM);
}

static void opens_every_shape_that_kms_may_make(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 24; i++) {
        cms_shape shape = {.definite = (i & 1) != 0,
                           .long_lengths = (i & 2) != 0,
                           .no_null = (i & 4) != 0,
                           .form = (cms_content_form)(i / 8)};
        clv_auto(clv_buf) cms = CLV_BUF_INIT;
        cms_write(&shape, key, RAW(PLAINTEXT), &cms);
        clv_auto_ptr(clv_secret) opened = NULL;
        assert_ok(clv_cms_open(clv_buf_bytes(&cms), key, &opened, err));
        assert_bytes(clv_secret_bytes(opened), PLAINTEXT);
    }
}

static void opens_plaintexts_of_every_length(void **state)
{
    (void)state;
    static const cms_shape shape = {0};
    uint8_t plaintext[70];
    memset(plaintext, 0x10, sizeof plaintext);
    for (size_t n = 1; n <= sizeof plaintext; n++) {
        clv_auto(clv_buf) cms = CLV_BUF_INIT;
        cms_write(&shape, key, CLV_BYTES(plaintext, n), &cms);
        clv_auto_ptr(clv_secret) opened = NULL;
        assert_ok(clv_cms_open(clv_buf_bytes(&cms), key, &opened, err));
        assert_true(clv_bytes_equal(clv_secret_bytes(opened), CLV_BYTES(plaintext, n)));
    }
}

/* One element replaced at a time. */
static const struct mutation {
    const char *name;
    cms_element element;
    clv_bytes with;
    clv_status expected;
} mutations[] = {
    {"signedData", CMS_OUTER_OID, RAW("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"),
     CLV_CMS_FORMAT},
    {"no content type", CMS_OUTER_OID, GONE, CLV_CMS_FORMAT},
    {"content type of length 0", CMS_OUTER_OID, RAW("\x06\x00"), CLV_CMS_FORMAT},
    {"EnvelopedData version 0", CMS_VERSION, RAW("\x02\x01\x00"), CLV_CMS_FORMAT},
    {"EnvelopedData version 3", CMS_VERSION, RAW("\x02\x01\x03"), CLV_CMS_FORMAT},
    {"EnvelopedData version in two bytes", CMS_VERSION, RAW("\x02\x02\x00\x02"), CLV_CMS_FORMAT},
    {"EnvelopedData version a string", CMS_VERSION, RAW("\x04\x01\x02"), CLV_CMS_FORMAT},
    {"no EnvelopedData version", CMS_VERSION, GONE, CLV_CMS_FORMAT},
    {"originatorInfo", CMS_ORIGINATOR, RAW("\xa0\x00"), CLV_CMS_FORMAT},
    {"recipient version 0", CMS_RECIPIENT_VERSION, RAW("\x02\x01\x00"), CLV_CMS_FORMAT},
    {"no recipient version", CMS_RECIPIENT_VERSION, GONE, CLV_CMS_FORMAT},
    {"no recipient id", CMS_RECIPIENT_ID, GONE, CLV_CMS_FORMAT},
    {"recipient id of 20 bytes", CMS_RECIPIENT_ID,
     RAW("\x80\x14"
         "01234567890123456789"),
     CLV_CMS_FORMAT},
    {"recipient id empty", CMS_RECIPIENT_ID, RAW("\x80\x00"), CLV_CMS_FORMAT},
    {"recipient id of 33 bytes", CMS_RECIPIENT_ID,
     RAW("\x80\x21"
         "012345678901234567890123456789012"),
     CLV_CMS_FORMAT},
    {"recipient id of another key", CMS_RECIPIENT_ID,
     RAW("\x80\x20"
         "01234567890123456789012345678901"),
     CLV_CMS_RECIPIENT},
    {"recipient id as issuerAndSerialNumber", CMS_RECIPIENT_ID, RAW("\x30\x05\x30\x00\x02\x01\x01"),
     CLV_CMS_FORMAT},
    {"rsaEncryption (PKCS #1 v1.5)", CMS_KEY_ALGORITHM,
     RAW("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"), CLV_CMS_ALGORITHM},
    {"RSAES-OAEP without parameters", CMS_KEY_ALGORITHM,
     RAW("\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07"), CLV_CMS_FORMAT},
    {"RSAES-OAEP with NULL parameters", CMS_KEY_ALGORITHM,
     RAW("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x05\x00"), CLV_CMS_FORMAT},
    {"RSAES-OAEP with empty parameters", CMS_KEY_ALGORITHM,
     RAW("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07\x30\x00"), CLV_CMS_ALGORITHM},
    {"no key algorithm", CMS_KEY_ALGORITHM, GONE, CLV_CMS_FORMAT},
    {"OAEP hash by default", CMS_OAEP_HASH, GONE, CLV_CMS_ALGORITHM},
    {"OAEP hash SHA-1", CMS_OAEP_HASH, RAW("\xa0\x0b\x30\x09" OID_SHA1 "\x05\x00"),
     CLV_CMS_ALGORITHM},
    {"OAEP hash with parameters", CMS_OAEP_HASH, RAW("\xa0\x10\x30\x0e" OID_SHA256 "\x05\x01\x00"),
     CLV_CMS_FORMAT},
    {"OAEP hash twice", CMS_OAEP_HASH,
     RAW("\xa0\x1e\x30\x0d" OID_SHA256 "\x05\x00\x30\x0d" OID_SHA256 "\x05\x00"), CLV_CMS_FORMAT},
    {"OAEP mask by default", CMS_OAEP_MASK, GONE, CLV_CMS_ALGORITHM},
    {"OAEP mask hash SHA-1", CMS_OAEP_MASK,
     RAW("\xa1\x18\x30\x16" OID_MGF1 "\x30\x09" OID_SHA1 "\x05\x00"), CLV_CMS_ALGORITHM},
    {"OAEP mask not MGF1", CMS_OAEP_MASK,
     RAW("\xa1\x1c\x30\x1a" OID_SHA256 "\x30\x0d" OID_SHA256 "\x05\x00"), CLV_CMS_ALGORITHM},
    {"OAEP mask MGF1 without a hash", CMS_OAEP_MASK, RAW("\xa1\x0d\x30\x0b" OID_MGF1),
     CLV_CMS_FORMAT},
    {"OAEP label", CMS_OAEP_LABEL,
     RAW("\xa2\x11\x30\x0f\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x09\x04\x02"
         "ab"),
     CLV_CMS_ALGORITHM},
    {"OAEP unknown parameter", CMS_OAEP_END, RAW("\xa3\x00"), CLV_CMS_FORMAT},
    {"bytes after the OAEP parameters", CMS_KEY_ALGORITHM_END, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"no encrypted key", CMS_ENCRYPTED_KEY, GONE, CLV_CMS_FORMAT},
    {"encrypted key empty", CMS_ENCRYPTED_KEY, RAW("\x04\x00"), CLV_CMS_FORMAT},
    {"encrypted key too short", CMS_ENCRYPTED_KEY,
     RAW("\x04\x04"
         "abcd"),
     CLV_CMS_FORMAT},
    {"encrypted key a bit string", CMS_ENCRYPTED_KEY, RAW("\x03\x02\x00\x01"), CLV_CMS_FORMAT},
    {"bytes after the recipient", CMS_RECIPIENT_END, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"a second recipient", CMS_RECIPIENTS_END, RAW("\x30\x00"), CLV_CMS_FORMAT},
    {"content type signedData", CMS_CONTENT_TYPE,
     RAW("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"), CLV_CMS_FORMAT},
    {"AES-128-CBC", CMS_CIPHER, RAW("\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x02"),
     CLV_CMS_ALGORITHM},
    {"AES-256-GCM", CMS_CIPHER, RAW("\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2e"),
     CLV_CMS_ALGORITHM},
    {"DES-EDE3-CBC", CMS_CIPHER, RAW("\x06\x08\x2a\x86\x48\x86\xf7\x0d\x03\x07"),
     CLV_CMS_ALGORITHM},
    {"no cipher", CMS_CIPHER, GONE, CLV_CMS_FORMAT},
    {"no IV", CMS_IV, GONE, CLV_CMS_FORMAT},
    {"IV of 15 bytes", CMS_IV,
     RAW("\x04\x0f"
         "012345678901234"),
     CLV_CMS_FORMAT},
    {"IV of 17 bytes", CMS_IV,
     RAW("\x04\x11"
         "01234567890123456"),
     CLV_CMS_FORMAT},
    {"IV a NULL", CMS_IV, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"bytes after the IV", CMS_CIPHER_END, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"no content", CMS_CONTENT, GONE, CLV_CMS_FORMAT},
    {"content empty, primitive", CMS_CONTENT, RAW("\x80\x00"), CLV_CMS_FORMAT},
    {"content empty, constructed", CMS_CONTENT, RAW("\xa0\x80\x00\x00"), CLV_CMS_FORMAT},
    {"content of 15 bytes", CMS_CONTENT,
     RAW("\x80\x0f"
         "012345678901234"),
     CLV_CMS_FORMAT},
    {"content of 17 bytes in pieces", CMS_CONTENT,
     RAW("\xa0\x15\x04\x10"
         "0123456789012345"
         "\x04\x01"
         "6"),
     CLV_CMS_FORMAT},
    {"content pieces that are no strings", CMS_CONTENT, RAW("\xa0\x03\x02\x01\x00"),
     CLV_CMS_FORMAT},
    {"content pieces in pieces", CMS_CONTENT,
     RAW("\xa0\x14\x24\x12\x04\x10"
         "0123456789012345"),
     CLV_CMS_FORMAT},
    {"content primitive of indefinite length", CMS_CONTENT,
     RAW("\x80\x80\x04\x10"
         "0123456789012345"
         "\x00\x00"),
     CLV_CMS_FORMAT},
    {"content of another plaintext", CMS_CONTENT,
     RAW("\x80\x10"
         "0123456789012345"),
     CLV_CMS_OPEN},
    {"bytes after the content", CMS_CONTENT_END, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"unprotectedAttrs", CMS_ENVELOPED_END, RAW("\xa1\x00"), CLV_CMS_FORMAT},
    {"bytes after EnvelopedData", CMS_EXPLICIT_END, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"bytes after the explicit content", CMS_OUTER_END, RAW("\x05\x00"), CLV_CMS_FORMAT},
    {"a trailing byte", CMS_TRAILING, RAW("\x00"), CLV_CMS_FORMAT},
    {"a second message", CMS_TRAILING, RAW("\x30\x00"), CLV_CMS_FORMAT},
    {"a length beyond the end", CMS_RECIPIENT_ID, RAW("\x80\x84\x7f\xff\xff\xff"), CLV_CMS_FORMAT},
    {"a length of five octets", CMS_RECIPIENT_ID, RAW("\x80\x85\x00\x00\x00\x00\x00"),
     CLV_CMS_FORMAT},
    {"a reserved length", CMS_RECIPIENT_ID, RAW("\x80\xff"), CLV_CMS_FORMAT},
    {"a high tag number", CMS_RECIPIENT_END, RAW("\x1f\x81\x01\x00"), CLV_CMS_FORMAT},
    {"end-of-contents in a definite length", CMS_RECIPIENT_END, RAW("\x00\x00"), CLV_CMS_FORMAT},
};

static void refuses_any_other_element_with_its_own_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(mutations); i++) {
        const struct mutation *m = &mutations[i];
        cms_shape shape = {0};
        shape.replaced[m->element] = m->with;
        clv_auto(clv_buf) cms = CLV_BUF_INIT;
        cms_write(&shape, key, RAW(PLAINTEXT), &cms);
        clv_auto_ptr(clv_secret) opened = NULL;
        clv_error err = {0};
        clv_status status = clv_cms_open(clv_buf_bytes(&cms), key, &opened, &err);
        if (status != m->expected)
            fail_msg("%s: expected %s, found %s: %s", m->name, clv_status_slug(m->expected),
                     clv_status_slug(status), err.text);
        assert_null(opened);
    }
}

static void refuses_every_message_that_is_cut_short(void **state)
{
    (void)state;
    static const cms_shape shape = {0};
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    cms_write(&shape, key, RAW(PLAINTEXT), &cms);
    uint8_t id[32];
    for (size_t n = 0; n < cms.n; n++)
        assert_code(clv_cms_check(CLV_BYTES(cms.p, n), id, err), CLV_CMS_FORMAT);
    assert_ok(clv_cms_check(clv_buf_bytes(&cms), id, err));
}

static void refuses_nesting_without_end_and_messages_without_bound(void **state)
{
    (void)state;
    uint8_t id[32];
    clv_auto(clv_buf) deep = CLV_BUF_INIT;
    for (int i = 0; i < 4000; i++)
        assert_ok(clv_buf_append(&deep, RAW("\x30\x80"), err));
    assert_code(clv_cms_check(clv_buf_bytes(&deep), id, err), CLV_CMS_FORMAT);
    clv_auto(clv_buf) large = CLV_BUF_INIT;
    uint8_t *to;
    assert_ok(clv_buf_reserve(&large, CLV_CMS_MAX + 1, &to, err));
    memset(to, 0x30, CLV_CMS_MAX + 1);
    assert_code(clv_cms_check(CLV_BYTES(to, CLV_CMS_MAX + 1), id, err), CLV_CMS_FORMAT);
}

/* The sentence, for comparison; the code is asserted. */
static void open_error(const cms_shape *shape, clv_bytes plaintext, EVP_PKEY *wrapped_for,
                       clv_error *found)
{
    clv_auto(clv_buf) spki = CLV_BUF_INIT, id = CLV_BUF_INIT, cms = CLV_BUF_INIT;
    uint8_t digest[32];
    assert_ok(clv_spki_append(&spki, key, err));
    assert_ok(clv_sha256(clv_buf_bytes(&spki), digest, err));
    ber_write(&id, 0x80, CLV_BYTES(digest, sizeof digest));
    cms_shape named = *shape;
    named.replaced[CMS_RECIPIENT_ID] = clv_buf_bytes(&id);
    cms_write(&named, wrapped_for, plaintext, &cms);
    clv_auto_ptr(clv_secret) opened = NULL;
    assert_int_equal(clv_cms_open(clv_buf_bytes(&cms), key, &opened, found), CLV_CMS_OPEN);
    assert_null(opened);
}

static void wrong_key_and_wrong_padding_are_one_error(void **state)
{
    (void)state;
    static const cms_shape plain = {0}, padded = {.keep_padding = true},
                           short_key = {.key_length = 31}, long_key = {.key_length = 33};
    static const clv_bytes bad_paddings[] = {
        RAW("0123456789abcde\x00"), /* zero */
        RAW("0123456789abcde\x11"), /* 17: more than a block */
        RAW("0123456789abcde\xff"),
        RAW("0123456789abcd\x01\x02"), /* not all the same */
        RAW("0123456789ab\x03\x04\x04\x04"),
        RAW("\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10"), /* empty */
    };
    clv_error reference = {0}, found = {0};
    open_error(&plain, RAW(PLAINTEXT), other_key, &reference);
    /* Under a random key, padding looks right once in 256 times: it must not matter. */
    for (int i = 0; i < 600; i++) {
        open_error(&plain, RAW("x"), other_key, &found);
        assert_string_equal(found.text, reference.text);
    }
    for (size_t i = 0; i < ROWS(bad_paddings); i++) {
        open_error(&padded, bad_paddings[i], key, &found);
        assert_string_equal(found.text, reference.text);
    }
    open_error(&short_key, RAW(PLAINTEXT), key, &found);
    assert_string_equal(found.text, reference.text);
    open_error(&long_key, RAW(PLAINTEXT), key, &found);
    assert_string_equal(found.text, reference.text);
}

static void refuses_a_key_that_is_not_rsa(void **state)
{
    (void)state;
    static const cms_shape shape = {0};
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    cms_write(&shape, key, RAW(PLAINTEXT), &cms);
    clv_auto(clv_pkey) ec = EVP_EC_gen("P-256");
    clv_auto_ptr(clv_secret) opened = NULL;
    assert_code(clv_cms_open(clv_buf_bytes(&cms), ec, &opened, err), CLV_CMS_RECIPIENT);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_messages_that_kms_made),
        cmocka_unit_test(opens_a_message_that_kms_made_with_its_content_key),
        cmocka_unit_test(reads_every_shape_that_kms_made),
        cmocka_unit_test(refuses_oaep_with_its_sha1_defaults),
        cmocka_unit_test(opens_every_shape_that_kms_may_make),
        cmocka_unit_test(opens_plaintexts_of_every_length),
        cmocka_unit_test(refuses_any_other_element_with_its_own_reason),
        cmocka_unit_test(refuses_every_message_that_is_cut_short),
        cmocka_unit_test(refuses_nesting_without_end_and_messages_without_bound),
        cmocka_unit_test(wrong_key_and_wrong_padding_are_one_error),
        cmocka_unit_test(refuses_a_key_that_is_not_rsa),
    };
    clv_error err = {0};
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}

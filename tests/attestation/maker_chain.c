/* The maker's certificates. */
#include "maker_chain.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

void maker_must(bool held, const char *what, int line)
{
    if (held)
        return;
    fprintf(stderr, "maker: %s (line %d)\n", what, line);
    abort();
}

#define MUST(expression)    maker_must((expression), #expression, __LINE__)
#define MUST_OK(expression) MUST((expression) == CLV_OK)

static EVP_PKEY *explicit_p384(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;
    MUST(EVP_PKEY_keygen_init(ctx) == 1);
    MUST(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_secp384r1) == 1);
    MUST(EVP_PKEY_CTX_set_ec_param_enc(ctx, OPENSSL_EC_EXPLICIT_CURVE) == 1);
    MUST(EVP_PKEY_keygen(ctx, &key) == 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

void maker_start(maker *m)
{
    memset(m, 0, sizeof *m);
    for (size_t i = 0; i < MAKER_CERTS; i++)
        m->key[i] = EVP_EC_gen("P-384");
    m->stranger = EVP_EC_gen("P-384");
    m->odd[KEY_P256] = EVP_EC_gen("P-256");
    m->odd[KEY_P521] = EVP_EC_gen("P-521");
    m->odd[KEY_RSA] = EVP_RSA_gen(2048);
    m->odd[KEY_EXPLICIT] = explicit_p384();
    m->odd[KEY_COMPRESSED] = EVP_EC_gen("P-384");
    MUST(EVP_PKEY_set_utf8_string_param(m->odd[KEY_COMPRESSED],
                                        OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT,
                                        "compressed") == 1);
    for (size_t i = 0; i < MAKER_CERTS; i++)
        MUST(m->key[i] != NULL);
    MUST(m->stranger != NULL && m->odd[KEY_P256] != NULL && m->odd[KEY_P521] != NULL &&
         m->odd[KEY_RSA] != NULL);
}

void maker_drop(maker *m)
{
    for (size_t i = 0; i < MAKER_CERTS; i++)
        EVP_PKEY_free(m->key[i]);
    for (size_t i = 0; i <= KEY_OFF_CURVE; i++)
        EVP_PKEY_free(m->odd[i]);
    EVP_PKEY_free(m->stranger);
    memset(m, 0, sizeof *m);
}

EVP_PKEY *maker_key_of(const maker *m, const maker_knobs *knobs, size_t position)
{
    EVP_PKEY *odd = m->odd[knobs->certificate[position].key];
    return odd != NULL ? odd : m->key[position];
}

static void set_name(X509_NAME *name, const char *common_name)
{
    if (common_name[0] == '\0')
        return;
    MUST(X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)"Test", -1, -1, 0) ==
         1);
    MUST(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common_name, -1, -1,
                                    0) == 1);
}

static void add_raw_extension(X509 *x, const char *oid, bool critical, clv_bytes value)
{
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 0);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    MUST(object != NULL && ASN1_OCTET_STRING_set(octets, value.p, (int)value.n) == 1);
    X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, object, critical, octets);
    MUST(X509_add_ext(x, extension, -1) == 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(octets);
    ASN1_OBJECT_free(object);
}

static void add_basic(X509 *x, const maker_certificate *c, size_t position)
{
    static const int right_path[MAKER_CERTS] = {PATH_NONE, PATH(2), PATH(1), PATH(0), PATH_NONE};
    if (c->ca == CA_ABSENT)
        return;
    BASIC_CONSTRAINTS *basic = BASIC_CONSTRAINTS_new();
    bool ca = c->ca == CA_RIGHT ? position < MAKER_LEAF : c->ca == CA_TRUE;
    int path = c->path != 0 ? c->path : right_path[position];
    basic->ca = ca ? 0xff : 0;
    if (path > 0) {
        basic->pathlen = ASN1_INTEGER_new();
        MUST(ASN1_INTEGER_set(basic->pathlen, path - 1) == 1);
    }
    MUST(X509_add1_ext_i2d(x, NID_basic_constraints, basic, 1, X509V3_ADD_APPEND) == 1);
    BASIC_CONSTRAINTS_free(basic);
}

static void add_usage(X509 *x, const maker_certificate *c, size_t position)
{
    /* Bits of RFC 5280 section 4.2.1.3; -1 is none. */
    static const int bits[][2] = {
        [USAGE_DIGITAL_SIGNATURE] = {0, -1},
        [USAGE_CERT_SIGN] = {5, -1},
        [USAGE_CRL_SIGN] = {6, -1},
        [USAGE_BOTH] = {0, 5},
    };
    maker_usage usage = c->usage;
    if (usage == USAGE_ABSENT)
        return;
    if (usage == USAGE_RIGHT)
        usage = position < MAKER_LEAF ? USAGE_CERT_SIGN : USAGE_DIGITAL_SIGNATURE;
    ASN1_BIT_STRING *string = ASN1_BIT_STRING_new();
    for (size_t i = 0; i < 2; i++) {
        if (bits[usage][i] >= 0)
            MUST(ASN1_BIT_STRING_set_bit(string, bits[usage][i], 1) == 1);
    }
    MUST(X509_add1_ext_i2d(x, NID_key_usage, string, position < MAKER_LEAF, X509V3_ADD_APPEND) ==
         1);
    ASN1_BIT_STRING_free(string);
}

#define UNKNOWN_OID "1.3.6.1.4.1.55555.1"
#define RAW(text)   CLV_BYTES(text, sizeof text - 1)

static void add_extensions(X509 *x, const maker_certificate *c, size_t position)
{
    static const struct {
        const char *oid;
        bool critical;
        int times;
        clv_bytes value;
        bool replaces_basic, replaces_usage;
    } odd[] = {
        [EXTENSION_UNKNOWN] = {UNKNOWN_OID, false, 1, RAW("\x05\x00")},
        [EXTENSION_UNKNOWN_CRITICAL] = {UNKNOWN_OID, true, 1, RAW("\x05\x00")},
        [EXTENSION_UNKNOWN_TWICE] = {UNKNOWN_OID, false, 2, RAW("\x05\x00")},
        [EXTENSION_NAME_CONSTRAINTS_CRITICAL] = {"2.5.29.30", true, 1, RAW("\x30\x00")},
        [EXTENSION_BASIC_TWICE] = {"2.5.29.19", true, 1, RAW("\x30\x03\x01\x01\xff")},
        [EXTENSION_USAGE_TWICE] = {"2.5.29.15", true, 1, RAW("\x03\x02\x02\x04")},
        [EXTENSION_BASIC_MALFORMED] = {"2.5.29.19", true, 1, RAW("\x04\x01\xff"), true},
        [EXTENSION_BASIC_TRAILING] = {"2.5.29.19", true, 1, RAW("\x30\x03\x01\x01\xff\x00"), true},
        [EXTENSION_USAGE_MALFORMED] = {"2.5.29.15", true, 1, RAW("\x04\x01\x04"), false, true},
        [EXTENSION_PATH_NEGATIVE] = {"2.5.29.19", true, 1, RAW("\x30\x06\x01\x01\xff\x02\x01\xff"),
                                     true},
        [EXTENSION_PATH_HUGE] = {"2.5.29.19", true, 1,
                                 RAW("\x30\x0e\x01\x01\xff\x02\x09\x7f\xff\xff\xff\xff\xff\xff\xff"
                                     "\xff"),
                                 true},
    };
    if (!odd[c->extension].replaces_basic)
        add_basic(x, c, position);
    if (!odd[c->extension].replaces_usage)
        add_usage(x, c, position);
    for (int i = 0; i < odd[c->extension].times; i++)
        add_raw_extension(x, odd[c->extension].oid, odd[c->extension].critical,
                          odd[c->extension].value);
}

static void set_times(X509 *x, const maker_certificate *c)
{
    int64_t from = c->not_before != 0 ? c->not_before : MAKER_VALID_FROM;
    int64_t until = c->not_after != 0 ? c->not_after : MAKER_VALID_UNTIL;
    MUST(ASN1_TIME_set(X509_getm_notBefore(x), from) != NULL);
    MUST(ASN1_TIME_set(X509_getm_notAfter(x), until) != NULL);
    if (c->der == DER_TIME_OFFSET)
        MUST(ASN1_STRING_set(X509_getm_notAfter(x), "331114231320+0000", -1) == 1);
    if (c->der == DER_TIME_SHORT)
        MUST(ASN1_STRING_set(X509_getm_notAfter(x), "3311142313Z", -1) == 1);
}

/* Change the last byte of an occurrence of `what`: the first or the last. */
static void patch(clv_buf *der, clv_bytes what, bool last, uint8_t value)
{
    size_t found = der->n;
    for (size_t i = 0; i + what.n <= der->n && (last || found == der->n); i++) {
        if (memcmp(der->p + i, what.p, what.n) == 0)
            found = i;
    }
    MUST(found != der->n);
    der->p[found + what.n - 1] = value;
}

static void patch_der(clv_buf *der, const maker_certificate *c)
{
    static const char sha384[] = "\x2a\x86\x48\xce\x3d\x04\x03\x03";
    static const char point[] = "\x03\x62\x00\x04";
    if (c->algorithm == ALGORITHM_OUTER_SHA256 || c->algorithm == ALGORITHM_INNER_SHA256)
        patch(der, RAW(sha384), c->algorithm == ALGORITHM_OUTER_SHA256, 0x02);
    if (c->key == KEY_OFF_CURVE) {
        clv_cursor at = clv_cursor_of(clv_buf_bytes(der));
        clv_bytes skipped;
        while (memcmp(at.rest.p, point, sizeof point - 1) != 0)
            MUST_OK(clv_cursor_take(&at, 1, &skipped, NULL));
        der->p[der->n - at.rest.n + sizeof point + 5] ^= 1;
    }
    if (c->signer == SIGNER_FLIPPED)
        der->p[der->n - 1] ^= 1;
    if (c->der == DER_TRAILING)
        MUST_OK(clv_buf_u8(der, 0, NULL));
    if (c->der == DER_CUT)
        der->n--;
    if (c->der == DER_GARBAGE)
        memset(der->p, 0x41, der->n);
    if (c->der == DER_INDEFINITE) {
        /* 30 82 hh ll … becomes 30 80 … 00 00. */
        MUST(der->p[1] == 0x82);
        memmove(der->p + 2, der->p + 4, der->n - 4);
        der->p[1] = 0x80;
        memset(der->p + der->n - 2, 0, 2);
    }
}

void maker_certificate_make(const maker *m, const maker_knobs *knobs, size_t position, clv_buf *der)
{
    static const char *const name[MAKER_CERTS] = {"root", "region", "zone", "instance", "enclave"};
    const maker_certificate *c = &knobs->certificate[position];
    size_t above = position > 0 ? position - 1 : 0;
    X509 *x = X509_new();
    MUST(x != NULL && X509_set_version(x, c->der == DER_VERSION_1 ? 0 : X509_VERSION_3) == 1);
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(x), (long)position + 1) == 1);
    set_times(x, c);
    const char *above_name = knobs->certificate[above].subject;
    set_name(X509_get_issuer_name(x), c->issuer != NULL    ? c->issuer
                                      : above_name != NULL ? above_name
                                                           : name[above]);
    set_name(X509_get_subject_name(x), c->subject != NULL ? c->subject : name[position]);
    MUST(X509_set_pubkey(x, maker_key_of(m, knobs, position)) == 1);
    add_extensions(x, c, position);
    const EVP_MD *md = c->algorithm == ALGORITHM_SHA256   ? EVP_sha256()
                       : c->algorithm == ALGORITHM_SHA512 ? EVP_sha512()
                                                          : EVP_sha384();
    MUST(X509_sign(x, c->signer == SIGNER_STRANGER ? m->stranger : maker_key_of(m, knobs, above),
                   md) > 0);
    int n = i2d_X509(x, NULL);
    uint8_t *to;
    MUST(n > 0);
    MUST_OK(clv_buf_reserve(der, (size_t)n, &to, NULL));
    MUST(i2d_X509(x, &to) == n);
    der->n += (size_t)n;
    X509_free(x);
    patch_der(der, c);
}

#include <attestation/certificate.h>

#include <openssl/core_names.h>
#include <openssl/x509v3.h>

#include <base/crypto.h>

/* RFC 5480 section 2.2: the uncompressed form, 04 || x || y. */
#define POINT_SIZE         97
#define POINT_UNCOMPRESSED 0x04

#define SECONDS_A_DAY 86400

void clv_certificate_drop(clv_certificate *certificate)
{
    EVP_PKEY_free(certificate->key);
    X509_free(certificate->x509);
    *certificate = (clv_certificate)CLV_CERTIFICATE_INIT;
}

/*
 * Whether these are the bytes that DER gives the certificate: OpenSSL reads BER too. The encoding
 * is made anew from its parts, which i2d_X509() alone would not do for the signed part.
 */
static clv_status check_der(clv_bytes der, X509 *x509, clv_error *err)
{
    clv_auto(clv_buf) again = CLV_BUF_INIT;
    uint8_t *to;
    int n = i2d_re_X509_tbs(x509, NULL) > 0 ? i2d_X509(x509, NULL) : 0;
    if (n <= 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a certificate cannot be encoded");
    CLV_TRY(clv_buf_reserve(&again, (size_t)n, &to, err));
    again.n = (size_t)n;
    if (i2d_X509(x509, &to) != n)
        return clv_fail_openssl(err, CLV_INTERNAL, "a certificate cannot be encoded");
    if (!clv_bytes_equal(clv_buf_bytes(&again), der))
        return clv_fail(err, CLV_ATT_CERT_PARSE, "expected DER, found another encoding");
    return CLV_OK;
}

static clv_status parse_der(clv_bytes der, clv_certificate *out, clv_error *err)
{
    const uint8_t *end = der.p;
    out->x509 = der.n <= INT32_MAX ? d2i_X509(NULL, &end, (long)der.n) : NULL;
    if (out->x509 == NULL)
        return clv_fail_openssl(err, CLV_ATT_CERT_PARSE, "expected a DER certificate");
    if (end != der.p + der.n)
        return clv_fail(err, CLV_ATT_CERT_PARSE,
                        "expected nothing after the certificate, found %zu bytes",
                        (size_t)(der.p + der.n - end));
    if (X509_get_version(out->x509) != X509_VERSION_3)
        return clv_fail(err, CLV_ATT_CERT_PARSE, "expected X.509 version 3, found version %ld",
                        X509_get_version(out->x509) + 1);
    return check_der(der, out->x509, err);
}

/* RFC 5280 section 4.1.2.5: YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ, nothing else. */
static clv_status read_time(const ASN1_TIME *time, const char *what, int64_t *out, clv_error *err)
{
    int length = ASN1_STRING_length(time);
    int expected = ASN1_STRING_type(time) == V_ASN1_UTCTIME ? 13 : 15;
    static const struct tm epoch = {.tm_year = 70, .tm_mday = 1};
    struct tm tm;
    int days, seconds;
    if (length != expected || ASN1_STRING_get0_data(time)[length - 1] != 'Z' ||
        ASN1_TIME_to_tm(time, &tm) != 1 || OPENSSL_gmtime_diff(&days, &seconds, &epoch, &tm) != 1)
        return clv_fail_openssl(err, CLV_ATT_CERT_PARSE, what);
    *out = (int64_t)days * SECONDS_A_DAY + seconds;
    return CLV_OK;
}

static bool is_ecdsa_sha384(const X509_ALGOR *algorithm)
{
    const ASN1_OBJECT *object;
    int parameter;
    X509_ALGOR_get0(&object, &parameter, NULL, algorithm);
    return OBJ_obj2nid(object) == NID_ecdsa_with_SHA384 && parameter == V_ASN1_UNDEF;
}

static clv_status check_algorithm(const X509 *x509, clv_error *err)
{
    const X509_ALGOR *outer;
    X509_get0_signature(NULL, &outer, x509);
    if (!is_ecdsa_sha384(outer))
        return clv_fail(err, CLV_ATT_CERT_ALGORITHM,
                        "signatureAlgorithm: expected ecdsa-with-SHA384, found another");
    if (!is_ecdsa_sha384(X509_get0_tbs_sigalg(x509)))
        return clv_fail(err, CLV_ATT_CERT_ALGORITHM,
                        "signature: expected ecdsa-with-SHA384, found another");
    return CLV_OK;
}

/* The point of a key on the named curve P-384, or no bytes for any other key. */
static clv_bytes p384_point(X509_PUBKEY *spki)
{
    ASN1_OBJECT *object;
    const uint8_t *point;
    int size, parameter;
    const void *curve;
    X509_ALGOR *algorithm;
    if (X509_PUBKEY_get0_param(&object, &point, &size, &algorithm, spki) != 1)
        return CLV_BYTES(NULL, 0);
    X509_ALGOR_get0(NULL, &parameter, &curve, algorithm);
    if (OBJ_obj2nid(object) != NID_X9_62_id_ecPublicKey || parameter != V_ASN1_OBJECT ||
        OBJ_obj2nid(curve) != NID_secp384r1 || size != POINT_SIZE || point[0] != POINT_UNCOMPRESSED)
        return CLV_BYTES(NULL, 0);
    return CLV_BYTES(point, (size_t)size);
}

typedef EVP_PKEY_CTX *pkey_ctx;
static void pkey_ctx_drop(pkey_ctx *ctx)
{
    EVP_PKEY_CTX_free(*ctx);
}

/*
 * A key made of the point verifies a quarter faster than the one that OpenSSL 3.0 keeps in the
 * X509, which it converts at each first use. A point off the curve is refused here too.
 */
static clv_status read_key(clv_certificate *c, clv_error *err)
{
    clv_bytes point = p384_point(X509_get_X509_PUBKEY(c->x509));
    if (point.n == 0)
        return clv_fail(
            err, CLV_ATT_CERT_KEY,
            "expected an uncompressed point of the named curve P-384, found another key");
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char[]){SN_secp384r1}, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)point.p,
                                          point.n),
        OSSL_PARAM_construct_end(),
    };
    clv_auto(pkey_ctx) ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "a key cannot be made");
    if (EVP_PKEY_fromdata(ctx, &c->key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
        return clv_fail_openssl(err, CLV_ATT_CERT_KEY, "the key is not a point of P-384");
    return CLV_OK;
}

/* The extension's value, decoded, with nothing behind it; NULL otherwise. */
static ASN1_VALUE *decode_extension(X509_EXTENSION *extension, const ASN1_ITEM *item)
{
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(extension);
    const uint8_t *start = ASN1_STRING_get0_data(value), *end = start;
    ASN1_VALUE *decoded = ASN1_item_d2i(NULL, &end, ASN1_STRING_length(value), item);
    if (decoded != NULL && end != start + ASN1_STRING_length(value)) {
        ASN1_item_free(decoded, item);
        return NULL;
    }
    return decoded;
}

static clv_status read_basic_constraints(X509_EXTENSION *extension, clv_certificate *c,
                                         clv_error *err)
{
    BASIC_CONSTRAINTS *basic =
        (BASIC_CONSTRAINTS *)decode_extension(extension, ASN1_ITEM_rptr(BASIC_CONSTRAINTS));
    if (basic == NULL)
        return clv_fail_openssl(err, CLV_ATT_CERT_EXTENSION, "basicConstraints is malformed");
    c->has_basic = true;
    c->ca = basic->ca != 0;
    bool sound =
        basic->pathlen == NULL ||
        (ASN1_INTEGER_get_int64(&c->path_length, basic->pathlen) == 1 && c->path_length >= 0);
    BASIC_CONSTRAINTS_free(basic);
    if (!sound)
        return clv_fail_openssl(err, CLV_ATT_CERT_EXTENSION,
                                "basicConstraints has a path length out of range");
    return CLV_OK;
}

static clv_status read_key_usage(X509_EXTENSION *extension, clv_certificate *c, clv_error *err)
{
    ASN1_BIT_STRING *bits =
        (ASN1_BIT_STRING *)decode_extension(extension, ASN1_ITEM_rptr(ASN1_BIT_STRING));
    if (bits == NULL)
        return clv_fail_openssl(err, CLV_ATT_CERT_EXTENSION, "keyUsage is malformed");
    c->has_usage = true;
    for (int i = 0; i < 9; i++) {
        if (ASN1_BIT_STRING_get_bit(bits, i) == 1)
            c->usage |= UINT32_C(1) << i;
    }
    ASN1_BIT_STRING_free(bits);
    return CLV_OK;
}

static bool occurs_before(const X509 *x509, int index)
{
    ASN1_OBJECT *object = X509_EXTENSION_get_object(X509_get_ext(x509, index));
    return X509_get_ext_by_OBJ(x509, object, -1) < index;
}

static clv_status read_extensions(clv_certificate *c, clv_error *err)
{
    for (int i = 0; i < X509_get_ext_count(c->x509); i++) {
        X509_EXTENSION *extension = X509_get_ext(c->x509, i);
        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (occurs_before(c->x509, i))
            return clv_fail(err, CLV_ATT_CERT_EXTENSION,
                            "expected each extension once, found %s twice", OBJ_nid2sn(nid));
        if (nid == NID_basic_constraints)
            CLV_TRY(read_basic_constraints(extension, c, err));
        else if (nid == NID_key_usage)
            CLV_TRY(read_key_usage(extension, c, err));
        else if (X509_EXTENSION_get_critical(extension))
            return clv_fail(err, CLV_ATT_CERT_CRITICAL,
                            "expected basicConstraints and keyUsage alone to be critical, found %s",
                            OBJ_nid2sn(nid));
    }
    return CLV_OK;
}

clv_status clv_certificate_parse(clv_bytes der, clv_certificate *out, clv_error *err)
{
    CLV_TRY(parse_der(der, out, err));
    CLV_TRY(read_time(X509_get0_notBefore(out->x509), "notBefore is malformed", &out->not_before_s,
                      err));
    CLV_TRY(
        read_time(X509_get0_notAfter(out->x509), "notAfter is malformed", &out->not_after_s, err));
    CLV_TRY(check_algorithm(out->x509, err));
    CLV_TRY(read_key(out, err));
    return read_extensions(out, err);
}

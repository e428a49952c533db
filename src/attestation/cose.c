#include <attestation/cose.h>

#include <openssl/ec.h>

#include <attestation/item.h>
#include <base/crypto.h>

#define COORDINATE_SIZE (CLV_COSE_SIGNATURE_SIZE / 2)

/* The order n of P-384: FIPS 186-4 section D.1.2.4. */
static const uint8_t order[COORDINATE_SIZE] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
};

/*
 * The envelope is outside of what is signed: one document has one form of it (RFC 8949 section
 * 4.2.1), so that nobody makes a second document of it by writing a length at length. What is
 * signed stands as the module wrote it.
 */
static clv_status require_shortest(const clv_cbor_item *item, const char *what, clv_error *err)
{
    if (!item->minimal)
        return clv_fail(err, CLV_ATT_ENCODING,
                        "%s: expected its head in the shortest form, found a longer one", what);
    return CLV_OK;
}

static clv_status envelope_bytes(clv_cursor *c, const char *what, clv_bytes *out, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_item_expect(c, CLV_CBOR_BYTES, CLV_ATT_COSE_SHAPE, what, &item, err));
    CLV_TRY(require_shortest(&item, what, err));
    *out = item.bytes;
    return CLV_OK;
}

/* The array's head, behind at most one tag. */
static clv_status open_envelope(clv_cursor *c, bool *tagged, clv_error *err)
{
    clv_cursor after_tag = *c;
    clv_cbor_item item;
    *tagged = clv_cbor_next(&after_tag, &item, NULL) == CLV_OK && item.type == CLV_CBOR_TAG &&
              item.value == CLV_COSE_TAG;
    if (*tagged) {
        CLV_TRY(require_shortest(&item, "tag", err));
        *c = after_tag;
    }
    CLV_TRY(clv_item_expect(c, CLV_CBOR_ARRAY, CLV_ATT_COSE_SHAPE, "COSE_Sign1", &item, err));
    if (item.value != 4)
        return clv_fail(err, CLV_ATT_COSE_SHAPE,
                        "COSE_Sign1: expected an array of 4 items, found %llu",
                        (unsigned long long)item.value);
    return require_shortest(&item, "COSE_Sign1", err);
}

static clv_status check_protected(clv_bytes header, clv_error *err)
{
    static const char what[] = "protected header";
    clv_cursor c = clv_cursor_of(header);
    clv_cbor_item item;
    CLV_TRY(clv_item_expect(&c, CLV_CBOR_MAP, CLV_ATT_PROTECTED, what, &item, err));
    if (item.value != 1)
        return clv_fail(err, CLV_ATT_PROTECTED, "%s: expected a map of 1 pair, found %llu", what,
                        (unsigned long long)item.value);
    CLV_TRY(clv_item_expect(&c, CLV_CBOR_UINT, CLV_ATT_PROTECTED, what, &item, err));
    if (item.value != CLV_COSE_LABEL_ALG)
        return clv_fail(err, CLV_ATT_PROTECTED, "%s: expected label 1 (alg), found %llu", what,
                        (unsigned long long)item.value);
    CLV_TRY(clv_item_expect(&c, CLV_CBOR_NEGINT, CLV_ATT_ALGORITHM, what, &item, err));
    if (item.value != (uint64_t)(-1 - CLV_COSE_ES384))
        return clv_fail(err, CLV_ATT_ALGORITHM, "%s: expected alg %d (ES384), found -%llu - 1",
                        what, CLV_COSE_ES384, (unsigned long long)item.value);
    if (c.rest.n != 0)
        return clv_fail(err, CLV_ATT_PROTECTED,
                        "%s: expected nothing after the map, found %zu bytes", what, c.rest.n);
    return CLV_OK;
}

static clv_status read_unprotected(clv_cursor *c, bool *null, clv_error *err)
{
    static const char what[] = "unprotected header";
    clv_cbor_item item;
    CLV_TRY(clv_item_next(c, what, &item, err));
    *null = item.type == CLV_CBOR_NULL;
    if (*null)
        return CLV_OK;
    if (item.type != CLV_CBOR_MAP)
        return clv_fail(err, CLV_ATT_UNPROTECTED, "%s: expected an empty map, found %s", what,
                        clv_cbor_type_name(item.type));
    if (item.value != 0)
        return clv_fail(err, CLV_ATT_UNPROTECTED, "%s: expected an empty map, found %llu pairs",
                        what, (unsigned long long)item.value);
    return require_shortest(&item, what, err);
}

clv_status clv_cose_parse(clv_bytes bytes, clv_cose *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    CLV_TRY(open_envelope(&c, &out->tagged, err));
    CLV_TRY(envelope_bytes(&c, "protected header", &out->protected_header, err));
    CLV_TRY(read_unprotected(&c, &out->unprotected_null, err));
    CLV_TRY(envelope_bytes(&c, "payload", &out->payload, err));
    CLV_TRY(envelope_bytes(&c, "signature", &out->signature, err));
    if (c.rest.n != 0)
        return clv_fail(err, CLV_ATT_TRAILING,
                        "expected nothing after the document, found %zu bytes", c.rest.n);
    CLV_TRY(check_protected(out->protected_header, err));
    if (out->signature.n != CLV_COSE_SIGNATURE_SIZE)
        return clv_fail(err, CLV_ATT_SIGNATURE_LENGTH,
                        "signature: expected %d bytes (r || s), found %zu", CLV_COSE_SIGNATURE_SIZE,
                        out->signature.n);
    return CLV_OK;
}

clv_status clv_cose_check_unprotected(const clv_cose *cose, clv_error *err)
{
    if (cose->unprotected_null)
        return clv_fail(err, CLV_ATT_UNPROTECTED,
                        "unprotected header: expected an empty map, found null");
    return CLV_OK;
}

static clv_status check_range(const char *name, clv_bytes coordinate, clv_error *err)
{
    if (clv_bytes_all_zero(coordinate))
        return clv_fail(err, CLV_ATT_SIGNATURE_RANGE, "signature: expected %s from 1, found 0",
                        name);
    if (memcmp(coordinate.p, order, sizeof order) >= 0)
        return clv_fail(err, CLV_ATT_SIGNATURE_RANGE,
                        "signature: expected %s below the order of P-384, found it or more", name);
    return CLV_OK;
}

typedef ECDSA_SIG *ecdsa_sig;
static void ecdsa_sig_drop(ecdsa_sig *sig)
{
    ECDSA_SIG_free(*sig);
}

typedef EVP_MD_CTX *md_ctx;
static void md_ctx_drop(md_ctx *ctx)
{
    EVP_MD_CTX_free(*ctx);
}

/* Ecdsa-Sig-Value (RFC 3279 section 2.2.3), which OpenSSL wants, from r || s. */
static clv_status signature_to_der(clv_bytes r, clv_bytes s, clv_buf *der, clv_error *err)
{
    clv_auto(ecdsa_sig) sig = ECDSA_SIG_new();
    BIGNUM *r_number = BN_bin2bn(r.p, (int)r.n, NULL);
    BIGNUM *s_number = BN_bin2bn(s.p, (int)s.n, NULL);
    if (sig == NULL || r_number == NULL || s_number == NULL ||
        ECDSA_SIG_set0(sig, r_number, s_number) != 1) {
        BN_free(r_number);
        BN_free(s_number);
        return clv_fail_openssl(err, CLV_NO_MEMORY, "a signature cannot be held");
    }
    int n = i2d_ECDSA_SIG(sig, NULL);
    if (n <= 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a signature cannot be encoded");
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(der, (size_t)n, &to, err));
    if (i2d_ECDSA_SIG(sig, &to) != n)
        return clv_fail_openssl(err, CLV_INTERNAL, "a signature cannot be encoded");
    der->n += (size_t)n;
    return CLV_OK;
}

static clv_status build_sig_structure(clv_bytes protected_header, clv_bytes payload, clv_buf *out,
                                      clv_error *err)
{
    CLV_TRY(clv_cbor_put_array(out, 4, err));
    CLV_TRY(clv_cbor_put_text(out, "Signature1", err));
    CLV_TRY(clv_cbor_put_bytes(out, protected_header, err));
    CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(NULL, 0), err));
    return clv_cbor_put_bytes(out, payload, err);
}

clv_status clv_cose_verify(clv_bytes protected_header, clv_bytes payload, clv_bytes signature,
                           EVP_PKEY *key, clv_error *err)
{
    clv_cursor c = clv_cursor_of(signature);
    clv_bytes r, s;
    CLV_TRY(clv_cursor_take(&c, COORDINATE_SIZE, &r, err));
    CLV_TRY(clv_cursor_take(&c, COORDINATE_SIZE, &s, err));
    CLV_TRY(check_range("r", r, err));
    CLV_TRY(check_range("s", s, err));

    clv_auto(clv_buf) der = CLV_BUF_INIT;
    clv_auto(clv_buf) signed_bytes = CLV_BUF_INIT;
    CLV_TRY(signature_to_der(r, s, &der, err));
    CLV_TRY(build_sig_structure(protected_header, payload, &signed_bytes, err));

    clv_auto(md_ctx) ctx = EVP_MD_CTX_new();
    if (ctx == NULL || EVP_DigestVerifyInit(ctx, NULL, EVP_sha384(), NULL, key) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "a signature check cannot start");
    if (EVP_DigestVerify(ctx, der.p, der.n, signed_bytes.p, signed_bytes.n) != 1)
        return clv_fail_openssl(err, CLV_ATT_SIGNATURE,
                                "the document is not signed by its certificate's key");
    return CLV_OK;
}

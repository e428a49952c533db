#include <attestation/chain.h>

#include <base/crypto.h>
#include <base/time.h>

static clv_status check_root(clv_bytes der, const uint8_t expected[CLV_ROOT_DIGEST_SIZE],
                             clv_error *err)
{
    uint8_t found[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(der, found, err));
    if (memcmp(found, expected, sizeof found) == 0)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_buf_append_text(&text, "expected the SHA-256 ", err));
    CLV_TRY(clv_hex_append(&text, CLV_BYTES(expected, CLV_ROOT_DIGEST_SIZE), err));
    CLV_TRY(clv_buf_append_text(&text, ", found ", err));
    CLV_TRY(clv_hex_append(&text, CLV_BYTES(found, sizeof found), err));
    return clv_fail(err, CLV_ATT_CERT_ROOT, "%.*s", (int)text.n, (const char *)text.p);
}

/* CAs after this one, the leaf not counted: RFC 5280 section 4.2.1.9. */
static clv_status check_ca(const clv_certificate *c, size_t cas_below, clv_error *err)
{
    if (!c->has_basic || !c->ca)
        return clv_fail(err, CLV_ATT_CERT_BASIC, "expected basicConstraints CA:TRUE, found %s",
                        c->has_basic ? "CA:FALSE" : "none");
    if (c->path_length >= 0 && (uint64_t)c->path_length < cas_below)
        return clv_fail(err, CLV_ATT_CERT_PATHLEN,
                        "expected a path length of at least %zu, found %lld", cas_below,
                        (long long)c->path_length);
    if ((c->usage & CLV_USAGE_KEY_CERT_SIGN) == 0)
        return clv_fail(err, CLV_ATT_CERT_USAGE, "expected keyUsage keyCertSign, found %s",
                        c->has_usage ? "it missing" : "no keyUsage");
    return CLV_OK;
}

static clv_status check_leaf(const clv_certificate *c, clv_error *err)
{
    if (c->ca || c->path_length >= 0)
        return clv_fail(err, CLV_ATT_CERT_BASIC, "expected no CA, found %s",
                        c->ca ? "CA:TRUE" : "a path length");
    if ((c->usage & CLV_USAGE_DIGITAL_SIGNATURE) == 0)
        return clv_fail(err, CLV_ATT_CERT_USAGE, "expected keyUsage digitalSignature, found %s",
                        c->has_usage ? "it missing" : "no keyUsage");
    if ((c->usage & CLV_USAGE_KEY_CERT_SIGN) != 0)
        return clv_fail(err, CLV_ATT_CERT_USAGE, "expected no keyCertSign, found it");
    return CLV_OK;
}

static clv_status check_window(const clv_certificate *c, uint64_t at_ms, const char *which,
                               clv_error *err)
{
    char at[CLV_TIME_TEXT_SIZE], limit[CLV_TIME_TEXT_SIZE];
    /* Certificates count in seconds and include both ends (RFC 5280 section 4.1.2.5). */
    uint64_t at_s = at_ms / 1000;
    clv_time_text(at_ms, at);
    if (c->not_before_s > 0 && at_s < (uint64_t)c->not_before_s) {
        clv_time_text((uint64_t)c->not_before_s * 1000, limit);
        return clv_fail(err, CLV_ATT_CERT_NOT_YET, "valid from %s, but %s is %s", limit, which, at);
    }
    if (c->not_after_s < 0 || at_s > (uint64_t)c->not_after_s) {
        clv_time_text(c->not_after_s > 0 ? (uint64_t)c->not_after_s * 1000 : 0, limit);
        return clv_fail(err, CLV_ATT_CERT_EXPIRED, "valid until %s, but %s is %s", limit, which,
                        at);
    }
    return CLV_OK;
}

static clv_status check_link(const clv_certificate *c, const clv_certificate *issuer,
                             clv_error *err)
{
    const X509_NAME *name = X509_get_issuer_name(c->x509);
    if (X509_NAME_entry_count(name) == 0)
        return clv_fail(err, CLV_ATT_CERT_NAME, "expected an issuer, found an empty name");
    if (X509_NAME_cmp(name, X509_get_subject_name(issuer->x509)) != 0)
        return clv_fail(
            err, CLV_ATT_CERT_NAME,
            "expected the subject of the certificate before it as issuer, found another");
    if (X509_verify(c->x509, issuer->key) != 1)
        return clv_fail_openssl(err, CLV_ATT_CERT_SIGNATURE,
                                "not signed by the certificate before it");
    return CLV_OK;
}

/* One step of the walk: position 0 is the root, position bundle_count the leaf. */
static clv_status check_step(const clv_document *d, size_t position, uint64_t at_ms,
                             const clv_certificate *issuer, clv_certificate *out, clv_error *err)
{
    bool leaf = position == d->bundle_count;
    CLV_TRY(clv_certificate_parse(leaf ? d->certificate : d->bundle[position], out, err));
    if (leaf)
        CLV_TRY(check_leaf(out, err));
    else
        CLV_TRY(check_ca(out, d->bundle_count - 1 - position, err));
    CLV_TRY(check_window(out, d->timestamp_ms, "the document's time", err));
    if (at_ms != CLV_AT_DOCUMENT)
        CLV_TRY(check_window(out, at_ms, "the time required", err));
    return position == 0 ? CLV_OK : check_link(out, issuer, err);
}

static clv_status blame_position(const clv_document *d, size_t position, clv_status status,
                                 clv_error *err)
{
    if (position == d->bundle_count)
        return clv_blame(err, status, "certificate");
    return clv_blame(err, status, "cabundle[%zu]", position);
}

clv_status clv_chain_verify(const clv_document *document,
                            const uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE], uint64_t at_ms,
                            clv_certificate *leaf, clv_error *err)
{
    clv_status status = check_root(document->bundle[0], root_sha256, err);
    if (status != CLV_OK)
        return blame_position(document, 0, status, err);

    clv_auto(clv_certificate) issuer = CLV_CERTIFICATE_INIT;
    for (size_t i = 0; i <= document->bundle_count; i++) {
        clv_auto(clv_certificate) next = CLV_CERTIFICATE_INIT;
        status = check_step(document, i, at_ms, &issuer, &next, err);
        if (status != CLV_OK)
            return blame_position(document, i, status, err);
        clv_certificate_drop(&issuer);
        issuer = next;
        next = (clv_certificate)CLV_CERTIFICATE_INIT;
    }
    *leaf = issuer;
    issuer = (clv_certificate)CLV_CERTIFICATE_INIT;
    return CLV_OK;
}

/* A certificate's facts in words, for people. */
#include <claviger/attestation.h>

#include <openssl/bio.h>

#include <attestation/certificate.h>
#include <base/crypto.h>

typedef BIO *bio;
static void bio_drop(bio *b)
{
    BIO_free_all(*b);
}

/* As much of text as fits, with its NUL. */
static void copy_text(clv_bytes text, char *out, size_t size)
{
    size_t n = text.n < size - 1 ? text.n : size - 1;
    if (n > 0)
        memcpy(out, text.p, n);
    out[n] = '\0';
}

/* RFC 4514 form; control and non-ASCII characters are escaped. */
static clv_status name_text(const X509_NAME *name, char *out, size_t size, clv_error *err)
{
    clv_auto(bio) memory = BIO_new(BIO_s_mem());
    if (memory == NULL || X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253) < 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a name cannot be written");
    char *text = NULL;
    long n = BIO_get_mem_data(memory, &text);
    copy_text(CLV_BYTES(text, n > 0 ? (size_t)n : 0), out, size);
    return CLV_OK;
}

static clv_status serial_text(const X509 *x509, char *out, size_t size, clv_error *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    CLV_TRY(clv_hex_append(
        &hex, CLV_BYTES(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)), err));
    copy_text(clv_buf_bytes(&hex), out, size);
    return CLV_OK;
}

clv_status clv_certificate_describe(clv_bytes der, clv_certificate_facts *out, clv_error *err)
{
    clv_auto(clv_certificate) c = CLV_CERTIFICATE_INIT;
    clv_certificate_facts facts = {0};
    CLV_TRY(clv_certificate_parse(der, &c, err));
    CLV_TRY(name_text(X509_get_subject_name(c.x509), facts.subject, sizeof facts.subject, err));
    CLV_TRY(name_text(X509_get_issuer_name(c.x509), facts.issuer, sizeof facts.issuer, err));
    CLV_TRY(serial_text(c.x509, facts.serial, sizeof facts.serial, err));
    facts.not_before_ms = c.not_before_s > 0 ? (uint64_t)c.not_before_s * 1000 : 0;
    facts.not_after_ms = c.not_after_s > 0 ? (uint64_t)c.not_after_s * 1000 : 0;
    facts.ca = c.ca;
    facts.path_length = c.path_length > INT32_MAX ? INT32_MAX : (int)c.path_length;
    *out = facts;
    return CLV_OK;
}

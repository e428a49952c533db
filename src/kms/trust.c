#include <kms/trust.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <base/crypto.h>
#include <base/file.h>

#define CA_FILE_MAX ((size_t)4 * 1024 * 1024)

typedef BIO *bio;
static void bio_drop(bio *b)
{
    BIO_free(*b);
}

static clv_status add_certificates(X509_STORE *store, BIO *pem, const char *path, clv_error *err)
{
    size_t count = 0;
    for (;; count++) {
        clv_auto(clv_x509) certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL);
        if (certificate == NULL)
            break;
        if (X509_STORE_add_cert(store, certificate) != 1)
            return clv_fail_openssl(err, CLV_KMS_TLS, "a certificate cannot be trusted");
    }
    bool whole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    if (count == 0)
        return clv_fail(err, CLV_KMS_TLS, "%.200s: expected PEM certificates, found none", path);
    if (!whole)
        return clv_fail(err, CLV_KMS_TLS,
                        "%.200s: expected PEM certificates, found a malformed one behind %zu", path,
                        count);
    return CLV_OK;
}

clv_status clv_trust_load(const char *path, X509_STORE **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, CA_FILE_MAX, &text, err));
    clv_auto(bio) pem = BIO_new_mem_buf(text.p, (int)text.n);
    X509_STORE *store = X509_STORE_new();
    *out = store;
    if (pem == NULL || store == NULL ||
        X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN) != 1)
        return clv_fail_openssl(err, CLV_NO_MEMORY, "no memory for certificates");
    return add_certificates(store, pem, path, err);
}

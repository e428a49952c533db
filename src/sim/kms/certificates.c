#include <sim/kms/certificates.h>

#include <arpa/inet.h>

#include <base/crypto.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define VALID_DAYS 3650

void clv_tls_files_drop(clv_tls_files *files)
{
    clv_buf_drop(&files->ca);
    clv_buf_drop(&files->server);
    clv_buf_drop(&files->key);
}

typedef BIO *bio;

static void bio_drop(bio *b)
{
    BIO_free(*b);
    *b = NULL;
}

static clv_status take_pem(BIO *from, clv_buf *out, clv_error *err)
{
    char *text = NULL;
    long n = BIO_get_mem_data(from, &text);
    return clv_buf_append(out, CLV_BYTES(text, n > 0 ? (size_t)n : 0), err);
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool set_serial(X509 *certificate)
{
    uint8_t bytes[16];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool set =
        number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return set;
}

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Claviger",
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

static X509 *start_certificate(EVP_PKEY *key, const char *common_name)
{
    X509 *certificate = X509_new();
    if (certificate == NULL)
        return NULL;
    bool whole = X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
                 X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
                 X509_time_adj_ex(X509_getm_notAfter(certificate), VALID_DAYS, 0, NULL) != NULL &&
                 X509_set_pubkey(certificate, key) == 1 &&
                 set_name(X509_get_subject_name(certificate), common_name);
    if (!whole) {
        X509_free(certificate);
        return NULL;
    }
    return certificate;
}

static clv_status make_ca(EVP_PKEY *key, X509 **out, clv_error *err)
{
    clv_auto(clv_x509) ca = start_certificate(key, "claviger-kms local CA");
    if (ca == NULL || X509_set_issuer_name(ca, X509_get_subject_name(ca)) != 1 ||
        !add_extension(ca, ca, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(ca, ca, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(ca, ca, NID_subject_key_identifier, "hash") ||
        X509_sign(ca, key, EVP_sha256()) == 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "the CA's certificate");
    *out = ca;
    ca = NULL;
    return CLV_OK;
}

static clv_status alternative_names(const char *const *names, size_t count, clv_buf *out,
                                    clv_error *err)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t address[16];
        bool literal = inet_pton(AF_INET, names[i], address) == 1 ||
                       inet_pton(AF_INET6, names[i], address) == 1;
        if (names[i][0] == '\0' || strpbrk(names[i], ", \n") != NULL)
            return clv_fail(err, CLV_USAGE, "expected a host name, found \"%.64s\"", names[i]);
        CLV_TRY(clv_buf_printf(out, err, "%s%s:%s", i > 0 ? "," : "", literal ? "IP" : "DNS",
                               names[i]));
    }
    return CLV_OK;
}

static clv_status make_server(EVP_PKEY *key, X509 *ca, EVP_PKEY *ca_key, const char *names,
                              X509 **out, clv_error *err)
{
    clv_auto(clv_x509) server = start_certificate(key, "claviger-kms");
    if (server == NULL || X509_set_issuer_name(server, X509_get_subject_name(ca)) != 1 ||
        !add_extension(server, ca, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(server, ca, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(server, ca, NID_ext_key_usage, "serverAuth") ||
        !add_extension(server, ca, NID_subject_key_identifier, "hash") ||
        !add_extension(server, ca, NID_authority_key_identifier, "keyid") ||
        !add_extension(server, ca, NID_subject_alt_name, names) ||
        X509_sign(server, ca_key, EVP_sha256()) == 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "the server's certificate");
    *out = server;
    server = NULL;
    return CLV_OK;
}

static clv_status write_pem(X509 *certificate, EVP_PKEY *key, clv_buf *out, clv_error *err)
{
    clv_auto(bio) memory = BIO_new(BIO_s_mem());
    bool written = memory != NULL;
    if (certificate != NULL)
        written = written && PEM_write_bio_X509(memory, certificate) == 1;
    if (key != NULL)
        written =
            written && PEM_write_bio_PKCS8PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL) == 1;
    return written ? take_pem(memory, out, err)
                   : clv_fail_openssl(err, CLV_INTERNAL, "certificates as PEM");
}

clv_status clv_tls_files_make(const char *const *names, size_t count, clv_tls_files *out,
                              clv_error *err)
{
    clv_auto(clv_buf) list = CLV_BUF_INIT;
    clv_auto(clv_pkey) ca_key = EVP_EC_gen("P-256");
    clv_auto(clv_pkey) key = EVP_EC_gen("P-256");
    clv_auto(clv_x509) ca = NULL;
    clv_auto(clv_x509) server = NULL;
    const char *text;
    if (ca_key == NULL || key == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "fresh TLS keys");
    CLV_TRY(alternative_names(names, count, &list, err));
    CLV_TRY(clv_buf_text(&list, &text, err));
    CLV_TRY(make_ca(ca_key, &ca, err));
    CLV_TRY(make_server(key, ca, ca_key, text, &server, err));
    CLV_TRY(write_pem(ca, NULL, &out->ca, err));
    CLV_TRY(write_pem(server, NULL, &out->server, err));
    return write_pem(NULL, key, &out->key, err);
}

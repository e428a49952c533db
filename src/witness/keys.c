#include <witness/keys.h>

#include <openssl/err.h>
#include <openssl/pem.h>

/* Where the secret stands among the messages of its key; see keys.h. */
#define CONTEXT_NAME       "claviger:name"
#define CONTEXT_GENERATION "claviger:generation"
#define SECRET_NAME        "/witness"
#define SECRET_GENERATION  "1"

#define PURPOSE "claviger witness"

void clv_witness_keys_drop(clv_witness_keys *keys)
{
    clv_secret_free(&keys->sign);
    EVP_PKEY_free(keys->tls);
    keys->tls = NULL;
}

static clv_status secret_context(clv_context *out, clv_error *err)
{
    CLV_TRY(clv_context_add(out, CONTEXT_NAME, SECRET_NAME, err));
    return clv_context_add(out, CONTEXT_GENERATION, SECRET_GENERATION, err);
}

static clv_status keep_blob(void *with, const clv_secret *secret, const clv_key_facts *facts,
                            clv_error *err)
{
    (void)secret;
    return clv_buf_append(with, facts->encrypted_key, err);
}

clv_status clv_witness_keys_make(clv_vault *vault, const clv_policy_key *key, clv_buf *blob,
                                 clv_error *err)
{
    clv_auto(clv_context) extra = CLV_CONTEXT_INIT;
    CLV_TRY(secret_context(&extra, err));
    return clv_vault_with_new_key(vault, key, &extra, keep_blob, blob, err);
}

/* The derivation's context is empty: a release that is a predecessor's heir derives the same. */
static clv_status derive(const clv_secret *secret, clv_derive_algorithm algorithm, const char *path,
                         const char *key_arn, clv_secret **out, clv_error *err)
{
    clv_auto(clv_context) none = CLV_CONTEXT_INIT;
    clv_derivation of = {.algorithm = algorithm, .purpose = PURPOSE, .path = path};
    CLV_TRY(clv_derivation_check(&of, err));
    return clv_derive_key(secret, &of, key_arn, &none, out, err);
}

/* A clv_key_use: the secret is open only while this runs. */
static clv_status take_keys(void *with, const clv_secret *secret, const clv_key_facts *facts,
                            clv_error *err)
{
    clv_witness_keys *keys = with;
    clv_auto_ptr(clv_secret) scalar = NULL;
    clv_auto(clv_buf) verify = CLV_BUF_INIT;
    CLV_TRY(derive(secret, CLV_DERIVE_ED25519, "records", facts->key->key_arn, &keys->sign, err));
    CLV_TRY(clv_derive_public(CLV_DERIVE_ED25519, keys->sign, &verify, err));
    memcpy(keys->verify, verify.p, sizeof keys->verify);
    CLV_TRY(derive(secret, CLV_DERIVE_P256, "tls", facts->key->key_arn, &scalar, err));
    return clv_derive_open(CLV_DERIVE_P256, scalar, &keys->tls, err);
}

clv_status clv_witness_keys_open(clv_vault *vault, const clv_policy_key *key, clv_bytes blob,
                                 clv_witness_keys *out, clv_error *err)
{
    clv_auto(clv_context) extra = CLV_CONTEXT_INIT;
    clv_policy_key as = *key; /* its contexts are borrowed */
    CLV_TRY(secret_context(&extra, err));
    clv_status status = clv_vault_with_key(vault, key, &extra, blob, take_keys, out, err);
    for (size_t i = 0; i < key->predecessor_count && status == CLV_KMS_INVALID_CIPHERTEXT; i++) {
        as.context = key->predecessor[i];
        status = clv_vault_with_key(vault, &as, &extra, blob, take_keys, out, err);
    }
    return status;
}

static bool fill_request(X509_REQ *request, EVP_PKEY *key, const char *enclave)
{
    X509_NAME *subject = X509_REQ_get_subject_name(request);
    return X509_REQ_set_version(request, X509_REQ_VERSION_1) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_UTF8, (const unsigned char *)PURPOSE,
                                      -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "OU", MBSTRING_UTF8, (const unsigned char *)enclave,
                                      -1, -1, 0) == 1 &&
           X509_REQ_set_pubkey(request, key) == 1 && X509_REQ_sign(request, key, EVP_sha256()) > 0;
}

clv_status clv_witness_csr(const clv_witness_keys *keys, const char *enclave, clv_buf *der,
                           clv_error *err)
{
    unsigned char *out = NULL;
    X509_REQ *request = X509_REQ_new();
    int n = request != NULL && fill_request(request, keys->tls, enclave)
                ? i2d_X509_REQ(request, &out)
                : -1;
    X509_REQ_free(request);
    if (n <= 0)
        return clv_fail_openssl(err, CLV_INTERNAL, "a certificate request");
    clv_status status = clv_buf_append(der, CLV_BYTES(out, (size_t)n), err);
    OPENSSL_free(out);
    return status;
}

clv_status clv_witness_certificate(const clv_witness_keys *keys, clv_bytes pem, X509 **out,
                                   clv_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
    clv_auto(clv_x509) found = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (found == NULL)
        return clv_fail(err, CLV_WITNESS_CERTIFICATE,
                        "expected the witness's client certificate in PEM, found none");
    bool ours = X509_check_private_key(found, keys->tls) == 1;
    ERR_clear_error();
    if (!ours)
        return clv_fail(err, CLV_WITNESS_CERTIFICATE,
                        "expected a certificate of this fleet's witness key, found another key's");
    *out = found;
    found = NULL;
    return CLV_OK;
}

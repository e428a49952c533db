/*
 * Certificates in the shape of the real chain, as read off genuine documents: P-384 and
 * ecdsa-with-SHA384 throughout; root for thirty years, region twenty days with path length 2, zone
 * six days with 1, instance a day with 0, leaf three hours without key identifiers.
 */
#include <sim/nsm/nsm.h>

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <base/clock.h>
#include <base/file.h>

#define PEM_MAX     16384
#define SERIAL_BITS 127
#define DAY         86400

static const struct level {
    const char *common_name; /* NULL: made of the module id */
    int64_t lifetime_s;
    const char *basic; /* basicConstraints */
    const char *usage; /* keyUsage */
    bool identifiers;  /* subject and authority key identifier */
} level_table[NSM_CHAIN] = {
    [NSM_ROOT] = {"software.nitro-enclaves", INT64_C(30) * 365 * DAY, "critical,CA:TRUE",
                  "critical,digitalSignature,keyCertSign,cRLSign", true},
    [NSM_REGION] = {"region.us-east-1.software.nitro-enclaves", 20 * DAY,
                    "critical,CA:TRUE,pathlen:2", "critical,digitalSignature,keyCertSign,cRLSign",
                    true},
    [NSM_ZONE] = {"zone.zonal.us-east-1.software.nitro-enclaves", 6 * DAY,
                  "critical,CA:TRUE,pathlen:1", "critical,digitalSignature,keyCertSign,cRLSign",
                  true},
    [NSM_INSTANCE] = {NULL, DAY, "critical,CA:TRUE,pathlen:0", "critical,keyCertSign", false},
    [NSM_LEAF] = {NULL, 3 * 3600, "critical,CA:FALSE", "digitalSignature", false},
};

/* What is left of a certificate's life when a new one is issued, so that none expires in use. */
#define RENEW_BEFORE_S 600
/* Certificates begin a little before they are used, as AWS's do. */
#define BACKDATE_S 3

void nsm_chain_drop(nsm_chain *chain)
{
    for (int i = 0; i < NSM_CHAIN; i++) {
        X509_free(chain->certificate[i]);
        EVP_PKEY_free(chain->key[i]);
    }
    *chain = (nsm_chain)NSM_CHAIN_INIT;
}

uint64_t nsm_chain_now_ms(const nsm_chain *chain)
{
    return clv_wall_ms() + (uint64_t)(chain->offset_s * 1000);
}

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx(&ctx, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool set_subject(X509 *certificate, const char *common_name)
{
    X509_NAME *name = X509_get_subject_name(certificate);
    return X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (const uint8_t *)"US", -1, -1, 0) &&
           X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const uint8_t *)"Claviger", -1, -1,
                                      0) &&
           X509_NAME_add_entry_by_txt(name, "OU", MBSTRING_ASC, (const uint8_t *)"development", -1,
                                      -1, 0) &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)common_name, -1,
                                      -1, 0);
}

static bool set_serial(X509 *certificate)
{
    BIGNUM *serial = BN_new();
    bool set = serial != NULL &&
               BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) &&
               BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) != NULL;
    BN_free(serial);
    return set;
}

static bool fill(X509 *certificate, const struct level *level, const char *common_name,
                 EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, time_t now)
{
    X509 *signer = issuer != NULL ? issuer : certificate;
    return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
           set_subject(certificate, common_name) &&
           X509_set_issuer_name(certificate, X509_get_subject_name(signer)) &&
           ASN1_TIME_set(X509_getm_notBefore(certificate), now - BACKDATE_S) != NULL &&
           ASN1_TIME_set(X509_getm_notAfter(certificate), now + level->lifetime_s) != NULL &&
           X509_set_pubkey(certificate, key) &&
           add_extension(certificate, signer, NID_basic_constraints, level->basic) &&
           add_extension(certificate, signer, NID_key_usage, level->usage) &&
           (!level->identifiers ||
            (add_extension(certificate, signer, NID_subject_key_identifier, "hash") &&
             add_extension(certificate, signer, NID_authority_key_identifier, "keyid"))) &&
           X509_sign(certificate, issuer_key, EVP_sha384()) > 0;
}

static void make_common_name(const nsm_chain *chain, int position, char *out, size_t size)
{
    const char *id = chain->module_id, *end = strstr(id, "-enc");
    size_t instance = end != NULL ? (size_t)(end - id) : strlen(id);
    if (position == NSM_INSTANCE)
        snprintf(out, size, "%.*s.us-east-1.software.nitro-enclaves", (int)instance, id);
    else if (position == NSM_LEAF)
        snprintf(out, size, "%s.us-east-1.software", id);
    else
        snprintf(out, size, "%s", level_table[position].common_name);
}

static clv_status issue(nsm_chain *chain, int position, clv_error *err)
{
    const struct level *level = &level_table[position];
    char common_name[NSM_MODULE_MAX + 64];
    make_common_name(chain, position, common_name, sizeof common_name);
    time_t now = (time_t)(nsm_chain_now_ms(chain) / 1000);
    clv_auto(clv_pkey) key = EVP_EC_gen("P-384");
    clv_auto(clv_x509) certificate = X509_new();
    X509 *issuer = position > NSM_ROOT ? chain->certificate[position - 1] : NULL;
    EVP_PKEY *issuer_key = position > NSM_ROOT ? chain->key[position - 1] : key;
    if (key == NULL || certificate == NULL ||
        !fill(certificate, level, common_name, key, issuer, issuer_key, now))
        return clv_fail_openssl(err, CLV_INTERNAL, "a certificate cannot be issued");
    clv_x509_drop(&chain->certificate[position]);
    clv_pkey_drop(&chain->key[position]);
    chain->certificate[position] = certificate;
    chain->key[position] = key;
    chain->expires_s[position] = (uint64_t)(now + level->lifetime_s);
    certificate = NULL;
    key = NULL;
    return CLV_OK;
}

clv_status nsm_chain_refresh(nsm_chain *chain, clv_error *err)
{
    uint64_t soon = nsm_chain_now_ms(chain) / 1000 + RENEW_BEFORE_S;
    bool renewed = false;
    for (int i = NSM_REGION; i < NSM_CHAIN; i++) {
        if (!renewed && chain->certificate[i] != NULL && chain->expires_s[i] > soon)
            continue;
        CLV_TRY(issue(chain, i, err));
        renewed = true; /* and everything below it */
    }
    return CLV_OK;
}

static clv_status write_pem(const char *directory, const char *name, X509 *certificate,
                            EVP_PKEY *key, clv_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    BIO *bio = BIO_new(BIO_s_secmem());
    bool written = bio != NULL &&
                   (certificate != NULL
                        ? PEM_write_bio_X509(bio, certificate)
                        : PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL)) == 1;
    char *text = NULL;
    long n = written ? BIO_get_mem_data(bio, &text) : 0;
    clv_status status = n > 0 ? clv_file_write(path, CLV_BYTES(text, (size_t)n),
                                               certificate != NULL ? 0644 : 0600, err)
                              : clv_fail_openssl(err, CLV_INTERNAL, "PEM cannot be written");
    BIO_free(bio);
    return status;
}

static clv_status write_digest(const char *directory, X509 *root, clv_error *err)
{
    char path[4096];
    uint8_t digest[CLV_SHA256_SIZE];
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (X509_digest(root, EVP_sha256(), digest, NULL) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "a digest failed");
    CLV_TRY(clv_hex_append(&text, CLV_BYTES(digest, sizeof digest), err));
    CLV_TRY(clv_buf_append_text(&text, "\n", err));
    snprintf(path, sizeof path, "%s/root.sha256", directory);
    return clv_file_write(path, clv_buf_bytes(&text), 0644, err);
}

clv_status nsm_chain_init(const char *directory, const char *module_id, clv_error *err)
{
    char path[4096];
    clv_auto(nsm_chain) chain = NSM_CHAIN_INIT;
    if (strlen(module_id) == 0 || strlen(module_id) > NSM_MODULE_MAX / 2)
        return clv_fail(err, CLV_USAGE, "expected a module id of 1 to %d bytes, found %zu",
                        NSM_MODULE_MAX / 2, strlen(module_id));
    snprintf(path, sizeof path, "%s/root.key", directory);
    if (access(path, F_OK) == 0)
        return clv_fail(err, CLV_STATE_CONFLICT, "%s is there already and stays as it is", path);
    if (mkdir(directory, 0700) != 0 && access(directory, W_OK) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be made: %m", directory);
    CLV_TRY(issue(&chain, NSM_ROOT, err));
    CLV_TRY(write_pem(directory, "root.pem", chain.certificate[NSM_ROOT], NULL, err));
    CLV_TRY(write_digest(directory, chain.certificate[NSM_ROOT], err));
    snprintf(path, sizeof path, "%s/module-id", directory);
    CLV_TRY(clv_file_write(path, clv_bytes_of(module_id), 0644, err));
    /* Last: what makes the directory complete. */
    return write_pem(directory, "root.key", NULL, chain.key[NSM_ROOT], err);
}

static clv_status read_text(const char *directory, const char *name, clv_buf *out, clv_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return clv_file_read(path, PEM_MAX, out, err);
}

clv_status nsm_chain_load(const char *directory, nsm_chain *out, clv_error *err)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    clv_auto(clv_buf) root = CLV_BUF_INIT;
    clv_auto(clv_buf) module_id = CLV_BUF_INIT;
    CLV_TRY(read_text(directory, "root.key", &key, err));
    CLV_TRY(read_text(directory, "root.pem", &root, err));
    CLV_TRY(read_text(directory, "module-id", &module_id, err));
    if (module_id.n == 0 || module_id.n > NSM_MODULE_MAX / 2)
        return clv_fail(err, CLV_TRUNCATED, "%s/module-id: expected 1 to %d bytes, found %zu",
                        directory, NSM_MODULE_MAX / 2, module_id.n);
    memcpy(out->module_id, module_id.p, module_id.n);
    BIO *key_bio = BIO_new_mem_buf(key.p, (int)key.n);
    BIO *root_bio = BIO_new_mem_buf(root.p, (int)root.n);
    out->key[NSM_ROOT] = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    out->certificate[NSM_ROOT] = PEM_read_bio_X509(root_bio, NULL, NULL, NULL);
    BIO_free(key_bio);
    BIO_free(root_bio);
    if (out->key[NSM_ROOT] == NULL || out->certificate[NSM_ROOT] == NULL ||
        X509_check_private_key(out->certificate[NSM_ROOT], out->key[NSM_ROOT]) != 1)
        return clv_fail_openssl(err, CLV_BAD_ENCODING,
                                "expected root.pem and root.key to belong together");
    return CLV_OK;
}

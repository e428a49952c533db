#include <seal/suite.h>

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include <base/crypto.h>

#define PRK_SIZE 64 /* SHA-512 */

/* data-format/message-body-aad.md, "Body AAD Content" */
static const char regular_content[] = "AWSKMSEncryptionClient Frame";
static const char final_content[] = "AWSKMSEncryptionClient Final Frame";

/* The suite id, then the label. */
static const char derive_info[] = "\x04\x78"
                                  "DERIVEKEY";

#define FRAME_AAD_MAX (CLV_SEAL_MESSAGE_ID_SIZE + sizeof final_content - 1 + 4 + 8)

struct clv_suite {
    EVP_CIPHER_CTX *gcm; /* keyed; each use sets the IV only */
    uint8_t message_id[CLV_SEAL_MESSAGE_ID_SIZE];
    uint8_t commitment[CLV_SEAL_COMMITMENT_SIZE];
};

void clv_suite_free(clv_suite **suite)
{
    if (*suite == NULL)
        return;
    EVP_CIPHER_CTX_free((*suite)->gcm); /* clears the key schedule */
    free(*suite);
    *suite = NULL;
}

clv_bytes clv_suite_commitment(const clv_suite *suite)
{
    return CLV_BYTES(suite->commitment, sizeof suite->commitment);
}

static OSSL_PARAM octets(const char *name, clv_bytes bytes)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)bytes.p, bytes.n);
}

static clv_status hkdf(EVP_KDF_CTX *kdf, int mode, OSSL_PARAM key, OSSL_PARAM salt_or_info,
                       uint8_t *out, size_t n, clv_error *err)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char[]){"SHA512"}, 0),
        key,
        salt_or_info,
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX_reset(kdf);
    if (EVP_KDF_derive(kdf, out, n, params) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "HKDF-SHA-512 failed");
    return CLV_OK;
}

/*
 * Both outputs from one extraction. `keys` holds the pseudorandom key, then the content key: one
 * guarded allocation, which costs more than all of the derivation.
 */
#define KEYS_SIZE (PRK_SIZE + CLV_SEAL_KEY_SIZE)

static clv_bytes prk_of(const clv_secret *keys)
{
    return CLV_BYTES(clv_secret_bytes(keys).p, PRK_SIZE);
}

static clv_bytes content_key_of(const clv_secret *keys)
{
    return CLV_BYTES(clv_secret_bytes(keys).p + PRK_SIZE, CLV_SEAL_KEY_SIZE);
}

static clv_status derive(EVP_KDF_CTX *kdf, const clv_secret *data_key, clv_suite *suite,
                         clv_secret *keys, clv_error *err)
{
    CLV_TRY(hkdf(
        kdf, EVP_KDF_HKDF_MODE_EXTRACT_ONLY, octets(OSSL_KDF_PARAM_KEY, clv_secret_bytes(data_key)),
        octets(OSSL_KDF_PARAM_SALT, CLV_BYTES(suite->message_id, sizeof suite->message_id)),
        clv_secret_writable(keys), PRK_SIZE, err));
    OSSL_PARAM key = octets(OSSL_KDF_PARAM_KEY, prk_of(keys));
    CLV_TRY(hkdf(kdf, EVP_KDF_HKDF_MODE_EXPAND_ONLY, key,
                 octets(OSSL_KDF_PARAM_INFO, CLV_BYTES(derive_info, sizeof derive_info - 1)),
                 clv_secret_writable(keys) + PRK_SIZE, CLV_SEAL_KEY_SIZE, err));
    return hkdf(kdf, EVP_KDF_HKDF_MODE_EXPAND_ONLY, key,
                octets(OSSL_KDF_PARAM_INFO, clv_bytes_of("COMMITKEY")), suite->commitment,
                sizeof suite->commitment, err);
}

static clv_status derive_keys(const clv_secret *data_key, clv_suite *suite, clv_secret *keys,
                              clv_error *err)
{
    EVP_KDF *method = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *kdf = method != NULL ? EVP_KDF_CTX_new(method) : NULL;
    clv_status status = kdf != NULL ? derive(kdf, data_key, suite, keys, err)
                                    : clv_fail_openssl(err, CLV_INTERNAL, "OpenSSL has no HKDF");
    EVP_KDF_CTX_free(kdf);
    EVP_KDF_free(method);
    return status;
}

clv_status clv_suite_new(const clv_secret *data_key, clv_bytes message_id,
                         clv_suite_direction direction, clv_suite **out, clv_error *err)
{
    if (clv_secret_length(data_key) != CLV_SEAL_KEY_SIZE ||
        message_id.n != CLV_SEAL_MESSAGE_ID_SIZE)
        return clv_fail(err, CLV_INTERNAL,
                        "expected a data key of %d bytes and a message id of %d, found %zu and %zu",
                        CLV_SEAL_KEY_SIZE, CLV_SEAL_MESSAGE_ID_SIZE, clv_secret_length(data_key),
                        message_id.n);
    clv_auto_ptr(clv_suite) suite = calloc(1, sizeof *suite);
    clv_auto_ptr(clv_secret) keys = NULL;
    if (suite == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a cipher");
    memcpy(suite->message_id, message_id.p, message_id.n);
    CLV_TRY(clv_secret_new(KEYS_SIZE, &keys, err));
    CLV_TRY(derive_keys(data_key, suite, keys, err));

    suite->gcm = EVP_CIPHER_CTX_new();
    if (suite->gcm == NULL || EVP_CipherInit_ex(suite->gcm, EVP_aes_256_gcm(), NULL,
                                                content_key_of(keys).p, NULL, direction) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-GCM cannot be set up");
    *out = suite;
    suite = NULL;
    return CLV_OK;
}

static void put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

void clv_suite_frame_iv(uint32_t sequence, uint8_t iv[CLV_SEAL_IV_SIZE])
{
    memset(iv, 0, CLV_SEAL_IV_SIZE - 4);
    put_u32(iv + CLV_SEAL_IV_SIZE - 4, sequence);
}

static size_t frame_aad(const clv_suite *suite, bool final, uint32_t sequence, size_t length,
                        uint8_t out[FRAME_AAD_MAX])
{
    const char *content = final ? final_content : regular_content;
    size_t n = final ? sizeof final_content - 1 : sizeof regular_content - 1;
    memcpy(out, suite->message_id, CLV_SEAL_MESSAGE_ID_SIZE);
    memcpy(out + CLV_SEAL_MESSAGE_ID_SIZE, content, n);
    n += CLV_SEAL_MESSAGE_ID_SIZE;
    put_u32(out + n, sequence);
    put_u32(out + n + 4, 0); /* the length is 64 bits wide, a frame's fits in 32 */
    put_u32(out + n + 8, (uint32_t)length);
    return n + 12;
}

/* IV, additional data, content: everything but the tag, for both directions. */
static bool run(clv_suite *suite, const uint8_t iv[CLV_SEAL_IV_SIZE], clv_bytes aad,
                clv_bytes content, uint8_t *to)
{
    int n;
    return EVP_CipherInit_ex(suite->gcm, NULL, NULL, NULL, iv, -1) == 1 &&
           EVP_CipherUpdate(suite->gcm, NULL, &n, aad.p, (int)aad.n) == 1 &&
           (content.n == 0 || EVP_CipherUpdate(suite->gcm, to, &n, content.p, (int)content.n) == 1);
}

static clv_status seal(clv_suite *suite, const uint8_t iv[CLV_SEAL_IV_SIZE], clv_bytes aad,
                       clv_bytes content, uint8_t *to, uint8_t tag[CLV_SEAL_TAG_SIZE],
                       clv_error *err)
{
    uint8_t none[CLV_SEAL_TAG_SIZE];
    int n;
    if (!run(suite, iv, aad, content, to) || EVP_CipherFinal_ex(suite->gcm, none, &n) != 1 ||
        EVP_CIPHER_CTX_ctrl(suite->gcm, EVP_CTRL_AEAD_GET_TAG, CLV_SEAL_TAG_SIZE, tag) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, "AES-256-GCM failed");
    return CLV_OK;
}

/* True when the tag holds. */
static bool open_tagged(clv_suite *suite, const uint8_t iv[CLV_SEAL_IV_SIZE], clv_bytes aad,
                        clv_bytes content, clv_bytes tag, uint8_t *to)
{
    uint8_t none[CLV_SEAL_TAG_SIZE];
    int n;
    return run(suite, iv, aad, content, to) &&
           EVP_CIPHER_CTX_ctrl(suite->gcm, EVP_CTRL_AEAD_SET_TAG, CLV_SEAL_TAG_SIZE,
                               (void *)(uintptr_t)tag.p) == 1 &&
           EVP_CipherFinal_ex(suite->gcm, none, &n) == 1;
}

clv_status clv_suite_seal_header(clv_suite *suite, clv_bytes body, uint8_t tag[CLV_SEAL_TAG_SIZE],
                                 clv_error *err)
{
    static const uint8_t zeros[CLV_SEAL_IV_SIZE];
    return seal(suite, zeros, body, CLV_BYTES(NULL, 0), NULL, tag, err);
}

clv_status clv_suite_open_header(clv_suite *suite, clv_bytes body, clv_bytes tag, clv_error *err)
{
    static const uint8_t zeros[CLV_SEAL_IV_SIZE];
    if (!open_tagged(suite, zeros, body, CLV_BYTES(NULL, 0), tag, NULL))
        return clv_fail_openssl(err, CLV_SEAL_AUTHENTICATION,
                                "expected the header's own authentication tag, found another");
    return CLV_OK;
}

clv_status clv_suite_seal_frame(clv_suite *suite, bool final, uint32_t sequence, clv_bytes content,
                                uint8_t *to, uint8_t tag[CLV_SEAL_TAG_SIZE], clv_error *err)
{
    uint8_t iv[CLV_SEAL_IV_SIZE];
    uint8_t aad[FRAME_AAD_MAX];
    clv_suite_frame_iv(sequence, iv);
    size_t n = frame_aad(suite, final, sequence, content.n, aad);
    return seal(suite, iv, CLV_BYTES(aad, n), content, to, tag, err);
}

clv_status clv_suite_open_frame(clv_suite *suite, bool final, uint32_t sequence, clv_bytes iv,
                                clv_bytes content, clv_bytes tag, uint8_t *to, clv_error *err)
{
    uint8_t aad[FRAME_AAD_MAX];
    size_t n = frame_aad(suite, final, sequence, content.n, aad);
    if (open_tagged(suite, iv.p, CLV_BYTES(aad, n), content, tag, to))
        return CLV_OK;
    clv_wipe(to, content.n);
    return clv_fail_openssl(err, CLV_SEAL_AUTHENTICATION,
                            "expected the frame's own authentication tag, found another");
}

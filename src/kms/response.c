#include <kms/message.h>

#include <base/crypto.h>
#include <base/json.h>
#include <kms/ber.h>

/* AWS KMS API reference, Decrypt: Plaintext is 1 to 4096 bytes. Private keys of pairs are shorter.
 */
#define PLAINTEXT_MAX 4096

void clv_kms_body_drop(clv_kms_body *body)
{
    clv_buf_drop(&body->recipient_ciphertext);
    clv_buf_drop(&body->ciphertext_blob);
    clv_buf_drop(&body->public_key);
}

/* What comes only when there was no Recipient, whatever the operation. */
static const char *const plaintext_members[] = {"Plaintext", "PrivateKeyPlaintext", "SharedSecret"};

static clv_status refuse_plaintext(clv_json_reader *r, clv_error *err)
{
    for (size_t i = 0; i < sizeof plaintext_members / sizeof plaintext_members[0]; i++) {
        json_t *value;
        CLV_TRY(clv_json_value(r, plaintext_members[i], &value, err));
        if (value != NULL && !json_is_null(value))
            return clv_fail(err, CLV_KMS_PLAINTEXT, "%s: expected nothing or null, found %s",
                            plaintext_members[i], clv_json_type_name(value));
    }
    return CLV_OK;
}

static clv_status check_key_id(clv_json_reader *r, const clv_operation *operation, clv_error *err)
{
    if (operation->action == CLV_GENERATE_RANDOM)
        return CLV_OK;
    const char *found;
    CLV_TRY(clv_json_need_text(r, "KeyId", &found, err));
    if (strcmp(found, operation->key_arn) != 0)
        return clv_fail(err, CLV_KMS_KEY_MISMATCH, "KeyId: expected %.200s, found another",
                        operation->key_arn);
    return CLV_OK;
}

/* A text that only repeats what was asked: absent, or the same. */
static clv_status check_echo(clv_json_reader *r, const char *name, const char *expected,
                             clv_error *err)
{
    const char *found;
    CLV_TRY(clv_json_text(r, name, &found, err));
    if (found != NULL && strcmp(found, expected) != 0)
        return clv_fail(err, CLV_KMS_RESPONSE, "%s: expected %s, found another", name, expected);
    return CLV_OK;
}

static clv_status check_echoes(clv_json_reader *r, const clv_operation *operation, clv_error *err)
{
    switch (operation->action) {
    case CLV_GENERATE_DATA_KEY_PAIR:
        return check_echo(r, "KeyPairSpec", operation->key_pair_spec, err);
    case CLV_DERIVE_SHARED_SECRET:
        return check_echo(r, "KeyAgreementAlgorithm", "ECDH", err);
    default:
        return CLV_OK;
    }
}

static clv_status read_base64(clv_json_reader *r, const char *name, size_t max, clv_buf *out,
                              clv_error *err)
{
    const char *text;
    CLV_TRY(clv_json_need_text(r, name, &text, err));
    clv_status status = clv_base64_decode(clv_bytes_of(text), out, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s", name);
    if (out->n == 0 || out->n > max)
        return clv_fail(err, CLV_KMS_RESPONSE, "%s: expected 1 to %zu bytes, found %zu", name, max,
                        out->n);
    return CLV_OK;
}

static clv_status read_public_key(clv_json_reader *r, clv_buf *out, clv_error *err)
{
    clv_auto(clv_pkey) key = NULL;
    CLV_TRY(read_base64(r, "PublicKey", CLV_PUBLIC_KEY_MAX, out, err));
    clv_status status = clv_spki_parse(clv_buf_bytes(out), &key, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "PublicKey");
}

/* What the operation returns beside the recipient's ciphertext. */
static clv_status read_ciphertexts(clv_json_reader *r, const clv_operation *operation,
                                   clv_kms_body *out, clv_error *err)
{
    switch (operation->action) {
    case CLV_GENERATE_DATA_KEY:
        return read_base64(r, "CiphertextBlob", CLV_CIPHERTEXT_BLOB_MAX, &out->ciphertext_blob,
                           err);
    case CLV_GENERATE_DATA_KEY_PAIR:
        CLV_TRY(read_base64(r, "PrivateKeyCiphertextBlob", CLV_CIPHERTEXT_BLOB_MAX,
                            &out->ciphertext_blob, err));
        return read_public_key(r, &out->public_key, err);
    default:
        return CLV_OK;
    }
}

static clv_status read_body(const json_t *json, const clv_operation *operation, clv_kms_body *out,
                            clv_error *err)
{
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(refuse_plaintext(&r, err));
    CLV_TRY(check_key_id(&r, operation, err));
    CLV_TRY(check_echoes(&r, operation, err));
    CLV_TRY(read_ciphertexts(&r, operation, out, err));
    return read_base64(&r, "CiphertextForRecipient", CLV_CMS_MAX, &out->recipient_ciphertext, err);
}

clv_status clv_kms_response(const clv_operation *operation, clv_bytes text, clv_kms_body *out,
                            clv_error *err)
{
    clv_auto(clv_kms_body) body = CLV_KMS_BODY_INIT;
    clv_auto(clv_json) json = NULL;
    clv_error inner = {0};
    clv_status status = clv_json_parse(text, CLV_KMS_BODY_MAX, &json, &inner);
    if (status == CLV_OK)
        status = read_body(json, operation, &body, &inner);
    if (status == CLV_KMS_PLAINTEXT || status == CLV_KMS_KEY_MISMATCH || status == CLV_NO_MEMORY)
        return clv_fail(err, status, "%s", inner.text);
    if (status != CLV_OK)
        return clv_fail(err, CLV_KMS_RESPONSE, "%s", inner.text);
    *out = body;
    body = (clv_kms_body)CLV_KMS_BODY_INIT;
    return CLV_OK;
}

static clv_status expect_length(size_t expected, size_t found, clv_error *err)
{
    if (found != expected)
        return clv_fail(err, CLV_KMS_RESPONSE, "expected a plaintext of %zu bytes, found %zu",
                        expected, found);
    return CLV_OK;
}

static clv_status check_private_key(clv_bytes pkcs8, clv_error *err)
{
    clv_cursor c = clv_cursor_of(pkcs8);
    clv_bytes inside;
    if (clv_ber_expect(&c, CLV_BER_SEQUENCE, "PKCS #8", &inside, NULL) != CLV_OK || c.rest.n > 0)
        return clv_fail(err, CLV_KMS_RESPONSE,
                        "expected a private key as PKCS #8, found something else");
    return CLV_OK;
}

clv_status clv_kms_check_plaintext(const clv_operation *operation, const clv_secret *plaintext,
                                   clv_error *err)
{
    const clv_bytes bytes = clv_secret_bytes(plaintext);
    size_t size;
    if (bytes.n > PLAINTEXT_MAX)
        return clv_fail(err, CLV_KMS_RESPONSE,
                        "expected a plaintext of at most %d bytes, found %zu", PLAINTEXT_MAX,
                        bytes.n);
    switch (operation->action) {
    case CLV_GENERATE_DATA_KEY:
    case CLV_GENERATE_RANDOM:
        return expect_length(operation->number_of_bytes, bytes.n, err);
    case CLV_DERIVE_SHARED_SECRET:
        CLV_TRY(clv_spki_shared_size(clv_buf_bytes(&operation->public_key), &size, err));
        return expect_length(size, bytes.n, err);
    case CLV_GENERATE_DATA_KEY_PAIR:
        return check_private_key(bytes, err);
    default:
        return CLV_OK;
    }
}

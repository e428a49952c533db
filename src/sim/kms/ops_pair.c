/* Key pairs: GenerateDataKeyPair, GetPublicKey, DeriveSharedSecret. */
#include <sim/kms/ops.h>

#include <base/crypto.h>
#include <openssl/x509.h>

#define PUBLIC_KEY_MAX 8192

static clv_status read_pair_spec(clv_call *call, const clv_key_spec **out, clv_error *err)
{
    const char *name;
    CLV_TRY(clv_param_need_text(call, "KeyPairSpec", 64, &name, err));
    *out = clv_key_spec_of(name);
    if (*out == NULL || !(*out)->pair) {
        clv_auto(clv_buf) names = CLV_BUF_INIT;
        const char *text;
        CLV_TRY(clv_buf_append_text(&names, "Member must satisfy enum value set: ", err));
        CLV_TRY(clv_key_spec_names(true, &names, err));
        CLV_TRY(clv_buf_text(&names, &text, err));
        return clv_param_refuse(err, "KeyPairSpec", name, text);
    }
    return clv_call_condition(call, "kms:DataKeyPairSpec", name, err);
}

static clv_status answer_public_key(clv_call *call, clv_bytes material, clv_error *err)
{
    clv_auto(clv_pkey) pair = NULL;
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    CLV_TRY(clv_material_pair(material, &pair, err));
    CLV_TRY(clv_spki_append(&spki, pair, err));
    return clv_answer_blob(call, "PublicKey", clv_buf_bytes(&spki), err);
}

static clv_status make_pair(clv_call *call, clv_buf *private_key, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    const clv_key_spec *spec;
    const json_t *context;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_context(call, "EncryptionContext", &context, err));
    CLV_TRY(read_pair_spec(call, &spec, err));
    CLV_TRY(clv_call_condition(call, "kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT", err));
    const clv_key_need need = {.usage = "ENCRYPT_DECRYPT", .context = context};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_require_symmetric(&key, err));
    CLV_TRY(clv_material_generate(spec, private_key, err));
    CLV_TRY(clv_data_encrypt(call, &key, context, clv_buf_bytes(private_key), &blob, err));
    CLV_TRY(clv_answer_blob(call, "PrivateKeyCiphertextBlob", clv_buf_bytes(&blob), err));
    CLV_TRY(answer_public_key(call, clv_buf_bytes(private_key), err));
    CLV_TRY(clv_answer_text(call, "KeyPairSpec", spec->name, err));
    return clv_answer_text(call, "KeyId", key.arn, err);
}

clv_status clv_op_generate_data_key_pair(clv_call *call, clv_error *err)
{
    clv_auto(clv_buf) private_key = CLV_BUF_INIT;
    CLV_TRY(make_pair(call, &private_key, err));
    return clv_answer_secret(call, "PrivateKeyPlaintext", clv_buf_bytes(&private_key), err);
}

clv_status clv_op_generate_data_key_pair_without_plaintext(clv_call *call, clv_error *err)
{
    clv_auto(clv_buf) private_key = CLV_BUF_INIT;
    return make_pair(call, &private_key, err);
}

clv_status clv_op_get_public_key(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    const clv_key_need need = {.usage = NULL};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    clv_key_family family = clv_key_spec_of(key.spec)->family;
    if (family == CLV_FAMILY_SYMMETRIC || family == CLV_FAMILY_HMAC)
        return clv_fail(err, CLV_KMS_UNSUPPORTED, "%s key spec %s has no public key.", key.arn,
                        key.spec);
    CLV_TRY(clv_key_material(call, key.id, key.version, &material, err));
    CLV_TRY(answer_public_key(call, clv_buf_bytes(&material), err));
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    CLV_TRY(clv_answer_text(call, "KeySpec", key.spec, err));
    CLV_TRY(clv_answer_text(call, "CustomerMasterKeySpec", key.spec, err));
    CLV_TRY(clv_answer_text(call, "KeyUsage", key.usage, err));
    return clv_key_algorithms(&key, call->answer, err);
}

static clv_status read_peer(clv_call *call, EVP_PKEY *own, EVP_PKEY **out, clv_error *err)
{
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    CLV_TRY(clv_param_need_blob(call, "PublicKey", PUBLIC_KEY_MAX, &spki, err));
    const uint8_t *p = spki.p;
    clv_auto(clv_pkey) peer = d2i_PUBKEY(NULL, &p, (long)spki.n);
    bool whole = peer != NULL && (size_t)(p - spki.p) == spki.n;
    if (!whole || EVP_PKEY_get_base_id(peer) != EVP_PKEY_EC ||
        EVP_PKEY_parameters_eq(peer, own) != 1)
        return clv_fail_openssl(err, CLV_KMS_VALIDATION,
                                "The public key is not a DER SubjectPublicKeyInfo on the curve of "
                                "the KMS key");
    *out = peer;
    peer = NULL;
    return CLV_OK;
}

typedef EVP_PKEY_CTX *pkey_ctx;

static void pkey_ctx_drop(pkey_ctx *ctx)
{
    EVP_PKEY_CTX_free(*ctx);
    *ctx = NULL;
}

/* The raw shared secret: the x coordinate (NIST SP 800-56A section 5.7.1.2). */
static clv_status agree(EVP_PKEY *own, EVP_PKEY *peer, clv_buf *out, clv_error *err)
{
    clv_auto(pkey_ctx) ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    size_t n = 0;
    uint8_t *to;
    if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, peer) != 1 ||
        EVP_PKEY_derive(ctx, NULL, &n) != 1)
        return clv_fail_openssl(err, CLV_KMS_VALIDATION, "The public key is not valid");
    CLV_TRY(clv_buf_reserve(out, n, &to, err));
    if (EVP_PKEY_derive(ctx, to, &n) != 1)
        return clv_fail_openssl(err, CLV_KMS_VALIDATION, "The public key is not valid");
    out->n += n;
    return CLV_OK;
}

clv_status clv_op_derive_shared_secret(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    clv_auto(clv_buf) secret = CLV_BUF_INIT;
    clv_auto(clv_pkey) own = NULL;
    clv_auto(clv_pkey) peer = NULL;
    const clv_algorithm *algorithm;
    const char *id, *name;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_need_text(call, "KeyAgreementAlgorithm", 64, &name, err));
    CLV_TRY(clv_call_condition(call, "kms:KeyAgreementAlgorithm", name, err));
    const clv_key_need need = {.usage = "KEY_AGREEMENT"};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_param_algorithm(call, "KeyAgreementAlgorithm", NULL, &key, &algorithm, err));
    CLV_TRY(clv_key_material(call, key.id, key.version, &material, err));
    CLV_TRY(clv_material_pair(clv_buf_bytes(&material), &own, err));
    CLV_TRY(read_peer(call, own, &peer, err));
    CLV_TRY(agree(own, peer, &secret, err));
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    CLV_TRY(clv_answer_text(call, "KeyAgreementAlgorithm", algorithm->name, err));
    CLV_TRY(clv_answer_text(call, "KeyOrigin", "AWS_KMS", err));
    return clv_answer_secret(call, "SharedSecret", clv_buf_bytes(&secret), err);
}

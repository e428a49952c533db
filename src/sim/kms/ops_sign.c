/* Sign, Verify, GenerateMac, VerifyMac. */
#include <sim/kms/ops.h>

#include <base/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>

#define MESSAGE_MAX   4096
#define SIGNATURE_MAX 6144
#define SIGNING       "SIGN_VERIFY"
#define MAC           "GENERATE_VERIFY_MAC"

typedef EVP_PKEY_CTX *pkey_ctx;

static void pkey_ctx_drop(pkey_ctx *ctx)
{
    EVP_PKEY_CTX_free(*ctx);
    *ctx = NULL;
}

/* What Sign and Verify have in common: the key, the algorithm and the digest to be signed. */
typedef struct signing {
    clv_key key;
    const clv_algorithm *algorithm;
    EVP_PKEY *pair;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_size;
} signing;

static void signing_drop(signing *s)
{
    clv_key_drop(&s->key);
    clv_pkey_drop(&s->pair);
}

static clv_status read_digest(clv_call *call, const char *type, signing *s, clv_error *err)
{
    clv_auto(clv_buf) message = CLV_BUF_INIT;
    const EVP_MD *digest = EVP_get_digestbyname(s->algorithm->digest);
    CLV_TRY(clv_param_need_blob(call, "Message", MESSAGE_MAX, &message, err));
    if (strcmp(type, "RAW") == 0) {
        if (EVP_Digest(message.p, message.n, s->digest, &s->digest_size, digest, NULL) != 1)
            return clv_fail_openssl(err, CLV_INTERNAL, "a digest");
        return CLV_OK;
    }
    s->digest_size = (unsigned)EVP_MD_get_size(digest);
    if (message.n != s->digest_size)
        return clv_fail(err, CLV_KMS_VALIDATION, "Digest is invalid length for algorithm %s.",
                        s->algorithm->name);
    memcpy(s->digest, message.p, message.n);
    return CLV_OK;
}

static clv_status read_message_type(clv_call *call, const char **out, clv_error *err)
{
    CLV_TRY(clv_param_text(call, "MessageType", 16, out, err));
    *out = *out != NULL ? *out : "RAW";
    if (strcmp(*out, "RAW") != 0 && strcmp(*out, "DIGEST") != 0)
        return clv_param_refuse(err, "MessageType", *out,
                                "Member must satisfy enum value set: [RAW, DIGEST]");
    return clv_call_condition(call, "kms:MessageType", *out, err);
}

/* A name that conditions see before the key is known. */
static clv_status note_name(clv_call *call, const char *member, const char *condition,
                            clv_error *err)
{
    const char *name;
    CLV_TRY(clv_param_need_text(call, member, 64, &name, err));
    return clv_call_condition(call, condition, name, err);
}

static clv_status start_signing(clv_call *call, signing *s, clv_error *err)
{
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    const char *id, *type;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(read_message_type(call, &type, err));
    CLV_TRY(note_name(call, "SigningAlgorithm", "kms:SigningAlgorithm", err));
    const clv_key_need need = {.usage = SIGNING};
    CLV_TRY(clv_call_key(call, id, &need, &s->key, err));
    CLV_TRY(clv_param_algorithm(call, "SigningAlgorithm", NULL, &s->key, &s->algorithm, err));
    CLV_TRY(read_digest(call, type, s, err));
    CLV_TRY(clv_key_material(call, s->key.id, s->key.version, &material, err));
    return clv_material_pair(clv_buf_bytes(&material), &s->pair, err);
}

typedef int (*start_function)(EVP_PKEY_CTX *ctx);

static bool start_context(const signing *s, start_function begin, pkey_ctx *out)
{
    const EVP_MD *digest = EVP_get_digestbyname(s->algorithm->digest);
    *out = EVP_PKEY_CTX_new_from_pkey(NULL, s->pair, NULL);
    if (*out == NULL || begin(*out) != 1 || EVP_PKEY_CTX_set_signature_md(*out, digest) != 1)
        return false;
    if (s->algorithm->family != CLV_FAMILY_RSA)
        return true;
    return EVP_PKEY_CTX_set_rsa_padding(*out, s->algorithm->padding) == 1 &&
           (s->algorithm->padding != RSA_PKCS1_PSS_PADDING ||
            EVP_PKEY_CTX_set_rsa_pss_saltlen(*out, RSA_PSS_SALTLEN_DIGEST) == 1);
}

clv_status clv_op_sign(clv_call *call, clv_error *err)
{
    clv_auto(signing) s = {.key = CLV_KEY_INIT};
    clv_auto(pkey_ctx) ctx = NULL;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    uint8_t *to;
    CLV_TRY(start_signing(call, &s, err));
    size_t n = (size_t)EVP_PKEY_get_size(s.pair);
    CLV_TRY(clv_buf_reserve(&signature, n, &to, err));
    if (!start_context(&s, EVP_PKEY_sign_init, &ctx) ||
        EVP_PKEY_sign(ctx, to, &n, s.digest, s.digest_size) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, s.algorithm->name);
    signature.n += n;
    CLV_TRY(clv_answer_text(call, "KeyId", s.key.arn, err));
    CLV_TRY(clv_answer_text(call, "SigningAlgorithm", s.algorithm->name, err));
    return clv_answer_blob(call, "Signature", clv_buf_bytes(&signature), err);
}

clv_status clv_op_verify(clv_call *call, clv_error *err)
{
    clv_auto(signing) s = {.key = CLV_KEY_INIT};
    clv_auto(pkey_ctx) ctx = NULL;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    CLV_TRY(clv_param_need_blob(call, "Signature", SIGNATURE_MAX, &signature, err));
    CLV_TRY(start_signing(call, &s, err));
    if (!start_context(&s, EVP_PKEY_verify_init, &ctx))
        return clv_fail_openssl(err, CLV_INTERNAL, s.algorithm->name);
    if (EVP_PKEY_verify(ctx, signature.p, signature.n, s.digest, s.digest_size) != 1)
        return clv_fail_openssl(err, CLV_KMS_SIGNATURE, "the signature does not verify");
    CLV_TRY(clv_answer_text(call, "KeyId", s.key.arn, err));
    CLV_TRY(clv_answer_text(call, "SigningAlgorithm", s.algorithm->name, err));
    return clv_answer_json(call, "SignatureValid", json_true(), err);
}

/* The MAC of Message under the key, for both operations. */
static clv_status compute_mac(clv_call *call, uint8_t mac[EVP_MAX_MD_SIZE], unsigned *size,
                              clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) message = CLV_BUF_INIT;
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    const clv_algorithm *algorithm;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_need_blob(call, "Message", MESSAGE_MAX, &message, err));
    CLV_TRY(note_name(call, "MacAlgorithm", "kms:MacAlgorithm", err));
    const clv_key_need need = {.usage = MAC};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_param_algorithm(call, "MacAlgorithm", NULL, &key, &algorithm, err));
    CLV_TRY(clv_key_material(call, key.id, key.version, &material, err));
    if (HMAC(EVP_get_digestbyname(algorithm->digest), material.p, (int)material.n, message.p,
             message.n, mac, size) == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, algorithm->name);
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    return clv_answer_text(call, "MacAlgorithm", algorithm->name, err);
}

clv_status clv_op_generate_mac(clv_call *call, clv_error *err)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    CLV_TRY(compute_mac(call, mac, &n, err));
    return clv_answer_blob(call, "Mac", CLV_BYTES(mac, n), err);
}

clv_status clv_op_verify_mac(clv_call *call, clv_error *err)
{
    clv_auto(clv_buf) claimed = CLV_BUF_INIT;
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    CLV_TRY(clv_param_need_blob(call, "Mac", SIGNATURE_MAX, &claimed, err));
    CLV_TRY(compute_mac(call, mac, &n, err));
    if (!clv_bytes_equal_secret(clv_buf_bytes(&claimed), CLV_BYTES(mac, n)))
        return clv_fail(err, CLV_KMS_MAC, "the MAC does not verify");
    return clv_answer_json(call, "MacValid", json_true(), err);
}

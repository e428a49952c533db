/* Encrypt, Decrypt, data keys and random bytes. */
#include <sim/kms/ops.h>

#include <stdio.h>

#include <openssl/rand.h>
#include <sim/kms/rsa.h>

/* Limits of the KMS API reference. */
#define PLAINTEXT_MAX     4096
#define DATA_KEY_MAX      1024
#define CONTEXT_BYTES_MAX 8192

#define SYMMETRIC  "SYMMETRIC_DEFAULT"
#define ENCRYPTING "ENCRYPT_DECRYPT"

clv_status clv_data_encrypt(clv_call *call, const clv_key *key, const json_t *context,
                            clv_bytes plaintext, clv_buf *out, clv_error *err)
{
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    CLV_TRY(clv_key_material(call, key->id, key->version, &material, err));
    return clv_blob_seal(key->id, key->version, clv_buf_bytes(&material), context, plaintext, out,
                         err);
}

clv_status clv_param_context(clv_call *call, const char *name, const json_t **out, clv_error *err)
{
    CLV_TRY(clv_param_map(call, name, out, err));
    json_t *object = (json_t *)*out;
    size_t total = 0;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i))
        total += strlen(json_object_iter_key(i)) + json_string_length(json_object_iter_value(i));
    if (total > CONTEXT_BYTES_MAX)
        return clv_fail(err, CLV_KMS_VALIDATION, "The encryption context is larger than %d bytes",
                        CONTEXT_BYTES_MAX);
    return CLV_OK;
}

clv_status clv_param_algorithm(clv_call *call, const char *name, const char *otherwise,
                               const clv_key *key, const clv_algorithm **out, clv_error *err)
{
    const char *text;
    CLV_TRY(clv_param_text(call, name, 64, &text, err));
    text = text != NULL ? text : otherwise;
    if (text == NULL)
        return clv_param_refuse(err, name, NULL, "Member must not be null");
    *out = clv_algorithm_of(text);
    if (*out == NULL)
        return clv_param_refuse(err, name, text, "Member must satisfy enum value set");
    if (!clv_algorithm_fits(*out, clv_key_spec_of(key->spec), key->usage))
        return clv_fail(err, CLV_KMS_INVALID_KEY_USAGE,
                        "%s algorithm %s is not valid for key spec %s and key usage %s.", key->arn,
                        text, key->spec, key->usage);
    return CLV_OK;
}

static clv_status note_algorithm(clv_call *call, const char *otherwise, clv_error *err)
{
    const char *text;
    CLV_TRY(clv_param_text(call, "EncryptionAlgorithm", 64, &text, err));
    return clv_call_condition(call, "kms:EncryptionAlgorithm", text != NULL ? text : otherwise,
                              err);
}

clv_status clv_op_encrypt(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    const json_t *context;
    const clv_algorithm *algorithm;
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_need_blob(call, "Plaintext", PLAINTEXT_MAX, &plaintext, err));
    CLV_TRY(clv_param_context(call, "EncryptionContext", &context, err));
    CLV_TRY(note_algorithm(call, SYMMETRIC, err));
    const clv_key_need need = {.usage = ENCRYPTING, .context = context};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_param_algorithm(call, "EncryptionAlgorithm", SYMMETRIC, &key, &algorithm, err));
    if (algorithm->family == CLV_FAMILY_RSA)
        CLV_TRY(clv_rsa_encrypt(call, &key, algorithm, clv_buf_bytes(&plaintext), &blob, err));
    else
        CLV_TRY(clv_data_encrypt(call, &key, context, clv_buf_bytes(&plaintext), &blob, err));
    CLV_TRY(clv_answer_blob(call, "CiphertextBlob", clv_buf_bytes(&blob), err));
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    return clv_answer_text(call, "EncryptionAlgorithm", algorithm->name, err);
}

/* The key that a symmetric CiphertextBlob names, which a KeyId given must name too. */
static clv_status key_of_blob(clv_call *call, const clv_blob *blob, const char *id, clv_key *key,
                              clv_error *err)
{
    bool found;
    CLV_TRY(clv_key_load(call, blob->key_id, key, &found, err));
    if (!found)
        return clv_fail(err, CLV_KMS_ACCESS_DENIED,
                        "The ciphertext refers to a customer master key that does not exist, does "
                        "not exist in this region, or you are not allowed to access.");
    if (id == NULL)
        return CLV_OK;
    clv_auto(clv_key) named = CLV_KEY_INIT;
    CLV_TRY(clv_call_find_key(call, id, &named, err));
    if (strcmp(named.id, key->id) != 0)
        return clv_fail(err, CLV_KMS_INCORRECT_KEY,
                        "The key ID in the request does not identify a CMK that can perform this "
                        "operation.");
    return CLV_OK;
}

static clv_status decrypt_symmetric(clv_call *call, clv_bytes ciphertext,
                                    const clv_ciphertext_source *source, clv_key *key,
                                    clv_buf *plaintext, clv_error *err)
{
    clv_blob blob;
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    CLV_TRY(clv_blob_parse(ciphertext, &blob, err));
    CLV_TRY(key_of_blob(call, &blob, source->key_id, key, err));
    const clv_key_need need = {.usage = ENCRYPTING,
                               .context = source->context,
                               .action = source->action,
                               .grant_operation = source->grant_operation};
    CLV_TRY(clv_call_use_key(call, key, &need, err));
    CLV_TRY(clv_key_material(call, key->id, blob.version, &material, err));
    return clv_blob_open(&blob, clv_buf_bytes(&material), source->context, plaintext, err);
}

clv_status clv_data_decrypt(clv_call *call, clv_bytes ciphertext,
                            const clv_ciphertext_source *source, clv_key *key, clv_buf *plaintext,
                            clv_error *err)
{
    if (strcmp(source->algorithm, SYMMETRIC) == 0)
        return decrypt_symmetric(call, ciphertext, source, key, plaintext, err);
    const clv_algorithm *algorithm = clv_algorithm_of(source->algorithm);
    if (algorithm == NULL)
        return clv_param_refuse(err, "EncryptionAlgorithm", source->algorithm,
                                "Member must satisfy enum value set: [SYMMETRIC_DEFAULT, "
                                "RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256]");
    if (source->key_id == NULL)
        return clv_param_refuse(err, "KeyId", NULL, "Member must not be null");
    const clv_key_need need = {
        .usage = ENCRYPTING, .action = source->action, .grant_operation = source->grant_operation};
    CLV_TRY(clv_call_key(call, source->key_id, &need, key, err));
    if (!clv_algorithm_fits(algorithm, clv_key_spec_of(key->spec), key->usage))
        return clv_fail(err, CLV_KMS_INVALID_KEY_USAGE,
                        "%s algorithm %s is not valid for key spec %s and key usage %s.", key->arn,
                        algorithm->name, key->spec, key->usage);
    return clv_rsa_decrypt(call, key, algorithm, ciphertext, plaintext, err);
}

clv_status clv_op_decrypt(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) ciphertext = CLV_BUF_INIT;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    clv_ciphertext_source source = {.algorithm = SYMMETRIC};
    const char *algorithm;
    CLV_TRY(clv_param_need_blob(call, "CiphertextBlob", CLV_CIPHERTEXT_MAX, &ciphertext, err));
    CLV_TRY(clv_param_text(call, "KeyId", CLV_KEY_ID_MAX, &source.key_id, err));
    CLV_TRY(clv_param_text(call, "EncryptionAlgorithm", 64, &algorithm, err));
    source.algorithm = algorithm != NULL ? algorithm : SYMMETRIC;
    CLV_TRY(clv_param_context(call, "EncryptionContext", &source.context, err));
    CLV_TRY(note_algorithm(call, SYMMETRIC, err));
    CLV_TRY(clv_data_decrypt(call, clv_buf_bytes(&ciphertext), &source, &key, &plaintext, err));
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    CLV_TRY(clv_answer_text(call, "EncryptionAlgorithm", source.algorithm, err));
    return clv_answer_secret(call, "Plaintext", clv_buf_bytes(&plaintext), err);
}

/* Exactly one of KeySpec and NumberOfBytes. */
static clv_status read_size(clv_call *call, size_t *out, clv_error *err)
{
    static const struct {
        const char *name;
        size_t size;
    } specs[] = {{"AES_128", 16}, {"AES_256", 32}};
    const char *spec;
    int64_t bytes = 0;
    CLV_TRY(clv_param_text(call, "KeySpec", 32, &spec, err));
    CLV_TRY(clv_param_integer(call, "NumberOfBytes", 1, DATA_KEY_MAX, &bytes, err));
    if ((spec != NULL) == (bytes != 0))
        return clv_fail(err, CLV_KMS_VALIDATION,
                        "Please specify either number of bytes or key spec.");
    *out = (size_t)bytes;
    for (size_t i = 0; spec != NULL && i < sizeof specs / sizeof specs[0]; i++) {
        if (strcmp(spec, specs[i].name) == 0)
            *out = specs[i].size;
    }
    return *out != 0 ? CLV_OK
                     : clv_param_refuse(err, "KeySpec", spec,
                                        "Member must satisfy enum value set: [AES_256, AES_128]");
}

static clv_status random_bytes(size_t n, clv_buf *out, clv_error *err)
{
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, n, &to, err));
    if (RAND_priv_bytes(to, (int)n) != 1)
        return clv_fail(err, CLV_INTERNAL, "expected random bytes, found none");
    out->n += n;
    return CLV_OK;
}

static clv_status make_data_key(clv_call *call, clv_buf *plaintext, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    const json_t *context;
    const char *id;
    size_t n;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_param_context(call, "EncryptionContext", &context, err));
    CLV_TRY(read_size(call, &n, err));
    CLV_TRY(clv_call_condition(call, "kms:EncryptionAlgorithm", SYMMETRIC, err));
    const clv_key_need need = {.usage = ENCRYPTING, .context = context};
    CLV_TRY(clv_call_key(call, id, &need, &key, err));
    CLV_TRY(clv_require_symmetric(&key, err));
    CLV_TRY(random_bytes(n, plaintext, err));
    CLV_TRY(clv_data_encrypt(call, &key, context, clv_buf_bytes(plaintext), &blob, err));
    CLV_TRY(clv_answer_blob(call, "CiphertextBlob", clv_buf_bytes(&blob), err));
    return clv_answer_text(call, "KeyId", key.arn, err);
}

clv_status clv_require_symmetric(const clv_key *key, clv_error *err)
{
    if (strcmp(key->spec, SYMMETRIC) != 0)
        return clv_fail(err, CLV_KMS_INVALID_KEY_USAGE,
                        "%s key spec is %s which is not valid for this operation.", key->arn,
                        key->spec);
    return CLV_OK;
}

clv_status clv_op_generate_data_key(clv_call *call, clv_error *err)
{
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    CLV_TRY(make_data_key(call, &plaintext, err));
    return clv_answer_secret(call, "Plaintext", clv_buf_bytes(&plaintext), err);
}

clv_status clv_op_generate_data_key_without_plaintext(clv_call *call, clv_error *err)
{
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    return make_data_key(call, &plaintext, err);
}

clv_status clv_op_generate_random(clv_call *call, clv_error *err)
{
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    const char *store;
    int64_t n = 0;
    CLV_TRY(clv_param_text(call, "CustomKeyStoreId", 64, &store, err));
    if (store != NULL)
        return clv_fail(err, CLV_KMS_UNSUPPORTED, "claviger-kms has no custom key stores");
    CLV_TRY(clv_param_integer(call, "NumberOfBytes", 1, DATA_KEY_MAX, &n, err));
    if (n == 0)
        return clv_param_refuse(err, "NumberOfBytes", NULL, "Member must not be null");
    CLV_TRY(clv_call_authorise(call, err));
    CLV_TRY(random_bytes((size_t)n, &bytes, err));
    return clv_answer_secret(call, "Plaintext", clv_buf_bytes(&bytes), err);
}

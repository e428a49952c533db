#include <kms/message.h>

#include <base/crypto.h>
#include <base/json.h>

/* AWS KMS API reference, RecipientInfo: the only algorithm there is. */
#define KEY_ENCRYPTION_ALGORITHM "RSAES_OAEP_SHA_256"
/* DeriveSharedSecret: the only algorithm there is. */
#define KEY_AGREEMENT_ALGORITHM "ECDH"

static clv_status no_memory(clv_error *err)
{
    return clv_fail(err, CLV_NO_MEMORY, "no memory for a KMS request");
}

/* Takes the value, whatever happens. */
static clv_status put(json_t *object, const char *name, json_t *value, clv_error *err)
{
    return json_object_set_new(object, name, value) == 0 ? CLV_OK : no_memory(err);
}

static clv_status put_text(json_t *object, const char *name, const char *text, clv_error *err)
{
    return put(object, name, json_string(text), err);
}

static clv_status put_base64(json_t *object, const char *name, clv_bytes bytes, clv_error *err)
{
    return put(object, name, clv_json_base64(bytes), err);
}

static clv_status put_context(json_t *object, const clv_context *context, clv_error *err)
{
    if (context->count == 0)
        return CLV_OK;
    clv_auto(clv_json) pairs = json_object();
    if (pairs == NULL)
        return no_memory(err);
    for (size_t i = 0; i < context->count; i++)
        CLV_TRY(put_text(pairs, context->pair[i].key, context->pair[i].value, err));
    return put(object, "EncryptionContext", json_incref(pairs), err);
}

static clv_status put_recipient(json_t *object, clv_bytes document, clv_error *err)
{
    clv_auto(clv_json) recipient = json_object();
    if (recipient == NULL)
        return no_memory(err);
    CLV_TRY(put_text(recipient, "KeyEncryptionAlgorithm", KEY_ENCRYPTION_ALGORITHM, err));
    CLV_TRY(put_base64(recipient, "AttestationDocument", document, err));
    return put(object, "Recipient", json_incref(recipient), err);
}

/* A key that KMS could not agree with would cost a call and come back with less of a reason. */
static clv_status put_peer(json_t *object, clv_bytes public_key, clv_error *err)
{
    size_t size;
    clv_error why = {0};
    if (clv_spki_shared_size(public_key, &size, &why) != CLV_OK)
        return clv_fail(err, CLV_OPERATION_INVALID, "public_key: %s", why.text);
    return put_base64(object, "PublicKey", public_key, err);
}

static clv_status put_parameters(json_t *object, const clv_operation *operation, clv_error *err)
{
    if (operation->action != CLV_GENERATE_RANDOM)
        CLV_TRY(put_text(object, "KeyId", operation->key_arn, err));
    switch (operation->action) {
    case CLV_GENERATE_DATA_KEY:
        CLV_TRY(put(object, "NumberOfBytes", json_integer(operation->number_of_bytes), err));
        return put_context(object, &operation->context, err);
    case CLV_DECRYPT:
        CLV_TRY(put_base64(object, "CiphertextBlob", clv_buf_bytes(&operation->ciphertext), err));
        return put_context(object, &operation->context, err);
    case CLV_GENERATE_DATA_KEY_PAIR:
        CLV_TRY(put_text(object, "KeyPairSpec", operation->key_pair_spec, err));
        return put_context(object, &operation->context, err);
    case CLV_GENERATE_RANDOM:
        return put(object, "NumberOfBytes", json_integer(operation->number_of_bytes), err);
    case CLV_DERIVE_SHARED_SECRET:
        CLV_TRY(put_text(object, "KeyAgreementAlgorithm", KEY_AGREEMENT_ALGORITHM, err));
        return put_peer(object, clv_buf_bytes(&operation->public_key), err);
    case CLV_KMS_ACTION_COUNT:
        break;
    }
    return clv_fail(err, CLV_OPERATION_INVALID, "expected an operation of KMS, found another");
}

clv_status clv_kms_request(const clv_operation *operation, clv_bytes document, clv_buf *out,
                           clv_error *err)
{
    CLV_TRY(clv_operation_check(operation, err));
    clv_auto(clv_json) object = json_object();
    if (object == NULL)
        return no_memory(err);
    CLV_TRY(put_parameters(object, operation, err));
    CLV_TRY(put_recipient(object, document, err));
    return clv_json_append(out, object, err);
}

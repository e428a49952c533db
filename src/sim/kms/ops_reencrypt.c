/* ReEncrypt: from one key and context to another, without the plaintext leaving. */
#include <sim/kms/ops.h>

#include <stdio.h>

#include <sim/kms/rsa.h>

#define SYMMETRIC "SYMMETRIC_DEFAULT"

static clv_status read_source(clv_call *call, clv_ciphertext_source *out, clv_error *err)
{
    const char *algorithm;
    *out =
        (clv_ciphertext_source){.action = "kms:ReEncryptFrom", .grant_operation = "ReEncryptFrom"};
    CLV_TRY(clv_param_text(call, "SourceKeyId", CLV_KEY_ID_MAX, &out->key_id, err));
    CLV_TRY(clv_param_text(call, "SourceEncryptionAlgorithm", 64, &algorithm, err));
    out->algorithm = algorithm != NULL ? algorithm : SYMMETRIC;
    CLV_TRY(clv_call_condition(call, "kms:EncryptionAlgorithm", out->algorithm, err));
    return clv_param_context(call, "SourceEncryptionContext", &out->context, err);
}

/* Which key the ciphertext belongs to, for kms:ReEncryptOnSameKey, before anything is allowed. */
static clv_status note_same_key(clv_call *call, clv_bytes ciphertext,
                                const clv_ciphertext_source *source, const clv_key *destination,
                                clv_error *err)
{
    clv_blob blob;
    clv_auto(clv_key) named = CLV_KEY_INIT;
    const char *id = "";
    if (strcmp(source->algorithm, SYMMETRIC) == 0) {
        CLV_TRY(clv_blob_parse(ciphertext, &blob, err));
        id = blob.key_id;
    } else if (source->key_id != NULL) {
        CLV_TRY(clv_call_find_key(call, source->key_id, &named, err));
        id = named.id;
    }
    return clv_call_condition(call, "kms:ReEncryptOnSameKey",
                              strcmp(id, destination->id) == 0 ? "true" : "false", err);
}

static clv_status encrypt_to(clv_call *call, const clv_key *key, const json_t *context,
                             clv_bytes plaintext, clv_error *err)
{
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    const clv_algorithm *algorithm;
    CLV_TRY(clv_param_algorithm(call, "DestinationEncryptionAlgorithm", SYMMETRIC, key, &algorithm,
                                err));
    if (algorithm->family == CLV_FAMILY_RSA)
        CLV_TRY(clv_rsa_encrypt(call, key, algorithm, plaintext, &blob, err));
    else
        CLV_TRY(clv_data_encrypt(call, key, context, plaintext, &blob, err));
    CLV_TRY(clv_answer_text(call, "KeyId", key->arn, err));
    CLV_TRY(clv_answer_text(call, "DestinationEncryptionAlgorithm", algorithm->name, err));
    return clv_answer_blob(call, "CiphertextBlob", clv_buf_bytes(&blob), err);
}

clv_status clv_op_re_encrypt(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) from = CLV_KEY_INIT;
    clv_auto(clv_key) to = CLV_KEY_INIT;
    clv_auto(clv_buf) ciphertext = CLV_BUF_INIT;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    clv_ciphertext_source source;
    const json_t *context;
    const char *destination;
    CLV_TRY(clv_param_need_blob(call, "CiphertextBlob", CLV_CIPHERTEXT_MAX, &ciphertext, err));
    CLV_TRY(clv_param_need_text(call, "DestinationKeyId", CLV_KEY_ID_MAX, &destination, err));
    CLV_TRY(clv_param_context(call, "DestinationEncryptionContext", &context, err));
    CLV_TRY(read_source(call, &source, err));
    CLV_TRY(clv_call_find_key(call, destination, &to, err));
    CLV_TRY(note_same_key(call, clv_buf_bytes(&ciphertext), &source, &to, err));

    /* A dry run ends at the second of the two keys, when both were allowed. */
    bool dry_run = call->dry_run;
    call->dry_run = false;
    CLV_TRY(clv_data_decrypt(call, clv_buf_bytes(&ciphertext), &source, &from, &plaintext, err));
    call->dry_run = dry_run;
    const clv_key_need need = {.action = "kms:ReEncryptTo",
                               .usage = "ENCRYPT_DECRYPT",
                               .context = context,
                               .grant_operation = "ReEncryptTo"};
    CLV_TRY(clv_call_use_key(call, &to, &need, err));
    CLV_TRY(clv_answer_text(call, "SourceKeyId", from.arn, err));
    CLV_TRY(clv_answer_text(call, "SourceEncryptionAlgorithm", source.algorithm, err));
    return encrypt_to(call, &to, context, clv_buf_bytes(&plaintext), err);
}

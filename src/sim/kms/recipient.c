/* The Recipient of an attested call: verified as strictly as the enclave verifies its own. */
#include <sim/kms/call.h>

#include <stdio.h>

#include <base/crypto.h>
#include <base/json.h>
#include <openssl/rsa.h>

#define AGE_MAX_MS   (5 * 60 * 1000) /* KMS is reported to refuse older documents */
#define AHEAD_MAX_MS (60 * 1000)     /* the two clocks may differ by this */
#define RSA_BITS_MIN 2048

static clv_status invalid(clv_error *err, const char *why)
{
    char text[CLV_ERROR_TEXT_MAX];
    snprintf(text, sizeof text, "%s", why);
    return clv_fail(err, CLV_KMS_VALIDATION, "The attestation document is not valid: %s", text);
}

static clv_status check_age(uint64_t timestamp_ms, uint64_t now_ms, clv_error *err)
{
    if (timestamp_ms + AGE_MAX_MS < now_ms)
        return invalid(err, "it was made more than five minutes ago");
    if (timestamp_ms > now_ms + AHEAD_MAX_MS)
        return invalid(err, "its timestamp is in the future");
    return CLV_OK;
}

static clv_status check_public_key(const clv_document *document, clv_error *err)
{
    if (!document->public_key.present || document->public_key.bytes.n == 0)
        return invalid(err, "it carries no public key");
    clv_bytes spki = document->public_key.bytes;
    const uint8_t *p = spki.p;
    clv_auto(clv_pkey) key = d2i_PUBKEY(NULL, &p, (long)spki.n);
    bool whole = key != NULL && (size_t)(p - spki.p) == spki.n;
    if (!whole || EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA ||
        EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
        return invalid(err, "its public key is not the DER SubjectPublicKeyInfo of an RSA key of "
                            "2048 bits or more");
    return CLV_OK;
}

static clv_status verify(clv_call *call, clv_recipient *out, clv_error *err)
{
    clv_error why = {0};
    clv_document claimed;
    if (clv_document_parse(clv_buf_bytes(&out->bytes), &claimed, &why) != CLV_OK)
        return invalid(err, why.text);
    clv_verify_options options;
    clv_verify_options_init(&options);
    memcpy(options.root_sha256, call->server->root_sha256, sizeof options.root_sha256);
    options.kind = claimed.kind;
    options.at_ms = call->now_ms;
    if (clv_document_verify(clv_buf_bytes(&out->bytes), &options, &out->document, &why) != CLV_OK)
        return invalid(err, why.text);
    CLV_TRY(check_age(out->document.timestamp_ms, call->now_ms, err));
    return check_public_key(&out->document, err);
}

static clv_status add_pcr(clv_call *call, const char *key, const clv_pcrs *pcrs, unsigned index,
                          clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_hex_append(&hex, CLV_BYTES(pcrs->value[index], CLV_PCR_SIZE), err));
    CLV_TRY(clv_buf_text(&hex, &text, err));
    return clv_call_condition(call, key, text, err);
}

/* The two kinds of document have condition keys of their own and never meet each other's. */
static clv_status add_conditions(clv_call *call, const clv_document *document, clv_error *err)
{
    bool enclave = document->kind == CLV_KIND_ENCLAVE;
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if ((document->pcrs.present >> i & 1) == 0)
            continue;
        char key[64];
        snprintf(key, sizeof key, "kms:RecipientAttestation:%s%u", enclave ? "PCR" : "NitroTPMPCR",
                 i);
        CLV_TRY(add_pcr(call, key, &document->pcrs, i, err));
        if (enclave && i == 0)
            CLV_TRY(add_pcr(call, "kms:RecipientAttestation:ImageSha384", &document->pcrs, i, err));
    }
    return CLV_OK;
}

#define ALGORITHM "RSAES_OAEP_SHA_256"

clv_status clv_recipient_read(clv_call *call, clv_error *err)
{
    const json_t *info = json_object_get(call->parameters, "Recipient");
    if (info == NULL || json_is_null(info))
        return CLV_OK;
    if (!json_is_object(info))
        return clv_fail(err, CLV_KMS_SERIALIZATION, "recipient: expected an object, found %s",
                        clv_json_type_name(info));
    const char *algorithm = json_string_value(json_object_get(info, "KeyEncryptionAlgorithm"));
    if (algorithm == NULL || strcmp(algorithm, ALGORITHM) != 0)
        return clv_param_refuse(err, "recipient.keyEncryptionAlgorithm", algorithm,
                                algorithm == NULL ? "Member must not be null"
                                                  : "Member must satisfy enum value set: "
                                                    "[" ALGORITHM "]");
    const json_t *document = json_object_get(info, "AttestationDocument");
    if (!json_is_string(document))
        return clv_param_refuse(err, "recipient.attestationDocument", NULL,
                                "Member must not be null");
    clv_bytes text = CLV_BYTES(json_string_value(document), json_string_length(document));
    if (clv_base64_decode(text, &call->recipient.bytes, NULL) != CLV_OK)
        return clv_fail(err, CLV_KMS_SERIALIZATION,
                        "recipient.attestationDocument: expected base64, found other characters");
    CLV_TRY(verify(call, &call->recipient, err));
    call->recipient.present = true;
    return add_conditions(call, &call->recipient.document, err);
}

static void set_pcr(json_t *to, const char *name, const uint8_t value[CLV_PCR_SIZE])
{
    clv_auto(clv_buf) base64 = CLV_BUF_INIT;
    const char *text;
    if (clv_base64_append(&base64, CLV_BYTES(value, CLV_PCR_SIZE), NULL) == CLV_OK &&
        clv_buf_text(&base64, &text, NULL) == CLV_OK)
        json_object_set_new(to, name, json_string(text));
}

json_t *clv_recipient_audit(const clv_recipient *recipient)
{
    if (!recipient->present)
        return NULL;
    const clv_document *document = &recipient->document;
    bool enclave = document->kind == CLV_KIND_ENCLAVE;
    json_t *out = json_object();
    json_object_set_new(out, "attestationDocumentModuleId",
                        json_stringn((const char *)document->module_id.p, document->module_id.n));
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if ((document->pcrs.present >> i & 1) == 0)
            continue;
        char name[64];
        snprintf(name, sizeof name, "attestationDocument%sPCR%u", enclave ? "Enclave" : "NitroTPM",
                 i);
        set_pcr(out, enclave && i == 0 ? "attestationDocumentEnclaveImageDigest" : name,
                document->pcrs.value[i]);
    }
    return out;
}

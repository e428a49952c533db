#include "stage.h"

#include "../check.h"

#include <unistd.h>

#include <base/json.h>

static const reply answer_always[] = {{.kind = REPLY_ANSWER}};

/* -- the server's side: what a KMS would answer ------------------------------------------- */

static json_t *base64_value(clv_bytes bytes)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    assert_ok(clv_base64_append(&text, bytes, err));
    return json_stringn((const char *)text.p, text.n);
}

/* The key that the request's attestation document carries. */
static EVP_PKEY *recipient_of(const json_t *request)
{
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    const char *text = json_string_value(
        json_object_get(json_object_get(request, "Recipient"), "AttestationDocument"));
    assert_non_null(text);
    assert_ok(clv_base64_decode(clv_bytes_of(text), &document, err));
    clv_document parsed;
    assert_ok(clv_document_parse(clv_buf_bytes(&document), &parsed, err));
    const uint8_t *der = parsed.public_key.bytes.p;
    EVP_PKEY *key = d2i_PUBKEY(NULL, &der, (long)parsed.public_key.bytes.n);
    assert_non_null(key);
    return key;
}

void stage_make_body(void *with, clv_bytes request, clv_buf *body)
{
    const stage *s = with;
    static const cms_shape shape = {0};
    clv_auto(clv_json) asked = NULL;
    clv_auto(clv_json) answer = json_object();
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    assert_ok(clv_json_parse(request, request.n, &asked, err));
    EVP_PKEY *key = recipient_of(asked);
    cms_write(&shape, key, s->plaintext, &cms);
    EVP_PKEY_free(key);
    json_object_set_new(answer, "CiphertextForRecipient", base64_value(clv_buf_bytes(&cms)));
    json_object_set_new(answer, "KeyId", json_string(s->key_id));
    json_object_set_new(answer, "CiphertextBlob", base64_value(clv_bytes_of("blob")));
    json_object_set_new(answer, "PrivateKeyCiphertextBlob", base64_value(clv_bytes_of("blob")));
    json_object_set_new(answer, "PublicKey", json_string(STAGE_PUBLIC_KEY));
    json_object_set_new(answer, "Plaintext", json_null());
    assert_ok(clv_json_append(body, answer, err));
}

/* -- the client's side -------------------------------------------------------------------- */

static void open_gate(stage *s, const stage_options *options)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT, root = CLV_BUF_INIT;
    const char *root_hex;
    assert_ok(clv_hex_append(&root, CLV_BYTES(s->nsm.root_sha256, 32), err));
    assert_ok(clv_buf_text(&root, &root_hex, err));
    assert_ok(clv_buf_printf(
        &text, err,
        "{\"version\":1,\"enclave\":\"test\",\"attestation\":{\"root_sha256\":\"%s\","
        "\"allow_debug\":%s,\"pcrs\":{\"8\":\"",
        root_hex, options->debug ? "true" : "false"));
    assert_ok(clv_hex_append(&text, CLV_BYTES(s->nsm.document.pcrs.value[8], CLV_PCR_SIZE), err));
    assert_ok(clv_buf_printf(
        &text, err,
        "\"}},\"kms\":{\"region\":\"us-east-1\",\"endpoint\":\"https://" STAGE_HOST
        "\",\"ca_file\":\"%s/ca.pem\"},\"keys\":{\"k\":{\"key_id\":\"" STAGE_KEY_ARN "\","
        "\"operations\":[\"GenerateDataKey\",\"Decrypt\"],\"encryption_context\":{\"a\":\"b\"}}},"
        "\"agents\":[]}",
        s->directory));
    assert_ok(clv_policy_parse(clv_buf_bytes(&text), &s->policy, err));
    assert_ok(clv_nsm_open(s->nsm.address, &s->nsm_handle, err));
    clv_clock_init(&s->clock);
    assert_ok(clv_gate_measure(s->nsm_handle, s->policy, err));
    assert_ok(clv_gate_open(s->nsm_handle, s->policy, CLV_BYTES(NULL, 0), CLV_BYTES(NULL, 0),
                            &s->clock, &s->gate, err));
}

static void open_kms(stage *s, const stage_options *options)
{
    clv_kms_options kms = {.region = options->region != NULL ? options->region : "us-east-1",
                           .endpoint = options->endpoint != NULL ? options->endpoint
                                                                 : "https://" STAGE_HOST,
                           .ca_file = s->policy->kms_ca_file,
                           .relay = s->server.address,
                           .fresh_connections = options->fresh,
                           .timeout_ms = options->timeout_ms != 0 ? options->timeout_ms : 30000};
    assert_ok(clv_kms_open(&kms, &s->kms, err));
    if (!options->no_credentials)
        stage_set_credentials(s, 0, options->credentials_expire_ms);
}

void stage_open(stage *s, const stage_options *options)
{
    *s = (stage){.directory = "/tmp/claviger-kms-XXXXXX",
                 .plaintext = clv_bytes_of(STAGE_SECRET),
                 .key_id = STAGE_KEY_ARN};
    assert_non_null(mkdtemp(s->directory));
    char ca_file[100];
    tls_ca stranger = {0};
    snprintf(ca_file, sizeof ca_file, "%s/ca.pem", s->directory);
    tls_ca_make(&s->ca, "Test CA", ca_file);
    if (options->stranger)
        tls_ca_make(&stranger, "Test CA", NULL);
    tls_server_options server = {
        .ca = options->stranger ? &stranger : &s->ca,
        .host = options->host != NULL ? options->host : STAGE_HOST,
        .not_before = options->not_before != 0 ? options->not_before : MAKER_VALID_FROM,
        .not_after = options->not_after != 0 ? options->not_after : MAKER_VALID_UNTIL,
        .max_version = options->max_version,
        .script = answer_always,
        .script_length = 1,
        .make_body = stage_make_body,
        .with = s};
    tls_server_start(&s->server, &server);
    tls_ca_drop(&stranger);
    fake_nsm_start(&s->nsm, s->directory, options->debug);
    open_gate(s, options);
    open_kms(s, options);
}

void stage_close(stage *s)
{
    char path[100];
    clv_kms_free(&s->kms);
    clv_gate_free(&s->gate);
    clv_nsm_free(&s->nsm_handle);
    clv_policy_free(&s->policy);
    clv_clock_drop(&s->clock);
    fake_nsm_stop(&s->nsm);
    tls_server_stop(&s->server);
    tls_ca_drop(&s->ca);
    static const char *const names[] = {"ca.pem", "nsm"};
    for (size_t i = 0; i < ROWS(names); i++) {
        snprintf(path, sizeof path, "%s/%s", s->directory, names[i]);
        unlink(path);
    }
    rmdir(s->directory);
}

void stage_operation(clv_kms_action action, clv_operation *out)
{
    *out = (clv_operation)CLV_OPERATION_INIT;
    out->action = action;
    if (action != CLV_GENERATE_RANDOM)
        assert_ok(clv_text_dup(clv_bytes_of(STAGE_KEY_ARN), &out->key_arn, err));
    if (action == CLV_GENERATE_DATA_KEY || action == CLV_GENERATE_RANDOM)
        out->number_of_bytes = sizeof(STAGE_SECRET) - 1;
    if (action == CLV_DECRYPT)
        assert_ok(clv_buf_append_text(&out->ciphertext, "blob", err));
    if (action == CLV_GENERATE_DATA_KEY_PAIR)
        assert_ok(clv_text_dup(clv_bytes_of("ECC_NIST_P256"), &out->key_pair_spec, err));
    if (action == CLV_DERIVE_SHARED_SECRET)
        assert_ok(clv_base64_decode(clv_bytes_of(STAGE_PUBLIC_KEY), &out->public_key, err));
    if (action == CLV_GENERATE_DATA_KEY || action == CLV_DECRYPT ||
        action == CLV_GENERATE_DATA_KEY_PAIR)
        assert_ok(clv_context_add(&out->context, "a", "b", err));
}

void stage_set_credentials(stage *s, unsigned number, uint64_t expires_ms)
{
    clv_credentials c = CLV_CREDENTIALS_INIT;
    snprintf(c.access_key_id, sizeof c.access_key_id, "ASIATESTCREDENTIAL%02u", number);
    assert_ok(clv_secret_copy(clv_bytes_of("secret"), &c.secret_access_key, err));
    assert_ok(clv_secret_copy(clv_bytes_of("session-token"), &c.session_token, err));
    c.expires_ms = expires_ms;
    clv_kms_set_credentials(s->kms, &c);
    assert_null(c.secret_access_key);
}

clv_status stage_call_operation(stage *s, const clv_operation *operation, clv_kms_answer *answer,
                                clv_kms_failure *failure, clv_error *error)
{
    clv_auto_ptr(clv_voucher) voucher = NULL;
    assert_ok(clv_gate_vouch(s->gate, operation, &voucher, err));
    clv_status status = clv_kms_call(s->kms, &voucher, operation, answer, failure, error);
    assert_null(voucher);
    return status;
}

clv_status stage_call(stage *s, clv_kms_action action, clv_kms_answer *answer,
                      clv_kms_failure *failure, clv_error *error)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation(action, &operation);
    return stage_call_operation(s, &operation, answer, failure, error);
}

/*
 * /v1/kms and /v1/random: plaintext from KMS in the agent's own hands, as AWS's
 * kmstool-enclave-cli gives it. Apart from everything else here these exist to hand a key out, so
 * they have capabilities of their own, and the policy's context and operations bind them all the
 * same.
 */
#include <enclave/routes.h>

/* A key that the caller names must be the one that is used. */
static clv_status check_key_id(const clv_request *request, clv_json_reader *r, clv_error *err)
{
    const char *key_id = NULL;
    CLV_TRY(clv_json_text(r, "key_id", &key_id, err));
    if (key_id != NULL && strcmp(key_id, request->key->key_arn) != 0)
        return clv_fail(err, CLV_POLICY_NO_KEY, "key_id: expected %s, found %.120s",
                        request->key->key_arn, key_id);
    return CLV_OK;
}

static clv_status call_kms(clv_request *request, const clv_operation *operation,
                           clv_kms_answer *answer, clv_error *err)
{
    clv_enclave *enclave = request->enclave;
    CLV_TRY(clv_kms_run(enclave->kms, enclave->gate, operation, answer, NULL, err));
    clv_evidence_keep(&enclave->evidence, request->key, operation,
                      clv_buf_bytes(&answer->document));
    return CLV_OK;
}

clv_status clv_route_kms_decrypt(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_auto(clv_json) out = json_object();
    clv_auto(clv_buf) ciphertext = CLV_BUF_LIMITED(CLV_CIPHERTEXT_BLOB_MAX);
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_json_reader r;
    const char *text = NULL;
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_text(&r, "ciphertext", &text, err));
    CLV_TRY(check_key_id(request, &r, err));
    CLV_TRY(clv_json_done(&r, err));
    clv_status status = clv_base64_decode(clv_bytes_of(text), &ciphertext, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "ciphertext");
    CLV_TRY(clv_policy_resolve_decrypt(request->enclave->policy, request->key,
                                       clv_gate_identity(request->enclave->gate), NULL,
                                       clv_buf_bytes(&ciphertext), &operation, err));
    CLV_TRY(call_kms(request, &operation, &answer, err));
    CLV_TRY(clv_response_member(out, "plaintext",
                                clv_json_base64(clv_secret_bytes(answer.plaintext)), err));
    return clv_response_json(response, json_incref(out), err);
}

clv_status clv_route_kms_generate(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_auto(clv_json) out = json_object();
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    clv_json_reader r;
    int64_t bytes = 0;
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_integer(&r, "number_of_bytes", 1, CLV_DATA_KEY_MAX, &bytes, err));
    CLV_TRY(check_key_id(request, &r, err));
    CLV_TRY(clv_json_done(&r, err));
    CLV_TRY(clv_policy_resolve_generate(request->enclave->policy, request->key,
                                        clv_gate_identity(request->enclave->gate), NULL,
                                        (uint32_t)bytes, &operation, err));
    CLV_TRY(call_kms(request, &operation, &answer, err));
    CLV_TRY(clv_response_member(out, "ciphertext",
                                clv_json_base64(clv_buf_bytes(&answer.ciphertext_blob)), err));
    CLV_TRY(clv_response_member(out, "plaintext",
                                clv_json_base64(clv_secret_bytes(answer.plaintext)), err));
    return clv_response_json(response, json_incref(out), err);
}

clv_status clv_route_random(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_json_reader r;
    int64_t bytes = 0;
    uint8_t *to = NULL;
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_integer(&r, "number_of_bytes", 1, CLV_DATA_KEY_MAX, &bytes, err));
    CLV_TRY(clv_json_done(&r, err));
    CLV_TRY(clv_buf_reserve(&response->body, (size_t)bytes, &to, err));
    CLV_TRY(clv_nsm_random(request->enclave->nsm, to, (size_t)bytes, err));
    response->body.n += (size_t)bytes;
    response->media_type = "application/octet-stream";
    return CLV_OK;
}

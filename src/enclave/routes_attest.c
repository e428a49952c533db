/* Evidence for a remote party: a document over what the caller wants said, and the trail of the
 * documents that went to KMS. */
#include <enclave/routes.h>

#define NONCE_MAX CLV_OPTIONAL_ASK_MAX /* as the NSM allows */

static clv_status read_hex(clv_json_reader *r, const char *name, size_t max, clv_buf *out,
                           clv_optional *as, clv_error *err)
{
    const char *text = NULL;
    CLV_TRY(clv_json_text(r, name, &text, err));
    if (text == NULL)
        return CLV_OK;
    clv_status status = clv_hex_decode(clv_bytes_of(text), out, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s", name);
    if (out->n > max)
        return clv_fail(err, CLV_JSON_VALUE, "%s: expected at most %zu bytes, found %zu", name, max,
                        out->n);
    *as = (clv_optional){true, clv_buf_bytes(out)};
    return CLV_OK;
}

clv_status clv_route_attestation(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_auto(clv_buf) nonce = CLV_BUF_INIT;
    clv_auto(clv_buf) report_data = CLV_BUF_INIT;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_optional ask_nonce = {false}, ask_data = {false};
    clv_json_reader r;
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(read_hex(&r, "nonce", NONCE_MAX, &nonce, &ask_nonce, err));
    CLV_TRY(read_hex(&r, "report_data", CLV_REPORT_DATA_MAX, &report_data, &ask_data, err));
    CLV_TRY(clv_json_done(&r, err));
    CLV_TRY(clv_gate_attest(request->enclave->gate, ask_nonce, ask_data, &document, err));
    CLV_TRY(clv_base64_append(&text, clv_buf_bytes(&document), err));
    json_t *answer = json_pack("{s:s%}", "document", text.p, text.n);
    return clv_response_json(response, answer, err);
}

clv_status clv_route_evidence(clv_request *request, clv_response *response, clv_error *err)
{
    return clv_response_json(
        response,
        json_pack("{s:s, s:o}", "key", request->key->name, "calls",
                  clv_evidence_json(&request->enclave->evidence, request->key)),
        err);
}

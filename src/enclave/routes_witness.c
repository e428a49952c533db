/* /v1/witness: the first use of a freshness witness, explicit and kept in the trail of evidence
 * (R18, docs/freshness.md). */
#include <enclave/routes.h>
#include <enclave/states.h>

/*
 * What the documents here are bound to: user_data = label || SHA-384(bytes). Longer than what an
 * agent may have said (CLV_REPORT_DATA_MAX) and than a voucher's digest, so that neither passes for
 * it.
 */
#define CSR_LABEL  "claviger-witness-csr-1"
#define INIT_LABEL "claviger-witness-init-1"
_Static_assert(sizeof CSR_LABEL - 1 + CLV_SHA384_SIZE > CLV_REPORT_DATA_MAX,
               "no agent can ask for such a document");

static clv_status need_witness(const clv_request *request, clv_error *err)
{
    const clv_policy *policy = request->enclave->policy;
    if (request->enclave->witness == NULL)
        return clv_fail(err, CLV_WITNESS_NONE,
                        "expected a policy with a member \"witness\", found none");
    if (request->key != NULL && request->key != &policy->key[policy->witness.key])
        return clv_fail(err, CLV_WITNESS_NONE, "key: expected the witness's, %s, found %s",
                        policy->key[policy->witness.key].name, request->key->name);
    return CLV_OK;
}

/* A document over the bytes, into the answer and the trail of evidence. */
static clv_status vouch_for(clv_request *request, const char *label, const char *action,
                            clv_bytes bytes, json_t *answer, clv_error *err)
{
    clv_auto(clv_buf) user_data = CLV_BUF_INIT;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    uint8_t digest[CLV_SHA384_SIZE];
    CLV_TRY(clv_sha384(bytes, digest, err));
    CLV_TRY(clv_buf_append_text(&user_data, label, err));
    CLV_TRY(clv_buf_append(&user_data, CLV_BYTES(digest, sizeof digest), err));
    clv_optional said = {true, clv_buf_bytes(&user_data)};
    CLV_TRY(clv_gate_attest(request->enclave->gate, (clv_optional){false}, said, &document, err));
    clv_evidence_add(&request->enclave->evidence, request->key, action, bytes,
                     clv_buf_bytes(&document));
    clv_log(CLV_LOG_WARNING, "witness.first_use", request->operation, "%s by uid %u pid %d", action,
            request->agent.uid, request->agent.pid);
    return clv_response_member(answer, "document", clv_json_base64(clv_buf_bytes(&document)), err);
}

clv_status clv_route_witness(clv_request *request, clv_response *response, clv_error *err)
{
    CLV_TRY(need_witness(request, err));
    return clv_response_json(response, clv_witness_status(request->enclave->witness), err);
}

clv_status clv_route_witness_init(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_buf) record = CLV_BUF_INIT;
    clv_auto(clv_json) answer = json_object();
    char by[CLV_WITNESS_BY_MAX + 1];
    CLV_TRY(need_witness(request, err));
    snprintf(by, sizeof by, "uid %u in %.200s", request->agent.uid,
             clv_gate_identity(request->enclave->gate)->module_id);
    CLV_TRY(clv_witness_init(request->enclave->witness, by, &record, err));
    CLV_TRY(clv_response_member(answer, "record", clv_json_base64(clv_buf_bytes(&record)), err));
    CLV_TRY(vouch_for(request, INIT_LABEL, "WitnessInit", clv_buf_bytes(&record), answer, err));
    response->status = 201;
    if (clv_witness_by_receipts(request->enclave->witness))
        CLV_TRY(clv_states_give_receipt(request, &record, err));
    return clv_response_json(response, json_incref(answer), err);
}

clv_status clv_route_witness_csr(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_buf) der = CLV_BUF_INIT;
    clv_auto(clv_json) answer = json_object();
    CLV_TRY(need_witness(request, err));
    CLV_TRY(clv_witness_request_certificate(request->enclave->witness, &der, err));
    CLV_TRY(clv_response_member(answer, "csr", clv_json_base64(clv_buf_bytes(&der)), err));
    CLV_TRY(vouch_for(request, CSR_LABEL, "WitnessRequest", clv_buf_bytes(&der), answer, err));
    return clv_response_json(response, json_incref(answer), err);
}

clv_status clv_route_witness_certificate(clv_request *request, clv_response *response,
                                         clv_error *err)
{
    CLV_TRY(need_witness(request, err));
    CLV_TRY(clv_witness_take_certificate(request->enclave->witness, clv_buf_bytes(&request->body),
                                         err));
    return clv_response_json(response, clv_witness_status(request->enclave->witness), err);
}

/* The states of every key can be adopted; the capability is on the key that the state is of. */
clv_status clv_route_witness_adopt(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_state_view) view = CLV_STATE_VIEW_INIT;
    if (request->enclave->witness == NULL)
        return need_witness(request, err);
    if (clv_witness_by_receipts(request->enclave->witness))
        return clv_fail(err, CLV_WITNESS_NONE,
                        "expected a witness of mode etcd, found receipts: reading a state with an "
                        "init receipt gives its first");
    CLV_TRY(clv_states_adopt(request, &view, err));
    clv_log(CLV_LOG_WARNING, "witness.adopted", request->operation,
            "state %.200s at generation %llu by uid %u", request->full_name,
            (unsigned long long)view.generation, request->agent.uid);
    response->generation = view.generation;
    return clv_response_json(
        response,
        json_pack("{s:s, s:I}", "name", request->name, "generation", (json_int_t)view.generation),
        err);
}

/* Identity, health and metrics: what every local process may see. */
#include <enclave/routes.h>

static json_t *capabilities_json(const clv_policy *policy, const clv_agent *agent)
{
    json_t *all = json_array();
    clv_caller caller = clv_agent_caller(agent);
    for (size_t i = 0; i < policy->agent_count; i++) {
        const clv_policy_agent *row = &policy->agent[i];
        bool is = clv_policy_is_agent(row, &caller);
        for (size_t j = 0; is && j < row->may_count; j++)
            json_array_append_new(all, json_string(row->may[j]));
    }
    return all;
}

/* What was proved is the same for everybody: the caller is put in front of it. */
clv_status clv_route_identity(clv_request *request, clv_response *response, clv_error *err)
{
    const clv_enclave *enclave = request->enclave;
    clv_bytes proved = clv_buf_bytes(&enclave->identity_text);
    clv_auto(clv_json) agent = json_pack("{s:I, s:I, s:o}", "uid", (json_int_t)request->agent.uid,
                                         "gid", (json_int_t)request->agent.gid, "may",
                                         capabilities_json(enclave->policy, &request->agent));
    CLV_TRY(clv_buf_append_text(&response->body, "{\"agent\":", err));
    CLV_TRY(clv_json_append(&response->body, agent, err));
    CLV_TRY(clv_buf_append_text(&response->body, ",", err));
    response->media_type = "application/json";
    return clv_buf_append(&response->body, CLV_BYTES(proved.p + 1, proved.n - 1), err);
}

clv_status clv_route_healthz(clv_request *request, clv_response *response, clv_error *err)
{
    (void)request;
    return clv_response_json(response, json_pack("{s:s}", "status", "alive"), err);
}

clv_status clv_route_readyz(clv_request *request, clv_response *response, clv_error *err)
{
    CLV_TRY(clv_enclave_ready(request->enclave, err));
    return clv_response_json(response, json_pack("{s:s}", "status", "ready"), err);
}

static clv_status values_text(clv_enclave *enclave, clv_buf *out, clv_error *err)
{
    clv_metrics *m = &enclave->metrics;
    clv_gate_metrics gate;
    clv_gate_read_metrics(enclave->gate, &gate);
    bool ready = clv_enclave_ready(enclave, NULL) == CLV_OK;
    clv_kms_health kms;
    clv_kms_read_health(enclave->kms, &kms);
    uint64_t expire = clv_kms_credentials_expire_ms(enclave->kms), checked_ms;
    clv_error baseline;
    clv_review_read(&enclave->review, &checked_ms, &baseline);
    const struct {
        const char *name, *type, *help;
        unsigned long value;
    } row[] = {
        {"claviger_ready", "gauge", "Whether a call to KMS could be made now.", ready},
        {"claviger_baseline_match", "gauge", "Whether the baseline had this image when last seen.",
         baseline.code == CLV_OK},
        {"claviger_credentials_expire_seconds", "gauge",
         "When the credentials expire, in seconds since 1970; 0: never.",
         expire == UINT64_MAX ? 0 : (unsigned long)(expire / 1000)},
        {"claviger_kms_calls_total", "counter", "Requests to KMS.", kms.calls},
        {"claviger_kms_failures_total", "counter", "Requests to KMS that failed.", kms.failures},
        {"claviger_kms_circuit_open", "gauge", "Whether calls to KMS fail at once.",
         kms.open_for_ms > 0},
        {"claviger_states_stored_total", "counter", "States that the parent stored.",
         enclave->services.stored},
        {"claviger_state_conflicts_total", "counter",
         "States that the parent has in another generation.", enclave->services.conflicts},
        {"claviger_connections", "gauge", "Agents' connections that are open.", m->connections},
        {"claviger_connections_turned_away_total", "counter",
         "Connections beyond an agent's share.", m->turned_away},
        {"claviger_denied_total", "counter", "Requests without the capability.", m->denied},
        {"claviger_control_calls_total", "counter", "Calls of the parent.", m->control_calls},
        {"claviger_control_faults_total", "counter", "Calls of the parent answered with a fault.",
         m->control_faults},
        {"claviger_services_calls_total", "counter", "Calls to the parent's services.",
         enclave->services.calls},
        {"claviger_services_failures_total", "counter",
         "Calls to the parent's services that failed.", enclave->services.failures},
        {"claviger_credential_fetches_total", "counter", "Fetches of credentials.",
         m->credential_fetches},
        {"claviger_credential_failures_total", "counter", "Fetches of credentials that failed.",
         m->credential_failures},
        {"claviger_vouchers_total", "counter", "Vouchers made.", gate.vouched},
        {"claviger_vouchers_refused_total", "counter", "Vouchers not made.", gate.refused},
        {"claviger_vouchers_spent_total", "counter", "Vouchers spent.", gate.spent},
        {"claviger_vouchers_expired_total", "counter", "Vouchers expired unused.", gate.expired},
        {"claviger_vouchers_mismatched_total", "counter",
         "Vouchers presented with another operation.", gate.mismatched},
        {"claviger_voucher_keys_pooled_total", "counter", "RSA keys taken from the pool.",
         gate.keys_pooled},
        {"claviger_voucher_keys_made_total", "counter", "RSA keys made while a request waited.",
         gate.keys_made},
        {"claviger_voucher_keys_ready", "gauge", "RSA keys in the pool.", gate.keys_ready},
        {"claviger_vouchers_ahead_taken_total", "counter", "Vouchers given out that were ready.",
         gate.ahead_taken},
        {"claviger_vouchers_ahead_missed_total", "counter", "Vouchers that had to be made.",
         gate.ahead_missed},
        {"claviger_vouchers_ahead_ready", "gauge", "Vouchers that are ready.", gate.ahead_ready},
        {"claviger_clock_backwards_total", "counter", "Attested times that went backwards.",
         gate.clock_backwards},
        {"claviger_clock_jumped_total", "counter", "Attested times that jumped ahead.",
         gate.clock_jumped},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        CLV_TRY(
            clv_metrics_value_text(out, row[i].name, row[i].type, row[i].help, row[i].value, err));
    return CLV_OK;
}

static clv_status witness_text(clv_witness *witness, clv_buf *out, clv_error *err)
{
    if (witness == NULL)
        return CLV_OK;
    const clv_witness_metrics *m = clv_witness_counters(witness);
    const struct {
        const char *name, *help;
        unsigned long value;
    } row[] = {
        {"claviger_witness_reads_total", "Times that the witness was asked.", m->reads},
        {"claviger_witness_commits_total", "Times that something was committed to the witness.",
         m->commits},
        {"claviger_witness_unavailable_total", "… of those, without an answer.", m->unavailable},
        {"claviger_witness_advanced_total",
         "States that were stored and not acknowledged, and were taken over.", m->advanced},
        {"claviger_witness_refused_total",
         "Stores that were older, empty or forked, and receipts that were not ours.", m->refused},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        CLV_TRY(
            clv_metrics_value_text(out, row[i].name, "counter", row[i].help, row[i].value, err));
    return CLV_OK;
}

typedef clv_status (*route_text)(clv_buf *out, const clv_route_metrics *route, const char *method,
                                 const char *path, clv_error *err);

static clv_status family_text(const clv_metrics *metrics, route_text text, clv_buf *out,
                              clv_error *err)
{
    for (size_t i = 0; clv_routes[i].method != NULL; i++) {
        if (clv_routes[i].front == CLV_FRONT_AGENT || clv_metrics_used(&metrics->route[i]))
            CLV_TRY(text(out, &metrics->route[i], clv_routes[i].method, clv_routes[i].path, err));
    }
    return text(out, &metrics->unrouted, "other", "other", err);
}

clv_status clv_route_metrics_text(clv_request *request, clv_response *response, clv_error *err)
{
    const clv_metrics *metrics = &request->enclave->metrics;
    clv_buf *out = &response->body;
    response->media_type = "text/plain; version=0.0.4; charset=utf-8";
    CLV_TRY(clv_metrics_heading(out, "claviger_requests_total", "counter",
                                "Answers by route and class of status.", err));
    CLV_TRY(family_text(metrics, clv_metrics_requests_text, out, err));
    CLV_TRY(clv_metrics_heading(out, "claviger_request_seconds", "histogram",
                                "How long answers took.", err));
    CLV_TRY(family_text(metrics, clv_metrics_seconds_text, out, err));
    CLV_TRY(values_text(request->enclave, out, err));
    return witness_text(request->enclave->witness, out, err);
}

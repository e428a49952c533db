#include <enclave/overview.h>

#include <unistd.h>

#include <enclave/routes.h>

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)(value < INT64_MAX ? value : INT64_MAX));
}

/* Seconds since a monotonic instant. */
static json_t *seconds_since(uint64_t ms)
{
    return integer((clv_monotonic_ms() - ms) / 1000);
}

static json_t *baseline_json(clv_enclave *enclave)
{
    uint64_t checked_ms;
    clv_error found;
    const clv_identity *identity = clv_gate_identity(enclave->gate);
    clv_review_read(&enclave->review, &checked_ms, &found);
    const char *by = identity->debug                          ? "debug"
                     : enclave->policy->release_key_count > 0 ? "baseline"
                                                              : "pins";
    return json_pack("{s:s, s:b, s:s, s:o, s:s*}", "by", by, "match", found.code == CLV_OK,
                     "release", identity->release, "checked_s_ago", seconds_since(checked_ms),
                     "problem", found.code == CLV_OK ? NULL : clv_status_slug(found.code));
}

static json_t *credentials_json(clv_enclave *enclave)
{
    uint64_t now = 0, expire = clv_kms_credentials_expire_ms(enclave->kms);
    bool valid = clv_clock_now(&enclave->clock, &now, NULL) == CLV_OK && expire > now;
    json_t *object = json_pack("{s:b, s:o, s:o}", "valid", valid, "fetches",
                               integer(enclave->metrics.credential_fetches), "failures",
                               integer(enclave->metrics.credential_failures));
    if (expire == 0 || expire == UINT64_MAX)
        return object;
    char text[CLV_TIME_TEXT_SIZE];
    clv_time_text(expire, text);
    json_object_set_new(object, "expires", json_string(text));
    json_object_set_new(object, "expires_in_s", integer(expire > now ? (expire - now) / 1000 : 0));
    return object;
}

static json_t *kms_json(clv_kms *kms)
{
    clv_kms_health h;
    clv_kms_read_health(kms, &h);
    json_t *object =
        json_pack("{s:s, s:o, s:o, s:o}", "circuit", h.open_for_ms > 0 ? "open" : "closed", "calls",
                  integer(h.calls), "failures", integer(h.failures), "failures_in_a_row",
                  integer(h.failures_in_a_row));
    if (h.failed_ms == 0)
        return object;
    json_t *last = json_pack("{s:s, s:i, s:o}", "code", clv_status_slug(h.failure), "http_status",
                             h.http_status, "s_ago", seconds_since(h.failed_ms));
    if (h.type[0] != '\0')
        json_object_set_new(last, "type", json_string(h.type));
    if (h.request_id[0] != '\0')
        json_object_set_new(last, "request_id", json_string(h.request_id));
    json_object_set_new(object, "last_failure", last);
    return object;
}

static json_t *store_json(clv_services *services)
{
    json_t *object =
        json_pack("{s:o, s:o, s:o, s:o, s:o}", "generation", integer(services->stored_generation),
                  "stored", integer(services->stored), "conflicts", integer(services->conflicts),
                  "calls", integer(services->calls), "failures", integer(services->failures));
    if (services->stored_generation > 0)
        json_object_set_new(object, "stored_s_ago", seconds_since(services->stored_at_ms));
    return object;
}

static json_t *requests_json(const clv_metrics *metrics)
{
    uint64_t by_class[6] = {0};
    uint64_t total = 0;
    for (size_t i = 0; i <= CLV_METRIC_ROUTES; i++) {
        const clv_route_metrics *route =
            i < CLV_METRIC_ROUTES ? &metrics->route[i] : &metrics->unrouted;
        for (size_t c = 0; c < 6; c++)
            by_class[c] += route->by_class[c];
    }
    for (size_t c = 0; c < 6; c++)
        total += by_class[c];
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "total", integer(total), "4xx",
                     integer(by_class[4]), "5xx", integer(by_class[5]), "denied",
                     integer(metrics->denied), "connections", integer(metrics->connections));
}

static json_t *gate_json(clv_gate *gate)
{
    clv_gate_metrics m;
    clv_gate_read_metrics(gate, &m);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "vouched", integer(m.vouched), "refused",
                     integer(m.refused), "spent", integer(m.spent), "expired", integer(m.expired),
                     "mismatched", integer(m.mismatched));
}

/* NULL where the policy has none. Who began with it is for those who may ask /v1/witness. */
static json_t *witness_json(clv_witness *witness)
{
    if (witness == NULL)
        return NULL;
    const clv_witness_metrics *m = clv_witness_counters(witness);
    clv_auto(clv_json) stands = clv_witness_status(witness);
    return json_pack("{s:O, s:O, s:O*, s:o, s:o, s:o, s:o}", "mode",
                     json_object_get(stands, "mode"), "ready", json_object_get(stands, "ready"),
                     "code", json_object_get(stands, "code"), "reads", integer(m->reads), "commits",
                     integer(m->commits), "unavailable", integer(m->unavailable), "refused",
                     integer(m->refused));
}

json_t *clv_overview_json(clv_enclave *enclave)
{
    clv_error problem = {.code = CLV_OK};
    bool ready = clv_enclave_ready(enclave, &problem) == CLV_OK;
    const clv_metrics *m = &enclave->metrics;
    return json_pack("{s:s, s:s, s:o, s:o, s:b, s:s*, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:o}, "
                     "s:o*}",
                     "program", "clavigerd", "version", CLV_VERSION, "uptime_s",
                     seconds_since(enclave->started_ms), "identity", clv_identity_json(enclave),
                     "ready", ready, "problem", ready ? NULL : problem.text, "baseline",
                     baseline_json(enclave), "credentials", credentials_json(enclave), "kms",
                     kms_json(enclave->kms), "store", store_json(&enclave->services), "requests",
                     requests_json(m), "vouchers", gate_json(enclave->gate), "control", "calls",
                     integer(m->control_calls), "faults", integer(m->control_faults), "witness",
                     witness_json(enclave->witness));
}

clv_status clv_route_status(clv_request *request, clv_response *response, clv_error *err)
{
    return clv_response_json(response, clv_overview_json(request->enclave), err);
}

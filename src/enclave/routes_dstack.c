/*
 * dstack's calls (github.com/Dstack-TEE/dstack, guest-agent RPC over /var/run/dstack.sock), so that
 * its SDKs run unchanged: POST with a JSON object, hex values, and on an error a member "error".
 *
 * Keys are ours: purpose and algorithm change them, and they live below the path "dstack/", so that
 * the capability is derive:KEY/dstack/… . signature_chain is empty: dstack's chain proves a dstack
 * KMS, while here GetQuote gives this enclave's attestation document.
 */
#include <enclave/keys.h>
#include <enclave/routes.h>

/* A path or purpose of theirs with our prefix; the derivation bounds the whole. */
#define PREFIXED_MAX 512

static const struct {
    const char *theirs;
    clv_derive_algorithm ours;
} algorithm_table[] = {
    {"", CLV_DERIVE_SECP256K1},
    {"secp256k1", CLV_DERIVE_SECP256K1},
    {"secp256k1_prehashed", CLV_DERIVE_SECP256K1},
    {"k256", CLV_DERIVE_SECP256K1},
    {"ed25519", CLV_DERIVE_ED25519},
};

static clv_status read_algorithm(const char *name, clv_derive_algorithm *out, clv_error *err)
{
    for (size_t i = 0; i < sizeof algorithm_table / sizeof algorithm_table[0]; i++) {
        if (strcmp(algorithm_table[i].theirs, name) == 0) {
            *out = algorithm_table[i].ours;
            return CLV_OK;
        }
    }
    return clv_fail(err, CLV_DERIVE_INVALID,
                    "algorithm: expected secp256k1 or ed25519, found \"%.40s\"", name);
}

/* A text that may be left out. */
static clv_status read_text(clv_json_reader *r, const char *name, const char **out, clv_error *err)
{
    CLV_TRY(clv_json_text(r, name, out, err));
    if (*out == NULL)
        *out = "";
    return CLV_OK;
}

clv_status clv_route_dstack_key(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_auto(clv_json) answer = NULL;
    clv_json_reader r;
    const char *path, *purpose, *algorithm;
    char our_path[PREFIXED_MAX], our_purpose[PREFIXED_MAX];
    clv_key_ask ask = {.verb = "derive"};
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(read_text(&r, "path", &path, err));
    CLV_TRY(read_text(&r, "purpose", &purpose, err));
    CLV_TRY(read_text(&r, "algorithm", &algorithm, err));
    CLV_TRY(clv_json_done(&r, err));
    CLV_TRY(read_algorithm(algorithm, &ask.derivation.algorithm, err));
    snprintf(our_path, sizeof our_path, "dstack/%s", path);
    snprintf(our_purpose, sizeof our_purpose, "dstack:%s", purpose);
    ask.derivation.path = our_path;
    ask.derivation.purpose = our_purpose;
    CLV_TRY(clv_derivation_check(&ask.derivation, err));
    CLV_TRY(clv_keys_answer(request, &ask, &answer, err));
    return clv_response_json(
        response,
        json_pack("{s:O, s:[]}", "key", json_object_get(answer, "key"), "signature_chain"), err);
}

clv_status clv_route_dstack_quote(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_auto(clv_buf) data = CLV_BUF_INIT;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    clv_json_reader r;
    const char *report_data = NULL;
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_text(&r, "report_data", &report_data, err));
    CLV_TRY(clv_json_done(&r, err));
    clv_status status = clv_hex_decode(clv_bytes_of(report_data), &data, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "report_data");
    if (data.n > CLV_REPORT_DATA_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "report_data: expected at most %d bytes, found %zu",
                        CLV_REPORT_DATA_MAX, data.n);
    CLV_TRY(clv_gate_attest(request->enclave->gate, (clv_optional){false},
                            (clv_optional){true, clv_buf_bytes(&data)}, &document, err));
    CLV_TRY(clv_hex_append(&hex, clv_buf_bytes(&document), err));
    return clv_response_json(response,
                             json_pack("{s:s%, s:s, s:s, s:s}", "quote", hex.p, hex.n, "event_log",
                                       "[]", "report_data", report_data, "vm_config", ""),
                             err);
}

/* Their measurements by ours: MRTD is the image (PCR0), the RTMRs are what follows it. */
static json_t *tcb_info_json(const json_t *identity)
{
    static const struct {
        const char *theirs, *pcr;
    } row[] = {{"mrtd", "0"}, {"rtmr0", "1"}, {"rtmr1", "2"}, {"rtmr2", "8"}, {"rtmr3", "16"}};
    const json_t *pcrs = json_object_get(identity, "pcrs");
    json_t *tcb = json_pack("{s:s, s:[]}", "app_compose", "", "event_log");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const char *value = json_string_value(json_object_get(pcrs, row[i].pcr));
        json_object_set_new(tcb, row[i].theirs, json_string(value != NULL ? value : ""));
    }
    return tcb;
}

clv_status clv_route_dstack_info(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) identity = clv_identity_json(request->enclave);
    clv_auto(clv_json) tcb = tcb_info_json(identity);
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_json_append(&text, tcb, err));
    const json_t *policy = json_object_get(identity, "policy_sha384");
    json_t *answer =
        json_pack("{s:O, s:O, s:O, s:s, s:s%, s:s, s:s, s:O}", "app_id", policy, "instance_id",
                  json_object_get(identity, "module_id"), "app_name",
                  json_object_get(identity, "enclave"), "app_cert", "", "tcb_info", text.p, text.n,
                  "device_id", "", "key_provider_info", "", "compose_hash", policy);
    return clv_response_json(response, answer, err);
}

clv_status clv_route_dstack_version(clv_request *request, clv_response *response, clv_error *err)
{
    (void)request;
    /* The RPC version whose calls these are: SDKs ask before they send an algorithm. */
    return clv_response_json(response,
                             json_pack("{s:s, s:s}", "version", "0.5.8", "rev", "claviger"), err);
}

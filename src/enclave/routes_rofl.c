/*
 * Oasis ROFL's key call (docs.oasis.io, "ROFL appd REST API": /run/rofl-appd.sock), so that its
 * clients run unchanged. Keys live below the path "rofl/": the capability is derive:KEY/rofl/… .
 */
#include <enclave/keys.h>
#include <enclave/routes.h>

#define PATH_MAX_BYTES 512

static const struct {
    const char *kind;
    clv_derive_algorithm algorithm;
    uint32_t length;
} kind_table[] = {
    {"raw-256", CLV_DERIVE_RAW, 32},
    {"raw-384", CLV_DERIVE_RAW, 48},
    {"ed25519", CLV_DERIVE_ED25519, 32},
    {"secp256k1", CLV_DERIVE_SECP256K1, 32},
};

static clv_status read_kind(const char *kind, clv_derivation *out, clv_error *err)
{
    for (size_t i = 0; i < sizeof kind_table / sizeof kind_table[0]; i++) {
        if (strcmp(kind_table[i].kind, kind) == 0) {
            out->algorithm = kind_table[i].algorithm;
            out->length = kind_table[i].length;
            return CLV_OK;
        }
    }
    return clv_fail(err, CLV_DERIVE_INVALID,
                    "kind: expected raw-256, raw-384, ed25519 or secp256k1, found \"%.40s\"", kind);
}

clv_status clv_route_rofl_key(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) body = NULL;
    clv_auto(clv_json) answer = NULL;
    clv_json_reader r;
    const char *id = NULL, *kind = NULL;
    char path[PATH_MAX_BYTES];
    clv_key_ask ask = {.verb = "derive", .derivation = {.purpose = "rofl"}};
    CLV_TRY(clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body, err));
    CLV_TRY(clv_json_open(&r, body, "", err));
    CLV_TRY(clv_json_need_text(&r, "key_id", &id, err));
    CLV_TRY(clv_json_need_text(&r, "kind", &kind, err));
    CLV_TRY(clv_json_done(&r, err));
    CLV_TRY(read_kind(kind, &ask.derivation, err));
    snprintf(path, sizeof path, "rofl/%s", id);
    ask.derivation.path = path;
    CLV_TRY(clv_derivation_check(&ask.derivation, err));
    CLV_TRY(clv_keys_answer(request, &ask, &answer, err));
    return clv_response_json(response, json_pack("{s:O}", "key", json_object_get(answer, "key")),
                             err);
}

/* /v1/keys: derived keys, and what can be done with ones that the agent never reads (R15). */
#include <enclave/keys.h>
#include <enclave/routes.h>

/* A request's body, and what the ask that is read from it points into. */
typedef struct key_body {
    clv_key_ask ask;
    clv_json json;
    clv_buf message;
} key_body;

static void key_body_drop(key_body *body)
{
    clv_json_drop(&body->json);
    clv_buf_drop(&body->message);
}

/* sign takes a message or a digest, hmac a message; the others neither. */
static clv_status read_message(clv_json_reader *r, key_body *body, clv_error *err)
{
    const char *verb = body->ask.verb;
    const char *message = NULL, *digest = NULL;
    bool signs = strcmp(verb, "sign") == 0;
    if (!signs && strcmp(verb, "hmac") != 0)
        return CLV_OK;
    CLV_TRY(clv_json_text(r, "message", &message, err));
    if (signs)
        CLV_TRY(clv_json_text(r, "digest", &digest, err));
    if ((message == NULL) == (digest == NULL))
        return clv_fail(err, CLV_JSON_MISSING, "expected %s, found %s",
                        signs ? "either message or digest" : "a message",
                        message == NULL ? "nothing" : "both");
    body->ask.is_digest = digest != NULL;
    const char *member = body->ask.is_digest ? "digest" : "message";
    clv_status status = body->ask.is_digest
                            ? clv_hex_decode(clv_bytes_of(digest), &body->message, err)
                            : clv_base64_decode(clv_bytes_of(message), &body->message, err);
    body->ask.message = clv_buf_bytes(&body->message);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", member);
}

static clv_status read_body(const clv_request *request, key_body *body, clv_error *err)
{
    clv_json_reader r;
    const char *algorithm = NULL;
    int64_t length = 0;
    CLV_TRY(
        clv_json_parse(clv_buf_bytes(&request->body), request->route->body_max, &body->json, err));
    CLV_TRY(clv_json_open(&r, body->json, "", err));
    CLV_TRY(clv_json_need_text(&r, "path", &body->ask.derivation.path, err));
    CLV_TRY(clv_json_need_text(&r, "purpose", &body->ask.derivation.purpose, err));
    CLV_TRY(clv_json_need_text(&r, "algorithm", &algorithm, err));
    CLV_TRY(clv_json_integer(&r, "length", 1, CLV_DERIVE_MAX, &length, err));
    CLV_TRY(clv_json_text(&r, "root_id", &body->ask.root_id, err));
    CLV_TRY(read_message(&r, body, err));
    CLV_TRY(clv_json_done(&r, err));
    body->ask.derivation.length = (uint32_t)length;
    CLV_TRY(clv_derive_algorithm_of(algorithm, &body->ask.derivation.algorithm, err));
    return clv_derivation_check(&body->ask.derivation, err);
}

clv_status clv_route_keys(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(key_body) body = {.ask = {.verb = request->route->verb_in_body}};
    json_t *answer = NULL;
    CLV_TRY(read_body(request, &body, err));
    CLV_TRY(clv_keys_answer(request, &body.ask, &answer, err));
    return clv_response_json(response, answer, err);
}

#include <enclave/problem.h>

#include <base/json.h>

/* The answer to a code that has no line of its own below. */
static const unsigned status_of_class[] = {
    [CLV_EXIT_OK] = 200,      [CLV_EXIT_INTERNAL] = 500,  [CLV_EXIT_USAGE] = 400,
    [CLV_EXIT_INPUT] = 400,   [CLV_EXIT_SIGNATURE] = 422, [CLV_EXIT_IDENTITY] = 503,
    [CLV_EXIT_TIME] = 503,    [CLV_EXIT_REFUSED] = 403,   [CLV_EXIT_KMS] = 502,
    [CLV_EXIT_NETWORK] = 503, [CLV_EXIT_STATE] = 503,
};

/* Codes from first to last of error_codes.def, the first line that fits. */
static const struct {
    clv_status first, last;
    unsigned http;
} exception[] = {
    {CLV_TOO_LARGE, CLV_TOO_LARGE, 413},
    {CLV_DEADLINE, CLV_DEADLINE, 504},
    /* The enclave's own documents, NSM and vouchers: no fault of the agent's. */
    {CLV_ATT_SIZE, CLV_BASELINE_NO_MATCH, 503},
    {CLV_NSM_OPEN, CLV_NSM_INTERNAL_ERROR, 503},
    {CLV_GATE_STALE, CLV_VOUCHER_MISMATCH, 503},
    {CLV_POLICY_NO_KEY, CLV_POLICY_NO_KEY, 404},
    {CLV_KMS_TIMEOUT, CLV_KMS_TIMEOUT, 504},
    {CLV_KMS_CIRCUIT, CLV_KMS_CIRCUIT, 503},
    {CLV_KMS_INVALID_CIPHERTEXT, CLV_KMS_INCORRECT_KEY, 422},
    {CLV_KMS_THROTTLING, CLV_KMS_THROTTLING, 503},
    {CLV_KMS_SERVICE_UNAVAILABLE, CLV_KMS_SERVICE_UNAVAILABLE, 503},
    {CLV_SEAL_FORMAT, CLV_SEAL_TRAILING, 422},
    {CLV_FRAME_FORMAT, CLV_FRAME_TYPE, 502},
    {CLV_STATE_NOT_FOUND, CLV_STATE_NOT_FOUND, 404},
    {CLV_STATE_CONFLICT, CLV_STATE_CONFLICT, 409},
    {CLV_STATE_NAME, CLV_STATE_NAME, 400},
    {CLV_ROOT_CHANGED, CLV_ROOT_CHANGED, 409},
    {CLV_WITNESS_NONE, CLV_WITNESS_NONE, 404},
    {CLV_WITNESS_INITIALISED, CLV_WITNESS_INITIALISED, 409},
    {CLV_WITNESS_RECEIPT, CLV_WITNESS_RECEIPT, 428},
    {CLV_WITNESS_ROLLBACK, CLV_WITNESS_FORK, 422},
    {CLV_API_ROUTE, CLV_API_ROUTE, 404},
    {CLV_API_METHOD, CLV_API_METHOD, 405},
    {CLV_API_PRECONDITION, CLV_API_PRECONDITION, 412},
    {CLV_API_MEDIA_TYPE, CLV_API_MEDIA_TYPE, 415},
    {CLV_AGENT_BUSY, CLV_AGENT_RATE, 429},
};

unsigned clv_http_status(clv_status status)
{
    for (size_t i = 0; i < sizeof exception / sizeof exception[0]; i++) {
        if (status >= exception[i].first && status <= exception[i].last)
            return exception[i].http;
    }
    return status_of_class[clv_status_exit(status)];
}

/* Sentences of the form "[place: ]expected E, found F" also give E and F as members. */
static void add_expectation(json_t *problem, const char *sentence)
{
    const char *expected = strstr(sentence, "expected ");
    const char *found = expected != NULL ? strstr(expected, ", found ") : NULL;
    if (found == NULL)
        return;
    expected += strlen("expected ");
    json_object_set_new(problem, "expected", json_stringn(expected, (size_t)(found - expected)));
    json_object_set_new(problem, "found", json_string(found + strlen(", found ")));
}

clv_status clv_problem_append(clv_buf *out, unsigned status, const clv_error *problem,
                              const char *operation, bool error_member, clv_error *err)
{
    const char *slug = clv_status_slug(problem->code);
    clv_auto(clv_buf) type = CLV_BUF_INIT;
    const char *type_text = NULL;
    CLV_TRY(clv_buf_printf(&type, err, "urn:claviger:problem:%s", slug));
    CLV_TRY(clv_buf_text(&type, &type_text, err));
    /* A sentence may quote what came in: bytes that are not UTF-8 are left out of the document. */
    bool utf8 = clv_utf8_valid(clv_bytes_of(problem->text));
    const char *detail = utf8 ? problem->text : clv_status_text(problem->code);
    clv_auto(clv_json) json =
        json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", type_text, "title",
                  clv_status_text(problem->code), "status", (int)status, "code", slug, "detail",
                  detail, "operation", operation);
    if (json == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a problem document");
    add_expectation(json, detail);
    if (error_member)
        json_object_set_new(json, "error", json_string(detail));
    return clv_json_append(out, json, err);
}

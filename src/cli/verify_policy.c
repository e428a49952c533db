#include <cli/verify_policy.h>

#include <stdlib.h>

#include <base/file.h>

clv_status clv_verify_policy_read(const char *path, clv_policy **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, CLV_POLICY_MAX, &text, err));
    clv_status status = clv_policy_parse(clv_buf_bytes(&text), out, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

static clv_status check_pcr16(const clv_policy *policy, const clv_document *document,
                              clv_error *err)
{
    clv_pcrs expected = {.present = UINT32_C(1) << CLV_POLICY_PCR};
    memcpy(expected.value[CLV_POLICY_PCR], policy->pcr16, CLV_PCR_SIZE);
    clv_status status = clv_pcrs_match(&document->pcrs, &expected, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "the policy's measurement");
}

static clv_status check_baseline(const clv_policy *policy, const char *path,
                                 const clv_document *document, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_buf) name = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    const char *signature_path;
    const clv_release *release;
    CLV_TRY(clv_file_read(path, CLV_BASELINE_MAX, &text, err));
    CLV_TRY(clv_buf_printf(&name, err, "%s.minisig", path));
    CLV_TRY(clv_buf_text(&name, &signature_path, err));
    CLV_TRY(clv_file_read(signature_path, CLV_BASELINE_MAX, &signature, err));

    clv_baseline *baseline = calloc(1, sizeof *baseline);
    if (baseline == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "a baseline cannot be held");
    clv_status status =
        clv_baseline_open(clv_buf_bytes(&text), clv_buf_bytes(&signature), policy->release_key,
                          policy->release_key_count, baseline, err);
    if (status == CLV_OK)
        status =
            clv_baseline_match(baseline, &document->pcrs, document->timestamp_ms, &release, err);
    free(baseline);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

clv_status clv_verify_policy_check(const clv_policy *policy, const char *baseline,
                                   const clv_document *document, clv_error *err)
{
    if (clv_pcrs_debug(&document->pcrs) && !policy->allow_debug)
        return clv_fail(err, CLV_ATT_DEBUG,
                        "expected a measured image, found debug mode, which the policy forbids");
    CLV_TRY(check_pcr16(policy, document, err));
    if (policy->pins.present != 0)
        CLV_TRY(clv_pcrs_match(&document->pcrs, &policy->pins, err));
    return baseline != NULL ? check_baseline(policy, baseline, document, err) : CLV_OK;
}

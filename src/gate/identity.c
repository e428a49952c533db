/* Which enclave this is: the registers of a verified document against policy and baseline. */
#include <gate/gate.h>

#include <stdlib.h>

#include <base/log.h>

static clv_status check_debug(const clv_document *document, const clv_policy *policy,
                              clv_error *err)
{
    if (!clv_pcrs_debug(&document->pcrs))
        return CLV_OK;
    if (!policy->allow_debug)
        return clv_fail(err, CLV_ATT_DEBUG,
                        "expected PCR0 to measure an image, found zeros: debug mode, which the "
                        "policy does not allow");
    clv_log(CLV_LOG_WARNING, "boot.debug", NULL,
            "this enclave runs in debug mode: its memory and console are open to the parent");
    return CLV_OK;
}

/* The policy in force must be the one that was measured. */
static clv_status check_policy_register(const clv_document *document, const clv_policy *policy,
                                        clv_error *err)
{
    clv_pcrs expected = {.present = UINT32_C(1) << CLV_POLICY_PCR};
    memcpy(expected.value[CLV_POLICY_PCR], policy->pcr16, CLV_PCR_SIZE);
    clv_status status = clv_pcrs_match(&document->pcrs, &expected, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "the policy's register");
}

/* Debug mode zeroes the signer's register too (nitro-cli --debug-mode): where the policy allows
 * that mode, the pin on it says nothing. */
static clv_status check_pins(const clv_document *document, const clv_policy *policy, clv_error *err)
{
    clv_pcrs pins = policy->pins;
    if (clv_pcrs_debug(&document->pcrs))
        pins.present &= ~(UINT32_C(1) << CLV_SIGNER_PCR);
    if (pins.present == 0)
        return CLV_OK;
    clv_status status = clv_pcrs_match(&document->pcrs, &pins, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "attestation.pcrs");
}

/* Debug documents have no image to match; the policy that allows them says so in its measurement.
 */
static clv_status check_baseline(const clv_document *document, const clv_policy *policy,
                                 clv_bytes text, clv_bytes signature, clv_identity *out,
                                 clv_error *err)
{
    if (policy->release_key_count == 0 || out->debug)
        return CLV_OK;
    if (text.n == 0)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "the policy has release keys: expected a signed baseline, found none");
    clv_baseline *baseline = calloc(1, sizeof *baseline);
    if (baseline == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a baseline");
    const clv_release *release;
    clv_status status = clv_baseline_open(text, signature, policy->release_key,
                                          policy->release_key_count, baseline, err);
    if (status == CLV_OK)
        status =
            clv_baseline_match(baseline, &document->pcrs, document->timestamp_ms, &release, err);
    if (status == CLV_OK)
        memcpy(out->release, release->name, sizeof out->release);
    free(baseline);
    return status;
}

clv_status clv_identity_establish(const clv_document *document, const clv_policy *policy,
                                  clv_bytes baseline, clv_bytes baseline_signature,
                                  clv_identity *out, clv_error *err)
{
    *out = (clv_identity){.pcrs = document->pcrs, .debug = clv_pcrs_debug(&document->pcrs)};
    if (document->module_id.n > CLV_MODULE_ID_MAX)
        return clv_fail(err, CLV_ATT_FIELD_LENGTH,
                        "module_id: expected at most %d bytes, found %zu", CLV_MODULE_ID_MAX,
                        document->module_id.n);
    memcpy(out->module_id, document->module_id.p, document->module_id.n);
    CLV_TRY(check_debug(document, policy, err));
    CLV_TRY(check_policy_register(document, policy, err));
    CLV_TRY(check_pins(document, policy, err));
    return check_baseline(document, policy, baseline, baseline_signature, out, err);
}

clv_status clv_identity_require(const clv_identity *identity, const clv_document *document,
                                clv_error *err)
{
    const clv_pcrs *now = &document->pcrs, *then = &identity->pcrs;
    if (now->present != then->present || memcmp(now->value, then->value, sizeof now->value) != 0)
        return clv_fail(err, CLV_GATE_IDENTITY,
                        "expected the registers that this enclave started with, found others");
    if (!clv_bytes_equal(document->module_id, clv_bytes_of(identity->module_id)))
        return clv_fail(err, CLV_GATE_IDENTITY, "expected module %s, found another",
                        identity->module_id);
    return CLV_OK;
}

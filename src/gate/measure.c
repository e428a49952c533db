/* Measured boot (R6): the policy's bytes become a register that every document shows. */
#include <claviger/gate.h>

#include <base/crypto.h>
#include <base/file.h>

/* A register that somebody touched before us would make the measurement mean something else. */
static clv_status require_untouched(clv_nsm *nsm, uint16_t index, clv_error *err)
{
    clv_nsm_pcr pcr;
    CLV_TRY(clv_nsm_describe_pcr(nsm, index, &pcr, err));
    if (pcr.locked)
        return clv_fail(err, CLV_POLICY_PCR_STATE,
                        "PCR%u: expected it unlocked at start, found it locked", index);
    if (!clv_bytes_all_zero(CLV_BYTES(pcr.value, sizeof pcr.value)))
        return clv_fail(err, CLV_POLICY_PCR_STATE,
                        "PCR%u: expected it zero at start, found it extended", index);
    return CLV_OK;
}

/* Extend with a digest, and see that the module did exactly that: SHA-384(zeros || digest). */
static clv_status extend(clv_nsm *nsm, uint16_t index, const uint8_t digest[CLV_SHA384_SIZE],
                         clv_error *err)
{
    uint8_t found[CLV_PCR_SIZE], expected[CLV_PCR_SIZE], input[2 * CLV_PCR_SIZE] = {0};
    memcpy(input + CLV_PCR_SIZE, digest, CLV_SHA384_SIZE);
    CLV_TRY(clv_sha384(CLV_BYTES(input, sizeof input), expected, err));
    CLV_TRY(clv_nsm_extend_pcr(nsm, index, CLV_BYTES(digest, CLV_SHA384_SIZE), found, err));
    if (memcmp(found, expected, sizeof expected) != 0)
        return clv_fail(err, CLV_POLICY_PCR_STATE,
                        "PCR%u: expected what was measured into it, found another value", index);
    return CLV_OK;
}

static clv_status extend_with_file(clv_nsm *nsm, uint16_t index, const char *path, clv_error *err)
{
    clv_auto(clv_buf) content = CLV_BUF_INIT;
    uint8_t digest[CLV_SHA384_SIZE];
    clv_status status = clv_file_read(path, CLV_MEASURED_FILE_MAX, &content, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "measure.%u", index);
    CLV_TRY(clv_sha384(clv_buf_bytes(&content), digest, err));
    return extend(nsm, index, digest, err);
}

/* Only locked registers appear in documents; and what is locked now, no agent can extend. */
static clv_status lock_all(clv_nsm *nsm, clv_error *err)
{
    clv_nsm_pcr pcr;
    CLV_TRY(clv_nsm_lock_pcrs(nsm, CLV_PCR_COUNT, err));
    for (uint16_t i = CLV_POLICY_PCR; i < CLV_PCR_COUNT; i++) {
        CLV_TRY(clv_nsm_describe_pcr(nsm, i, &pcr, err));
        if (!pcr.locked)
            return clv_fail(err, CLV_POLICY_PCR_STATE,
                            "PCR%u: expected it locked by now, found it open", i);
    }
    return CLV_OK;
}

clv_status clv_gate_measure(clv_nsm *nsm, const clv_policy *policy, clv_error *err)
{
    for (uint16_t i = CLV_POLICY_PCR; i < CLV_PCR_COUNT; i++)
        CLV_TRY(require_untouched(nsm, i, err));
    CLV_TRY(extend(nsm, CLV_POLICY_PCR, policy->digest, err));
    for (uint16_t i = CLV_POLICY_PCR + 1; i < CLV_PCR_COUNT; i++) {
        if (policy->measured[i] != NULL)
            CLV_TRY(extend_with_file(nsm, i, policy->measured[i], err));
    }
    return lock_all(nsm, err);
}

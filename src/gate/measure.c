/* Measured boot (R6): the policy's bytes become a register that every document shows. */
#include <claviger/gate.h>

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

clv_status clv_gate_measure(clv_nsm *nsm, const clv_policy *policy, clv_error *err)
{
    for (uint16_t i = CLV_POLICY_PCR; i < CLV_PCR_COUNT; i++)
        CLV_TRY(require_untouched(nsm, i, err));

    uint8_t value[CLV_PCR_SIZE];
    clv_bytes digest = CLV_BYTES(policy->digest, sizeof policy->digest);
    CLV_TRY(clv_nsm_extend_pcr(nsm, CLV_POLICY_PCR, digest, value, err));
    if (!clv_bytes_equal(CLV_BYTES(value, sizeof value),
                         CLV_BYTES(policy->pcr16, sizeof policy->pcr16)))
        return clv_fail(err, CLV_POLICY_PCR_STATE,
                        "PCR%u: expected the policy's measurement, found another", CLV_POLICY_PCR);
    /* Only locked registers appear in documents; and what is locked now, no agent can extend. */
    return clv_nsm_lock_pcrs(nsm, CLV_PCR_COUNT, err);
}

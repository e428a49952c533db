/* Validate yourself first: one document asked for, and verified before anything is made of it. */
#include <gate/gate.h>

#include <inttypes.h>

void clv_proof_drop(clv_proof *proof)
{
    clv_buf_drop(&proof->bytes);
    *proof = (clv_proof)CLV_PROOF_INIT;
}

static clv_status check_freshness(const clv_proof *proof, const clv_policy *policy, clv_error *err)
{
    uint64_t limit = (uint64_t)policy->max_document_age_s * 1000;
    uint64_t took = proof->arrived_ms - proof->asked_ms;
    if (took > limit)
        return clv_fail(err, CLV_GATE_STALE,
                        "expected the document within %" PRIu64 " ms, it took %" PRIu64 " ms",
                        limit, took);
    return CLV_OK;
}

clv_status clv_proof_obtain(clv_nsm *nsm, const clv_policy *policy, const clv_binding *ask,
                            clv_proof *out, clv_error *err)
{
    out->asked_ms = clv_monotonic_ms();
    CLV_TRY(clv_nsm_attest(nsm, ask, &out->bytes, err));
    out->arrived_ms = clv_monotonic_ms();
    CLV_TRY(check_freshness(out, policy, err));

    clv_verify_options options;
    clv_verify_options_init(&options);
    memcpy(options.root_sha256, policy->root_sha256, sizeof options.root_sha256);
    CLV_TRY(clv_document_verify(clv_buf_bytes(&out->bytes), &options, &out->document, err));
    return clv_document_match_binding(&out->document, ask, err);
}

clv_status clv_proof_of_self(clv_gate *gate, const clv_binding *ask, clv_proof *out, clv_error *err)
{
    CLV_TRY(clv_proof_obtain(gate->nsm, gate->policy, ask, out, err));
    CLV_TRY(clv_identity_require(&gate->identity, &out->document, err));
    return clv_clock_advance(gate->clock, out->document.timestamp_ms, out->arrived_ms, err);
}

/* Between the files of this room. */
#ifndef CLV_GATE_GATE_H
#define CLV_GATE_GATE_H

#include <stdatomic.h>

#include <base/clock.h>
#include <claviger/gate.h>
#include <gate/ahead.h>

/* Bytes of a nonce: AWS asks for it to be random; 32 cannot be met twice by chance. */
#define CLV_NONCE_SIZE 32

typedef struct clv_gate_counters {
    _Atomic uint64_t vouched, refused, spent, expired, mismatched;
    _Atomic uint64_t keys_pooled, keys_made, ahead_taken, ahead_missed;
} clv_gate_counters;

struct clv_gate {
    clv_nsm *nsm;
    const clv_policy *policy;
    clv_clock *clock;
    clv_identity identity; /* what was proved at start; constant afterwards */
    clv_gate_counters counters;
    clv_ahead ahead;
};

/* Whether less than half of the time is left in which a voucher can be spent. */
bool clv_voucher_half_spent(const clv_voucher *voucher);

/* A document that was just obtained and verified; its views point into bytes. */
typedef struct clv_proof {
    clv_buf bytes;
    clv_document document;
    uint64_t asked_ms, arrived_ms; /* by the monotonic clock */
} clv_proof;
#define CLV_PROOF_INIT          \
    {                           \
        CLV_BUF_INIT, {0}, 0, 0 \
    }
void clv_proof_drop(clv_proof *proof);

/*
 * Ask the NSM for a document with these members and verify it: signature, chain, root, times,
 * kind, freshness, and that it carries exactly what was asked.
 */
CLV_NODISCARD clv_status clv_proof_obtain(clv_nsm *nsm, const clv_policy *policy,
                                          const clv_binding *ask, clv_proof *out, clv_error *err);

/*
 * The same, and that it is of the very enclave that the gate identified at start. Only then does
 * the attested clock take its time.
 */
CLV_NODISCARD clv_status clv_proof_of_self(clv_gate *gate, const clv_binding *ask, clv_proof *out,
                                           clv_error *err);

/* The PCRs of a verified document against debug rule, PCR16, pins and baseline. */
CLV_NODISCARD clv_status clv_identity_establish(const clv_document *document,
                                                const clv_policy *policy, clv_bytes baseline,
                                                clv_bytes baseline_signature, clv_identity *out,
                                                clv_error *err);

/* That a later document is of the very enclave that was identified: CLV_GATE_IDENTITY. */
CLV_NODISCARD clv_status clv_identity_require(const clv_identity *identity,
                                              const clv_document *document, clv_error *err);

#endif

/*
 * The voucher: a verified document, the private key it attests, and the one operation that it is
 * good for. This file alone knows the struct; nothing else can make one.
 */
#include <gate/gate.h>

#include <inttypes.h>
#include <stdlib.h>

#include <sodium.h>

#include <base/crypto.h>

struct clv_voucher {
    clv_gate_counters *counters;
    clv_buf document;
    EVP_PKEY *key;
    uint8_t operation[CLV_OPERATION_DIGEST_SIZE]; /* what was vouched for */
    uint64_t attested_ms;                         /* the document's timestamp */
    uint64_t arrived_ms;                          /* by the monotonic clock */
    uint64_t asked_ms, life_ms;                   /* spendable this long after it was asked for */
    atomic_flag taken;                            /* set by the first spend, never cleared */
    bool spendable;                               /* that first spend held */
};

void clv_voucher_free(clv_voucher **voucher)
{
    if (*voucher == NULL)
        return;
    clv_buf_drop(&(*voucher)->document);
    EVP_PKEY_free((*voucher)->key); /* its numbers are in OpenSSL's secure heap and wiped */
    free(*voucher);
    *voucher = NULL;
}

clv_voucher *clv_voucher_move(clv_voucher **from)
{
    return __atomic_exchange_n(from, NULL, __ATOMIC_ACQ_REL);
}

static clv_status take_key(clv_gate *gate, clv_voucher *voucher, clv_buf *spki, clv_error *err)
{
    bool pooled;
    CLV_TRY(clv_key_take(&gate->ahead, &pooled, &voucher->key, err));
    *(pooled ? &gate->counters.keys_pooled : &gate->counters.keys_made) += 1;
    return clv_spki_append(spki, voucher->key, err);
}

/* Everything a document must hold for this operation, asked for and verified. */
static clv_status prove(clv_gate *gate, clv_voucher *voucher, clv_error *err)
{
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    uint8_t nonce[CLV_NONCE_SIZE];
    CLV_TRY(take_key(gate, voucher, &spki, err));
    randombytes_buf(nonce, sizeof nonce);
    clv_binding ask = {
        .public_key = {true, clv_buf_bytes(&spki)},
        .user_data = {true, CLV_BYTES(voucher->operation, sizeof voucher->operation)},
        .nonce = {true, CLV_BYTES(nonce, sizeof nonce)},
    };
    clv_auto(clv_proof) proof = CLV_PROOF_INIT;
    CLV_TRY(clv_proof_of_self(gate, &ask, &proof, err));
    voucher->attested_ms = proof.document.timestamp_ms;
    voucher->arrived_ms = proof.arrived_ms;
    voucher->asked_ms = proof.asked_ms;
    return clv_buf_append(&voucher->document, clv_buf_bytes(&proof.bytes), err);
}

static uint64_t life_of(const clv_policy *policy)
{
    uint64_t limit = (uint64_t)policy->max_document_age_s * 1000;
    return limit < CLV_VOUCHER_MAX_AGE_MS ? limit : CLV_VOUCHER_MAX_AGE_MS;
}

/* The one place where a voucher comes into being. */
static clv_status make(clv_gate *gate, const clv_operation *operation, clv_voucher **out,
                       clv_error *err)
{
    clv_auto_ptr(clv_voucher) voucher = calloc(1, sizeof *voucher);
    if (voucher == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a voucher");
    voucher->counters = &gate->counters;
    voucher->life_ms = life_of(gate->policy);
    atomic_flag_clear(&voucher->taken);
    clv_status status = clv_operation_digest(operation, voucher->operation, err);
    if (status == CLV_OK)
        status = prove(gate, voucher, err);
    if (status != CLV_OK) {
        gate->counters.refused++;
        return status;
    }
    gate->counters.vouched++;
    *out = voucher;
    voucher = NULL;
    return CLV_OK;
}

clv_status clv_gate_prepare(clv_gate *gate, const clv_operation *operation, clv_error *err)
{
    uint8_t id[CLV_AHEAD_ID_SIZE];
    clv_auto_ptr(clv_voucher) voucher = NULL;
    CLV_TRY(clv_cache_id(&gate->identity, operation, id, err));
    CLV_TRY(make(gate, operation, &voucher, err));
    clv_cache_put(&gate->ahead, id, &voucher);
    return CLV_OK;
}

clv_status clv_gate_vouch(clv_gate *gate, const clv_operation *operation, clv_voucher **out,
                          clv_error *err)
{
    uint8_t id[CLV_AHEAD_ID_SIZE];
    clv_status status = clv_cache_id(&gate->identity, operation, id, err);
    if (status != CLV_OK) {
        gate->counters.refused++;
        return status;
    }
    clv_voucher *ahead = clv_cache_take(&gate->ahead, id);
    clv_ahead_note(gate, id, operation);
    if (ahead == NULL) {
        gate->counters.ahead_missed++;
        return make(gate, operation, out, err);
    }
    gate->counters.ahead_taken++;
    *out = ahead;
    return CLV_OK;
}

static uint64_t age_of(const clv_voucher *voucher)
{
    return clv_monotonic_ms() - voucher->asked_ms;
}

bool clv_voucher_half_spent(const clv_voucher *voucher)
{
    return age_of(voucher) > voucher->life_ms / 2;
}

static clv_status check_spend(clv_voucher *voucher, const clv_operation *operation, clv_error *err)
{
    uint8_t digest[CLV_OPERATION_DIGEST_SIZE];
    if (age_of(voucher) > voucher->life_ms) {
        voucher->counters->expired++;
        return clv_fail(err, CLV_VOUCHER_EXPIRED,
                        "expected a voucher of at most %" PRIu64 " ms, found an older one",
                        voucher->life_ms);
    }
    CLV_TRY(clv_operation_digest(operation, digest, err));
    if (!clv_bytes_equal_secret(CLV_BYTES(digest, sizeof digest),
                                CLV_BYTES(voucher->operation, sizeof voucher->operation))) {
        voucher->counters->mismatched++;
        return clv_fail(err, CLV_VOUCHER_MISMATCH,
                        "expected the operation that was vouched for, found another");
    }
    return CLV_OK;
}

clv_status clv_voucher_spend(clv_voucher *voucher, const clv_operation *operation, clv_error *err)
{
    if (voucher == NULL || atomic_flag_test_and_set(&voucher->taken))
        return clv_fail(err, CLV_VOUCHER_SPENT,
                        "expected a voucher that was never used, found none or a used one");
    CLV_TRY(check_spend(voucher, operation, err));
    voucher->counters->spent++;
    voucher->spendable = true;
    return CLV_OK;
}

clv_bytes clv_voucher_document(const clv_voucher *voucher)
{
    return voucher->spendable ? clv_buf_bytes(&voucher->document) : CLV_BYTES(NULL, 0);
}

EVP_PKEY *clv_voucher_key(const clv_voucher *voucher)
{
    return voucher->spendable ? voucher->key : NULL;
}

uint64_t clv_voucher_now_ms(const clv_voucher *voucher)
{
    return voucher->attested_ms + (clv_monotonic_ms() - voucher->arrived_ms);
}

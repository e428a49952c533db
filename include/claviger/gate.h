/*
 * The gate: the only door to KMS, and the only place that makes a voucher.
 *
 * validate yourself first, then use: clv_gate_vouch() asks the NSM for a document bound to exactly
 * one operation, verifies it in full (signature, chain, root, time, PCRs against pins, baseline and
 * the identity at start, nonce, key, user_data), and only then hands out a voucher. A voucher is
 * moved: the call that spends it takes a pointer to the pointer and nulls it.
 */
#ifndef CLAVIGER_GATE_H
#define CLAVIGER_GATE_H

#include <openssl/evp.h>

#include <claviger/nsm.h>
#include <claviger/policy.h>

struct clv_clock;

typedef struct clv_gate clv_gate;
typedef struct clv_voucher clv_voucher;

/*
 * Unused vouchers are refused after this long by the monotonic clock, counted from the moment
 * their document was asked for, or after the policy's limit for documents where that is shorter
 * (R4, R8).
 */
#define CLV_VOUCHER_MAX_AGE_MS 60000

/*
 * Measured boot (R6): refuse when a register from 16 to 31 is locked or not zero; extend PCR16 with
 * the policy's digest and those of its member "measure" with the SHA-384 of their files; lock all.
 * Once, before clv_gate_open(). CLV_POLICY_PCR_STATE, or what reading a file failed with.
 */
CLV_NODISCARD clv_status clv_gate_measure(clv_nsm *nsm, const clv_policy *policy, clv_error *err);

/*
 * Verify this enclave's own document against root, pins, baseline (text and minisign signature;
 * both empty when the policy has no release keys) and the policy's PCR16, set the clock from it,
 * and keep the identity. nsm, policy and clock must outlive the gate.
 */
CLV_NODISCARD clv_status clv_gate_open(clv_nsm *nsm, const clv_policy *policy, clv_bytes baseline,
                                       clv_bytes baseline_signature, struct clv_clock *clock,
                                       clv_gate **out, clv_error *err);
void clv_gate_free(clv_gate **gate);

/*
 * Whether this enclave is still what it must be: a new document of itself against a baseline of
 * now, whose signature is verified as at the start. The identity of the start stays in force
 * whatever this returns; CLV_BASELINE_REVOKED says that it should not.
 */
CLV_NODISCARD clv_status clv_gate_review(clv_gate *gate, clv_bytes baseline,
                                         clv_bytes baseline_signature, clv_error *err);

/* What this enclave proved to be. Valid as long as the gate. */
const clv_identity *clv_gate_identity(const clv_gate *gate);
const clv_policy *clv_gate_policy(const clv_gate *gate);

/* A document for a remote party: the caller's nonce and user_data, no public key; verified
 * before it is appended to *document. */
CLV_NODISCARD clv_status clv_gate_attest(clv_gate *gate, clv_optional nonce, clv_optional user_data,
                                         clv_buf *document, clv_error *err);

/*
 * Vouch for one operation: an RSA-2048 key that nothing else uses, a random nonce of 32 bytes,
 * user_data = clv_operation_digest(). *out is set only when everything held. Takes place at most
 * once for each KMS request; a retry vouches again. The gate must outlive the voucher.
 */
CLV_NODISCARD clv_status clv_gate_vouch(clv_gate *gate, const clv_operation *operation,
                                        clv_voucher **out, clv_error *err);

/*
 * Take a voucher out of its owner's pointer, which is NULL from then on. Of several threads that do
 * so with one pointer, one gets the voucher and the others NULL.
 */
clv_voucher *clv_voucher_move(clv_voucher **from);

/*
 * Spend: from here on the voucher cannot be spent again, by anyone, whatever this returns.
 * CLV_VOUCHER_SPENT, CLV_VOUCHER_EXPIRED, CLV_VOUCHER_MISMATCH (the operation's digest is not the
 * one vouched for). For the kms room, as the first thing it does with a voucher.
 */
CLV_NODISCARD clv_status clv_voucher_spend(clv_voucher *voucher, const clv_operation *operation,
                                           clv_error *err);

/* After a successful spend only (NULL and empty otherwise): the document to send, the private key
 * that opens the answer. Owned by the voucher. */
clv_bytes clv_voucher_document(const clv_voucher *voucher);
EVP_PKEY *clv_voucher_key(const clv_voucher *voucher);

/* The attested time carried forward by the monotonic clock, for SigV4 and TLS (R25). */
uint64_t clv_voucher_now_ms(const clv_voucher *voucher);

/* Wipes the private key and sets *voucher to NULL. */
void clv_voucher_free(clv_voucher **voucher);

/*
 * Work ahead, so that no request waits for a key or a document: one thread of this gate keeps
 * `keys` RSA keys ready, each used once, and, for an operation that was asked for twice in a row or
 * nearly so, a voucher for the next time. Vouchers made ahead are held in memory only, at most
 * `vouchers` of them, under SHA-384(verified PCRs || operation): any other parameter misses them,
 * taking one removes it, and those that nobody takes are wiped when half of their life is over
 * (R9). Without this call there is no thread, and every key is made when it is needed. The thread
 * ends in clv_gate_free(). At most once for a gate.
 */
#define CLV_AHEAD_KEYS_MAX     16
#define CLV_AHEAD_VOUCHERS_MAX 16
CLV_NODISCARD clv_status clv_gate_work_ahead(clv_gate *gate, size_t keys, size_t vouchers,
                                             clv_error *err);

/* Vouch for an operation now, for the next clv_gate_vouch() that asks for exactly it. */
CLV_NODISCARD clv_status clv_gate_prepare(clv_gate *gate, const clv_operation *operation,
                                          clv_error *err);

/* Counters since the gate was opened, and what is held now. */
typedef struct clv_gate_metrics {
    uint64_t vouched, refused; /* vouchers made, and asked for in vain */
    uint64_t spent, expired, mismatched;
    uint64_t keys_pooled, keys_made;    /* keys taken from the pool, made while a request waited */
    uint64_t ahead_taken, ahead_missed; /* vouchers given out that were made ahead, or were not */
    uint64_t keys_ready, ahead_ready;   /* held now */
    uint64_t clock_backwards, clock_jumped; /* documents refused for their time (R25) */
} clv_gate_metrics;
void clv_gate_read_metrics(clv_gate *gate, clv_gate_metrics *out);

#endif

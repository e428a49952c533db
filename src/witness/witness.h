/*
 * The freshness witness (R18): what tells the newest state from an older one that is just as
 * genuine. One interface, two implementations (docs/freshness.md):
 *
 *     etcd      an etcd cluster that the parent carries bytes to and cannot write
 *     receipts  signed statements that the agent's caller keeps and presents
 *
 * What the store holds is compared by judge.h with what the witness saw; what was written is
 * committed here before anybody is told. Thread-safe. What is needed for that (the fleet's keys,
 * the certificate, the init record) is fetched at the first use, so that a daemon without a
 * reachable witness boots, and refuses.
 */
#ifndef CLV_WITNESS_WITNESS_H
#define CLV_WITNESS_WITNESS_H

#include <stdatomic.h>

#include <base/clock.h>
#include <base/json.h>
#include <vault/vault.h>
#include <witness/judge.h>

typedef struct clv_witness clv_witness;

/* The parent's store, as far as the witness keeps things of its own there: nothing that it gives
 * is believed without a key or a signature. */
typedef struct clv_witness_store {
    void *with;
    clv_status (*key_get)(void *with, const char *name, clv_buf *blob, clv_error *err);
    clv_status (*key_put)(void *with, const char *name, clv_bytes blob, clv_error *err);
    clv_status (*state_get)(void *with, const char *name, uint64_t *generation, clv_buf *bytes,
                            clv_error *err);
    clv_status (*state_put)(void *with, const char *name, uint64_t generation, clv_bytes bytes,
                            clv_error *err);
} clv_witness_store;

typedef struct clv_witness_options {
    const clv_policy *policy; /* its member "witness" must be there */
    clv_vault *vault;
    clv_clock *clock;
    clv_witness_store store;
    const char *relay[CLV_WITNESS_ENDPOINTS_MAX]; /* mode etcd: one for each endpoint */
    size_t relay_count;
} clv_witness_options;

/* Everything in the options must outlive the witness. CLV_USAGE: another number of relays. */
CLV_NODISCARD clv_status clv_witness_open(const clv_witness_options *options, clv_witness **out,
                                          clv_error *err);
void clv_witness_free(clv_witness **witness);

typedef struct clv_witness_metrics {
    atomic_ulong reads, commits; /* asked of the witness, whatever came of it */
    atomic_ulong unavailable;    /* … of those, without an answer */
    atomic_ulong advanced;       /* states taken over that were stored and not acknowledged */
    atomic_ulong refused;        /* stores that were older, empty or forked; bad receipts */
} clv_witness_metrics;
clv_witness_metrics *clv_witness_counters(clv_witness *witness);

/* Whether callers keep receipts. */
bool clv_witness_by_receipts(const clv_witness *witness);

/* -- the first use ---------------------------------------------------------------------------- */

/* A PKCS #10 request for the client key, DER; makes the fleet's secret when there is none. */
CLV_NODISCARD clv_status clv_witness_request_certificate(clv_witness *witness, clv_buf *der,
                                                         clv_error *err);
/* Take this certificate, PEM, and keep it with the parent for the fleet. CLV_WITNESS_CERTIFICATE.
 */
CLV_NODISCARD clv_status clv_witness_take_certificate(clv_witness *witness, clv_bytes pem,
                                                      clv_error *err);
/*
 * Begin. by: who asked, for the record. etcd: CLV_WITNESS_INITIALISED where it was done before.
 * receipts: another record of the same standing, since whoever presents one says nothing but that
 * he knows of no state. The record is appended.
 */
CLV_NODISCARD clv_status clv_witness_init(clv_witness *witness, const char *by, clv_buf *record,
                                          clv_error *err);
/* {"mode", "initialised", "fleet", …} or with "problem": a new reference, or NULL. */
json_t *clv_witness_status(clv_witness *witness);

/* -- receipts --------------------------------------------------------------------------------- */

#define CLV_RECEIPTS_MAX 32

typedef struct clv_presented {
    size_t count;
    clv_record record[CLV_RECEIPTS_MAX];
} clv_presented;

/* Receipts in base64, separated by commas; NULL: none. CLV_WITNESS_RECORD: one that is not ours.
 * CLV_WITNESS_FORK: two that contradict each other. */
CLV_NODISCARD clv_status clv_witness_present(clv_witness *witness, const char *text,
                                             clv_presented *out, clv_error *err);

/* -- seeing and committing -------------------------------------------------------------------- */

/*
 * What the witness saw last of a state ("<key>/<name>") or of a policy key's root. presented: for
 * mode receipts, where CLV_WITNESS_RECEIPT says that neither a receipt of this name nor an init
 * receipt is among them.
 */
CLV_NODISCARD clv_status clv_witness_see(clv_witness *witness, const clv_presented *presented,
                                         bool root, const char *name, clv_seen *out,
                                         clv_error *err);

/*
 * From what was seen to the next: kind, name, generation and digest of *next are the caller's, the
 * rest is filled in. The receipt is appended in mode receipts. On success *seen is the next.
 * CLV_STATE_CONFLICT: another enclave was quicker; where it committed the very same, this is a
 * success. CLV_WITNESS_UNAVAILABLE, CLV_STORE_UNAVAILABLE: it may or may not be committed.
 */
CLV_NODISCARD clv_status clv_witness_commit(clv_witness *witness, clv_seen *seen, clv_record *next,
                                            clv_buf *receipt, clv_error *err);

/* What was seen of every state whose name begins so, deleted ones too; in mode receipts: of those
 * that are presented. */
typedef clv_status (*clv_witness_visit)(void *with, const clv_record *record, clv_error *err);
CLV_NODISCARD clv_status clv_witness_list(clv_witness *witness, const clv_presented *presented,
                                          const char *prefix, clv_witness_visit visit, void *with,
                                          clv_error *err);

/* -- tombstones: what a deleted state leaves in the store -------------------------------------- */

CLV_NODISCARD clv_status clv_witness_tombstone(clv_witness *witness, const char *name,
                                               uint64_t generation, clv_buf *out, clv_error *err);
/* Whether the bytes are one of this name and generation: CLV_WITNESS_RECORD where not. earlier: one
 * from before the last `claviger witness init` will do; else that is CLV_WITNESS_OTHER. */
CLV_NODISCARD clv_status clv_witness_check_tombstone(clv_witness *witness, clv_bytes bytes,
                                                     const char *name, uint64_t generation,
                                                     bool earlier, clv_error *err);

#endif

/*
 * The trail of evidence: for each of the last calls to KMS, the operation as it was vouched for and
 * the attestation document that went with it. The document's user_data is the SHA-384 of the
 * operation (docs/operation.cddl), so an auditor can check that this enclave asked for exactly
 * this, and when.
 */
#ifndef CLV_ENCLAVE_EVIDENCE_H
#define CLV_ENCLAVE_EVIDENCE_H

#include <pthread.h>

#include <base/json.h>
#include <claviger/policy.h>

#define CLV_EVIDENCE_MAX 64

typedef struct clv_evidence {
    pthread_mutex_t lock; /* protects the rest */
    uint64_t count;       /* calls so far; the newest is entry (count - 1) % CLV_EVIDENCE_MAX */
    struct clv_evidence_entry {
        /* Not the key itself: one under a predecessor's context is somebody's copy. */
        char key[CLV_POLICY_NAME_MAX + 1];
        const char *action; /* a constant */
        clv_buf operation;  /* canonical CBOR */
        clv_buf document;
    } entry[CLV_EVIDENCE_MAX];
} clv_evidence;

void clv_evidence_init(clv_evidence *evidence);
void clv_evidence_drop(clv_evidence *evidence);

/* A clv_vault_observer; `evidence` is a clv_evidence. */
void clv_evidence_keep(void *evidence, const clv_policy_key *key, const clv_operation *operation,
                       clv_bytes document);

/* Something else that this enclave did and vouches for: `what` is in the document's user_data. */
void clv_evidence_add(clv_evidence *evidence, const clv_policy_key *key, const char *action,
                      clv_bytes what, clv_bytes document);

/* [{number, action, operation, document}], base64, oldest first, those of one key. A new
 * reference, or NULL. */
json_t *clv_evidence_json(clv_evidence *evidence, const clv_policy_key *key);

#endif

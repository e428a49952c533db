/*
 * The measured policy file: what this enclave may ask of KMS, and who may ask this enclave.
 *
 * JSON, strict: unknown members, duplicate keys, wrong types and comments are errors that name the
 * member's path. The schema is in docs/policy.md. The file is read once and measured as bytes.
 */
#ifndef CLAVIGER_POLICY_H
#define CLAVIGER_POLICY_H

#include <claviger/attestation.h>
#include <claviger/operation.h>

#define CLV_POLICY_MAX        65536
#define CLV_POLICY_KEYS_MAX   32
#define CLV_POLICY_AGENTS_MAX 64
#define CLV_POLICY_NAME_MAX   64
#define CLV_CAPABILITY_MAX    256
#define CLV_CAPABILITIES_MAX  64
/* The register that identifies who signed the image: a pin on it alone identifies an image. */
#define CLV_SIGNER_PCR 8
/* The register the policy is measured into: the first that belongs to the application. The files
 * of its member "measure" go into those behind it. */
#define CLV_POLICY_PCR        16
#define CLV_MEASURED_FILE_MAX ((size_t)16 * 1024 * 1024)

#define CLV_PREDECESSORS_MAX 8

typedef struct clv_cache_limits {
    uint32_t max_age_s; /* 0: no caching (R14) */
    uint32_t max_messages;
    uint64_t max_bytes;
} clv_cache_limits;

typedef struct clv_policy_key {
    char name[CLV_POLICY_NAME_MAX + 1];
    char *key_arn;
    uint32_t actions;    /* bit per clv_kms_action */
    clv_context context; /* templates as written; resolved by clv_policy_resolve_context */
    clv_buf peer;        /* "peer_public_key": DER SubjectPublicKeyInfo; empty: none */
    clv_cache_limits cache;
    uint32_t max_encrypted_data_keys; /* that a sealed message may carry, 1 unless it says more */
    /* Contexts of older releases' policies, under which state may still be opened, never sealed. */
    clv_context predecessor[CLV_PREDECESSORS_MAX];
    size_t predecessor_count;
} clv_policy_key;

#define CLV_EXE_DIGEST_SIZE 32 /* SHA-256 */

typedef struct clv_policy_agent {
    bool any_uid, any_gid, any_exe; /* the member was not given */
    uint32_t uid, gid;
    uint8_t exe_sha256[CLV_EXE_DIGEST_SIZE];
    char *may[CLV_CAPABILITIES_MAX]; /* "verb:key" or "verb:key/pattern" */
    size_t may_count;
} clv_policy_agent;

/* "witness": what tells the newest state from an older one (docs/freshness.md). */
#define CLV_WITNESS_ENDPOINTS_MAX 16
#define CLV_WITNESS_PREFIX_MAX    128

typedef enum clv_witness_mode {
    CLV_WITNESS_MODE_NONE,     /* the member is not there: the parent can roll state back */
    CLV_WITNESS_MODE_ETCD,     /* an etcd cluster that the parent cannot write */
    CLV_WITNESS_MODE_RECEIPTS, /* signed receipts, which the callers keep */
} clv_witness_mode;

typedef struct clv_policy_witness {
    clv_witness_mode mode;
    size_t key; /* index of the key under which the witness's own secret is sealed */
    /* etcd alone */
    char *endpoint[CLV_WITNESS_ENDPOINTS_MAX]; /* https URLs */
    size_t endpoint_count;
    char *ca_file;
    char *prefix; /* comes before every key in the cluster */
} clv_policy_witness;

typedef struct clv_policy {
    clv_buf bytes;                /* exactly as read: what PCR16 measures */
    uint8_t digest[CLV_PCR_SIZE]; /* SHA-384 of the bytes: what extends PCR16 */
    uint8_t pcr16[CLV_PCR_SIZE];  /* SHA-384(48 zero bytes || digest) */
    char enclave[CLV_POLICY_NAME_MAX + 1];
    uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE];
    clv_pcrs pins; /* attestation.pcrs */
    clv_release_key release_key[CLV_RELEASE_KEYS_MAX];
    size_t release_key_count;
    bool allow_debug;            /* attestation.allow_debug (R5) */
    uint32_t max_document_age_s; /* attestation.max_age_s, default 60 (R4) */
    char *kms_region;
    char *kms_endpoint; /* https URL */
    char *kms_ca_file;
    clv_policy_key key[CLV_POLICY_KEYS_MAX];
    size_t key_count;
    clv_policy_agent agent[CLV_POLICY_AGENTS_MAX];
    size_t agent_count;
    clv_policy_witness witness;
    char *measured[CLV_PCR_COUNT]; /* "measure": the file that goes into each register, or NULL */
} clv_policy;

/* Copies the bytes, parses, checks. The policy is large: hold it on the heap. */
CLV_NODISCARD clv_status clv_policy_parse(clv_bytes text, clv_policy **out, clv_error *err);
void clv_policy_free(clv_policy **policy);

/* The key of this name, or NULL. */
const clv_policy_key *clv_policy_find_key(const clv_policy *policy, const char *name);

/*
 * What the policy learns from the enclave's own verified document: the only source of values for
 * templates. Made by the gate (clv_gate_identity).
 */
typedef struct clv_identity {
    clv_pcrs pcrs;
    char module_id[CLV_MODULE_ID_MAX + 1];
    char release[CLV_RELEASE_NAME_MAX + 1]; /* "" when pins alone identify the image */
    bool debug;
} clv_identity;

/* Fill ${enclave}, ${pcrN}, ${pcrs} and ${policy} from the identity (docs/policy.md). */
CLV_NODISCARD clv_status clv_policy_resolve_context(const clv_policy *policy,
                                                    const clv_policy_key *key,
                                                    const clv_identity *identity, clv_context *out,
                                                    clv_error *err);

/*
 * The parent's key setup request, { "keyId": …, "encryptionContext": {…} }, turned into a
 * GenerateDataKey of 32 bytes. Accepted when it matches exactly one key of the policy: the ARN
 * equal, each pair given equal to the resolved context; the parent's text selects, and every value
 * in *out is the policy's. CLV_REQUEST_FORMAT, CLV_POLICY_NO_KEY, CLV_POLICY_CONTEXT,
 * CLV_POLICY_OPERATION, CLV_POLICY_AMBIGUOUS name the member.
 */
#define CLV_REQUEST_MAX 16384
CLV_NODISCARD clv_status clv_policy_resolve_setup(const clv_policy *policy,
                                                  const clv_identity *identity, clv_bytes request,
                                                  const clv_policy_key **key, clv_operation *out,
                                                  clv_error *err);

/*
 * An operation with a key of the policy on the enclave's own behalf. `extra` (may be NULL) is
 * added to the key's context: names that begin with "claviger:", which no policy may use.
 */
CLV_NODISCARD clv_status clv_policy_resolve_generate(const clv_policy *policy,
                                                     const clv_policy_key *key,
                                                     const clv_identity *identity,
                                                     const clv_context *extra, uint32_t bytes,
                                                     clv_operation *out, clv_error *err);
CLV_NODISCARD clv_status clv_policy_resolve_decrypt(const clv_policy *policy,
                                                    const clv_policy_key *key,
                                                    const clv_identity *identity,
                                                    const clv_context *extra, clv_bytes ciphertext,
                                                    clv_operation *out, clv_error *err);

/* GenerateDataKeyPair, of a KeyPairSpec as KMS names them ("ECC_NIST_P256"). */
CLV_NODISCARD clv_status clv_policy_resolve_pair(const clv_policy *policy,
                                                 const clv_policy_key *key,
                                                 const clv_identity *identity,
                                                 const clv_context *extra, const char *spec,
                                                 clv_operation *out, clv_error *err);
/* GenerateRandom, which names no key: where this entry of the policy allows it. */
CLV_NODISCARD clv_status clv_policy_resolve_random(const clv_policy_key *key, uint32_t bytes,
                                                   clv_operation *out, clv_error *err);

/*
 * DeriveSharedSecret with the key's peer_public_key. KMS takes no encryption context here: the
 * key's own (clv_policy_resolve_context) binds what is derived from the secret.
 * CLV_POLICY_OPERATION: the key has no peer, or may not.
 */
CLV_NODISCARD clv_status clv_policy_resolve_agreement(const clv_policy_key *key, clv_operation *out,
                                                      clv_error *err);

/* Who is calling, as the kernel says. exe_sha256: the SHA-256 of the file that the caller runs, or
 * NULL when it was not measured: rows that name one are not the caller's then. */
typedef struct clv_caller {
    uint32_t uid, gid;
    const uint8_t *exe_sha256;
} clv_caller;

/* Whether a row of the table is this caller's. */
bool clv_policy_is_agent(const clv_policy_agent *agent, const clv_caller *caller);

/* The first row that fits these ids and names an executable: a caller must be measured before the
 * table can judge it. NULL: there is no need to. */
const clv_policy_agent *clv_policy_exe_row(const clv_policy *policy, uint32_t uid, uint32_t gid);

/*
 * Whether a caller may use `verb` on `key` and, where the verb takes one, `name` ("" otherwise):
 * "seal:agent-state", "derive:agent-state/wallet/…". A pattern's last "*" matches any rest.
 * name NULL asks whether it may for any name at all: what can be known before a body is read.
 * CLV_AGENT_UNKNOWN, CLV_CAPABILITY_MISSING (names the capability).
 */
CLV_NODISCARD clv_status clv_policy_allow(const clv_policy *policy, const clv_caller *caller,
                                          const char *verb, const char *key, const char *name,
                                          clv_error *err);

#endif

/*
 * The KMS client: no entry works without a voucher (R1).
 *
 * Requests are JSON 1.1 with SigV4 (AWS KMS API reference; AWS IAM user guide, "Create a signed
 * AWS API request"). TLS is verified in here, against the CA file of the policy, the endpoint's
 * name and the attested time, over a socket to the relay that carries bytes only (R11).
 */
#ifndef CLAVIGER_KMS_H
#define CLAVIGER_KMS_H

#include <claviger/gate.h>
#include <claviger/secret.h>

/* AWS credentials. The secret key and session token are secrets. */
typedef struct clv_credentials {
    char access_key_id[129];
    clv_secret *secret_access_key;
    clv_secret *session_token; /* NULL: none */
    uint64_t expires_ms;       /* 0: never */
    char account[13];          /* the caller's, where the source tells it, or "" */
} clv_credentials;

#define CLV_CREDENTIALS_INIT     \
    {                            \
        {0}, NULL, NULL, 0, {0}, \
    }
void clv_credentials_drop(clv_credentials *credentials);

/*
 * The JSON form in which IMDS and container endpoints give them: AccessKeyId, SecretAccessKey,
 * Token (or SessionToken), Expiration; Code, when present, must be Success; the account from
 * AccountId or RoleArn. Members of other names are left alone: AWS adds to them. The text holds
 * secrets: it is wiped by its owner. CLV_KMS_CREDENTIALS names the member, never a value.
 */
CLV_NODISCARD clv_status clv_credentials_parse(clv_bytes text, clv_credentials *out,
                                               clv_error *err);

typedef struct clv_kms clv_kms;

typedef struct clv_kms_options {
    const char *region;
    const char *endpoint; /* https://host[:port] */
    const char *ca_file;
    const char *relay;      /* an address (base/net.h) that leads to the endpoint; NULL: direct */
    int timeout_ms;         /* for one operation, retries included; 0: 20000 */
    bool fresh_connections; /* a new connection for each call: for measuring only */
} clv_kms_options;

CLV_NODISCARD clv_status clv_kms_open(const clv_kms_options *options, clv_kms **out,
                                      clv_error *err);
void clv_kms_free(clv_kms **kms);

/* Replaces the credentials, which are moved from *credentials; calls under way end with the ones
 * they began with. Thread-safe. */
void clv_kms_set_credentials(clv_kms *kms, clv_credentials *credentials);
/* 0 when there are none; UINT64_MAX when they never expire. */
uint64_t clv_kms_credentials_expire_ms(clv_kms *kms);

/* Close the connections that wait for a next call; those in use end with it. */
void clv_kms_reconnect(clv_kms *kms);

/* How KMS has been since the client was opened. */
typedef struct clv_kms_health {
    uint64_t calls, failures; /* requests that were sent or tried to be, and what failed of them */
    unsigned failures_in_a_row; /* without a usable answer */
    uint64_t open_for_ms;       /* the circuit: how long calls still fail at once; 0: closed */
    uint64_t failed_ms;         /* monotonic, of the last failure; 0: there was none */
    clv_status failure;         /* its code, and what KMS named it, if KMS answered */
    int http_status;
    char type[96];
    char request_id[64];
} clv_kms_health;
void clv_kms_read_health(clv_kms *kms, clv_kms_health *out);

/* An error KMS itself answered, or what stood in its way. */
typedef struct clv_kms_failure {
    int http_status;   /* 0: no answer came */
    char type[96];     /* KMS's __type without namespace, or "" */
    char message[512]; /* KMS's own message, bounded and made printable */
    char request_id[64];
    bool retryable;
} clv_kms_failure;

/* What came back, after every check. */
typedef struct clv_kms_answer {
    clv_secret *plaintext;   /* data key, private key, random bytes or shared secret */
    clv_buf ciphertext_blob; /* GenerateDataKey, GenerateDataKeyPair */
    clv_buf public_key;      /* GenerateDataKeyPair */
    clv_buf document;        /* the document that was sent: evidence */
    char request_id[64];
} clv_kms_answer;

#define CLV_KMS_ANSWER_INIT                             \
    {                                                   \
        NULL, CLV_BUF_INIT, CLV_BUF_INIT, CLV_BUF_INIT, \
        {                                               \
            0                                           \
        }                                               \
    }
void clv_kms_answer_drop(clv_kms_answer *answer);

/*
 * One call. The voucher is spent before anything else, freed and nulled whatever happens. The
 * KeyId of the answer must be the operation's; a plaintext member is refused; the CMS is opened
 * with the voucher's key into guarded memory. failure (may be NULL) is filled on an error.
 * No retry happens here: a retry needs another voucher, see clv_kms_run().
 */
CLV_NODISCARD clv_status clv_kms_call(clv_kms *kms, clv_voucher **voucher,
                                      const clv_operation *operation, clv_kms_answer *out,
                                      clv_kms_failure *failure, clv_error *err);

/*
 * Vouch and call, again with a new voucher while the failure is retryable and the deadline allows
 * (full-jitter backoff from 100 ms).
 */
CLV_NODISCARD clv_status clv_kms_run(clv_kms *kms, clv_gate *gate, const clv_operation *operation,
                                     clv_kms_answer *out, clv_kms_failure *failure, clv_error *err);

/*
 * Open a CiphertextForRecipient (CMS EnvelopedData, RFC 5652 section 6, as KMS makes it: one
 * KeyTransRecipientInfo by subjectKeyIdentifier = SHA-256 of the SubjectPublicKeyInfo, RSAES-OAEP
 * with SHA-256 and MGF1-SHA-256, AES-256-CBC). Wrong padding and wrong key are one error.
 */
#define CLV_CMS_MAX 16384
CLV_NODISCARD clv_status clv_cms_open(clv_bytes cms, EVP_PKEY *key, clv_secret **out,
                                      clv_error *err);

/* Only the structure and algorithms, without a key: for inspection and tests. */
CLV_NODISCARD clv_status clv_cms_check(clv_bytes cms, uint8_t recipient_id[32], clv_error *err);

#endif

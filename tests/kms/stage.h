/*
 * Everything around the client: a module, a measured policy, the gate, a server that plays KMS, and
 * a client that reaches it through a relay address. The attested time is MAKER_TIME_MS (2023).
 */
#ifndef CLV_TESTS_KMS_STAGE_H
#define CLV_TESTS_KMS_STAGE_H

#include <base/clock.h>
#include <claviger/kms.h>

#include "cms_writer.h"
#include "fake_nsm.h"
#include "tls_server.h"

#define STAGE_HOST    "kms.us-east-1.amazonaws.com"
#define STAGE_KEY_ARN "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
/* 32 bytes, and one DER SEQUENCE (0x30, 0x1e) to its end, as a private key of a pair is. */
#define STAGE_SECRET \
    "0\x1e"          \
    "a plaintext of 32 bytes in all"
/* A DER SubjectPublicKeyInfo: the base point of P-256. */
#define STAGE_PUBLIC_KEY                                                                           \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n" \
    "60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
#define STAGE_PUBLIC_KEY_SIZE 91

typedef struct stage {
    char directory[64];
    fake_nsm nsm;
    tls_ca ca;
    tls_server server;
    clv_policy *policy;
    clv_nsm *nsm_handle;
    clv_clock clock;
    clv_gate *gate;
    clv_kms *kms;
    clv_bytes plaintext; /* what the server's answers carry; STAGE_SECRET by default */
    const char *key_id;  /* the KeyId of the server's answers; STAGE_KEY_ARN by default */
} stage;

/* Knobs whose zero means "as it should be". */
typedef struct stage_options {
    bool debug;       /* PCR0 to PCR2 are zero */
    bool stranger;    /* the server's certificate is of a CA that is not in the CA file */
    const char *host; /* of the certificate */
    int64_t not_before, not_after;
    int max_version;
    int timeout_ms;     /* of the client; 0: 30000 */
    const char *region; /* of the client */
    const char *endpoint;
    bool no_credentials, fresh;
    uint64_t credentials_expire_ms;
} stage_options;

void stage_open(stage *s, const stage_options *options);
void stage_close(stage *s);

/* An operation of each action, with the stage's key. */
void stage_operation(clv_kms_action action, clv_operation *out);

/* Credentials that differ by this number, so that the server can tell which were used. */
void stage_set_credentials(stage *s, unsigned number, uint64_t expires_ms);

/* What a KMS would answer to this request, whatever its operation: a make_body. `with` is a stage.
 */
void stage_make_body(void *with, clv_bytes request, clv_buf *body);

/* Vouch and call once. */
clv_status stage_call(stage *s, clv_kms_action action, clv_kms_answer *answer,
                      clv_kms_failure *failure, clv_error *err);
clv_status stage_call_operation(stage *s, const clv_operation *operation, clv_kms_answer *answer,
                                clv_kms_failure *failure, clv_error *err);

#endif

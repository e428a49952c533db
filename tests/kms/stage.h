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
#define STAGE_SECRET  "a data key of thirty-two bytes.."

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

#endif

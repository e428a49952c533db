/* What the gate's tests start from: a lying NSM, a measured policy, an open gate. */
#ifndef CLV_TESTS_GATE_STAGE_H
#define CLV_TESTS_GATE_STAGE_H

#include <base/clock.h>

#include "../check.h"
#include "liar.h"

#define STAGE_KEY "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

typedef struct stage {
    liar liar;
    clv_policy *policy;
    clv_nsm *nsm;
    clv_clock clock;
    clv_gate *gate;
} stage;

/* A policy for this liar's root, with these members in "attestation" and at the top. */
clv_policy *stage_policy(const liar *l, const char *attestation, const char *top);
/* `"pcrs": {"8": …}` of the honest image. */
const char *stage_pins(void);

/* Boot the module, read the policy, connect; nothing is measured yet. */
void stage_boot(stage *s, const char *attestation, const char *top);
/* … and measure, and open the gate. */
void stage_open(stage *s, const char *attestation);
/* Free what the two above made; the liar stays. */
void stage_close(stage *s);

/* GenerateDataKey of 32 bytes, context {"Purpose": purpose}. */
void stage_operation(const char *purpose, clv_operation *out);

/* cmocka group setup and teardown: one liar for all tests of a program. */
int stage_group_start(void **state);
int stage_group_stop(void **state);

#endif

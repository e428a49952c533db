#include "stage.h"

#include <claviger/secret.h>

const char *stage_pins(void)
{
    static char text[160];
    int n = snprintf(text, sizeof text, "\"pcrs\": {\"8\": \"");
    for (int i = 0; i < CLV_PCR_SIZE; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%02x", LIAR_PCR_BYTE(8));
    snprintf(text + n, sizeof text - (size_t)n, "\"}");
    return text;
}

clv_policy *stage_policy(const liar *l, const char *attestation, const char *top)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_policy *policy = NULL;
    assert_ok(clv_buf_printf(&text, err,
                             "{\"version\": 1, \"enclave\": \"agent-runtime\", %s\n"
                             " \"attestation\": {\"root_sha256\": \"%s\", %s},\n"
                             " \"kms\": {\"region\": \"us-east-1\", \"endpoint\": "
                             "\"https://kms.us-east-1.amazonaws.com\","
                             " \"ca_file\": \"/etc/claviger/roots.pem\"},\n"
                             " \"keys\": {\"agent-state\": {\"key_id\": \"" STAGE_KEY "\","
                             " \"operations\": [\"GenerateDataKey\", \"Decrypt\"],"
                             " \"encryption_context\": {\"Purpose\": \"AgentSecrets\"}}},\n"
                             " \"agents\": []}",
                             top, l->root_hex, attestation));
    assert_ok(clv_policy_parse(clv_buf_bytes(&text), &policy, err));
    return policy;
}

void stage_boot(stage *s, const char *attestation, const char *top)
{
    liar_boot(&s->liar);
    clv_clock_init(&s->clock);
    s->policy = stage_policy(&s->liar, attestation, top);
    assert_ok(clv_nsm_open(s->liar.address, &s->nsm, err));
}

void stage_open(stage *s, const char *attestation)
{
    stage_boot(s, attestation, "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_ok(clv_gate_open(s->nsm, s->policy, CLV_BYTES(NULL, 0), CLV_BYTES(NULL, 0), &s->clock,
                            &s->gate, err));
}

void stage_close(stage *s)
{
    clv_gate_free(&s->gate);
    clv_nsm_free(&s->nsm);
    clv_policy_free(&s->policy);
    clv_clock_drop(&s->clock);
}

void stage_operation(const char *purpose, clv_operation *out)
{
    *out = (clv_operation)CLV_OPERATION_INIT;
    out->action = CLV_GENERATE_DATA_KEY;
    out->number_of_bytes = 32;
    out->key_arn = strdup(STAGE_KEY);
    assert_ok(clv_context_add(&out->context, "Purpose", purpose, err));
}

int stage_group_start(void **state)
{
    static stage s;
    assert_ok(clv_secret_start(err));
    liar_start(&s.liar);
    *state = &s;
    return 0;
}

int stage_group_stop(void **state)
{
    stage *s = *state;
    liar_stop(&s->liar);
    return 0;
}

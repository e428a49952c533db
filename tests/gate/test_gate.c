/* R1, R3 to R6, R25: an NSM that lies gets no gate opened and no voucher made, whatever the lie. */
#include "stage.h"

/* At the start, and when a voucher is asked for. CLV_OK: only the later one can tell. */
static const struct {
    const char *name;
    liar_lie lie;
    clv_status at_open, at_vouch;
} lies[] = {
    {"another nonce", LIE_NONCE, CLV_ATT_NONCE, CLV_ATT_NONCE},
    {"no nonce", LIE_NO_NONCE, CLV_ATT_NONCE, CLV_ATT_NONCE},
    {"a nonce cut by a byte", LIE_SHORT_NONCE, CLV_ATT_NONCE, CLV_ATT_NONCE},
    {"other user_data", LIE_USER_DATA, CLV_ATT_USER_DATA, CLV_ATT_USER_DATA},
    {"user_data gone, or come", LIE_NO_USER_DATA, CLV_ATT_USER_DATA, CLV_ATT_USER_DATA},
    {"another public key", LIE_PUBLIC_KEY, CLV_ATT_PUBLIC_KEY, CLV_ATT_PUBLIC_KEY},
    {"public key gone, or come", LIE_NO_PUBLIC_KEY, CLV_ATT_PUBLIC_KEY, CLV_ATT_PUBLIC_KEY},
    {"a document of before", LIE_REPLAY, CLV_ATT_NONCE, CLV_ATT_NONCE},
    {"another root", LIE_OTHER_ROOT, CLV_ATT_CERT_ROOT, CLV_ATT_CERT_ROOT},
    {"another enclave of this image", LIE_OTHER_ENCLAVE, CLV_OK, CLV_GATE_IDENTITY},
    {"a flipped signature", LIE_SIGNATURE, CLV_ATT_SIGNATURE, CLV_ATT_SIGNATURE},
    {"another PCR0", LIE_PCR0, CLV_OK, CLV_GATE_IDENTITY},
    {"another PCR1", LIE_PCR1, CLV_OK, CLV_GATE_IDENTITY},
    {"another PCR8", LIE_PCR8, CLV_ATT_PCR_MISMATCH, CLV_GATE_IDENTITY},
    {"another policy's PCR16", LIE_PCR16, CLV_ATT_PCR_MISMATCH, CLV_GATE_IDENTITY},
    {"a PCR17 that was extended later", LIE_PCR17, CLV_OK, CLV_GATE_IDENTITY},
    {"no PCR16", LIE_PCR16_MISSING, CLV_ATT_PCR_MISSING, CLV_GATE_IDENTITY},
    {"no PCR17", LIE_PCR17_MISSING, CLV_OK, CLV_GATE_IDENTITY},
    {"debug mode", LIE_ZERO_IMAGE, CLV_ATT_DEBUG, CLV_GATE_IDENTITY},
    {"zeros everywhere", LIE_ZERO_ALL, CLV_ATT_DEBUG, CLV_GATE_IDENTITY},
    {"an hour back", LIE_BACKWARDS, CLV_CLOCK_BACKWARDS, CLV_CLOCK_BACKWARDS},
    {"an hour ahead", LIE_AHEAD, CLV_CLOCK_JUMP, CLV_CLOCK_JUMP},
    {"a document cut by a byte", LIE_CUT, CLV_ATT_CBOR, CLV_ATT_CBOR},
    {"a byte behind the document", LIE_TRAILING, CLV_ATT_TRAILING, CLV_ATT_TRAILING},
    {"an empty document", LIE_EMPTY, CLV_ATT_SIZE, CLV_ATT_SIZE},
    {"an error", LIE_ERROR, CLV_NSM_INTERNAL_ERROR, CLV_NSM_INTERNAL_ERROR},
    {"no answer", LIE_CLOSE, CLV_NSM_TRANSPORT, CLV_NSM_TRANSPORT},
};

static void expect(const char *name, clv_status found, clv_status expected, const clv_error *err)
{
    if (found != expected)
        fail_msg("%s: expected %s, found %s: %s", name, clv_status_slug(expected),
                 clv_status_slug(found), err->text);
}

static clv_status open_again(stage *s, clv_gate **out, clv_error *err)
{
    return clv_gate_open(s->nsm, s->policy, CLV_BYTES(NULL, 0), CLV_BYTES(NULL, 0), &s->clock, out,
                         err);
}

static void opens_no_gate_on_a_lie(void **state)
{
    stage *s = *state;
    for (size_t i = 0; i < ROWS(lies); i++) {
        clv_error err = {0};
        clv_gate *second = NULL;
        stage_open(s, stage_pins());
        s->liar.lie = (int)lies[i].lie;
        clv_status status = open_again(s, &second, &err);
        expect(lies[i].name, status, lies[i].at_open, &err);
        assert_true((status == CLV_OK) == (second != NULL));
        clv_gate_free(&second);
        stage_close(s);
    }
}

static void makes_no_voucher_on_a_lie(void **state)
{
    stage *s = *state;
    for (size_t i = 0; i < ROWS(lies); i++) {
        clv_error err = {0};
        clv_gate_metrics metrics;
        clv_voucher *voucher = NULL;
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        stage_operation("AgentSecrets", &operation);
        stage_open(s, stage_pins());
        s->liar.lie = (int)lies[i].lie;
        expect(lies[i].name, clv_gate_vouch(s->gate, &operation, &voucher, &err), lies[i].at_vouch,
               &err);
        assert_null(voucher);
        clv_gate_read_metrics(s->gate, &metrics);
        assert_int_equal(metrics.refused, 1);
        assert_int_equal(metrics.vouched, 0);
        stage_close(s);
    }
}

static void gives_no_document_to_others_on_a_lie(void **state)
{
    stage *s = *state;
    clv_optional nonce = {true, CLV_BYTES("a verifier's nonce", 18)};
    clv_optional data = {true, CLV_BYTES("a verifier's data", 17)};
    for (size_t i = 0; i < ROWS(lies); i++) {
        clv_error err = {0};
        clv_auto(clv_buf) document = CLV_BUF_INIT;
        stage_open(s, stage_pins());
        s->liar.lie = (int)lies[i].lie;
        expect(lies[i].name, clv_gate_attest(s->gate, nonce, data, &document, &err),
               lies[i].at_vouch, &err);
        assert_int_equal(document.n, 0);
        stage_close(s);
    }
}

static void serves_again_when_the_lie_is_over(void **state)
{
    stage *s = *state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    for (size_t i = 0; i < ROWS(lies); i += 4) {
        clv_auto_ptr(clv_voucher) voucher = NULL;
        s->liar.lie = (int)lies[i].lie;
        assert_int_not_equal(clv_gate_vouch(s->gate, &operation, &voucher, NULL), CLV_OK);
        s->liar.lie = LIE_NONE;
        assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
    }
    stage_close(s);
}

static void a_document_that_takes_longer_than_the_policy_allows_is_stale(void **state)
{
    stage *s = *state;
    char attestation[256];
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_voucher *voucher = NULL;
    clv_gate *second = NULL;
    stage_operation("AgentSecrets", &operation);
    snprintf(attestation, sizeof attestation, "\"max_age_s\": 3, %s", stage_pins());
    stage_open(s, attestation);
    s->liar.lie = LIE_SLOW;
    assert_code(clv_gate_vouch(s->gate, &operation, &voucher, err), CLV_GATE_STALE);
    assert_null(voucher);
    assert_code(open_again(s, &second, err), CLV_GATE_STALE);
    assert_null(second);
    stage_close(s);
}

static void clock_refusals_are_counted(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    clv_voucher *voucher = NULL;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    s->liar.lie = LIE_BACKWARDS;
    assert_code(clv_gate_vouch(s->gate, &operation, &voucher, err), CLV_CLOCK_BACKWARDS);
    s->liar.lie = LIE_AHEAD;
    assert_code(clv_gate_vouch(s->gate, &operation, &voucher, err), CLV_CLOCK_JUMP);
    assert_code(clv_gate_vouch(s->gate, &operation, &voucher, err), CLV_CLOCK_JUMP);
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.clock_backwards, 1);
    assert_int_equal(metrics.clock_jumped, 2);
    stage_close(s);
}

static void debug_mode_opens_only_where_the_policy_allows_it(void **state)
{
    stage *s = *state;
    char attestation[256];
    snprintf(attestation, sizeof attestation, "\"allow_debug\": true, %s", stage_pins());
    stage_boot(s, attestation, "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    s->liar.lie = LIE_ZERO_IMAGE;
    assert_ok(open_again(s, &s->gate, err));
    assert_true(clv_gate_identity(s->gate)->debug);
    stage_close(s);
}

static void the_identity_is_what_the_document_says(void **state)
{
    stage *s = *state;
    stage_open(s, stage_pins());
    const clv_identity *identity = clv_gate_identity(s->gate);
    assert_string_equal(identity->module_id, "i-0123456789abcdef0-enc0123456789abcdef");
    assert_int_equal(identity->pcrs.present, UINT32_MAX);
    assert_memory_equal(identity->pcrs.value[16], s->policy->pcr16, CLV_PCR_SIZE);
    assert_int_equal(identity->pcrs.value[2][47], LIAR_PCR_BYTE(2));
    assert_false(identity->debug);
    stage_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_no_gate_on_a_lie),
        cmocka_unit_test(makes_no_voucher_on_a_lie),
        cmocka_unit_test(gives_no_document_to_others_on_a_lie),
        cmocka_unit_test(serves_again_when_the_lie_is_over),
        cmocka_unit_test(a_document_that_takes_longer_than_the_policy_allows_is_stale),
        cmocka_unit_test(clock_refusals_are_counted),
        cmocka_unit_test(debug_mode_opens_only_where_the_policy_allows_it),
        cmocka_unit_test(the_identity_is_what_the_document_says),
    };
    return cmocka_run_group_tests(tests, stage_group_start, stage_group_stop);
}

/* R7, R8, R9: a voucher is good for one operation, once, for a while. */
#include "stage.h"

#include <unistd.h>

#include <base/crypto.h>
#include <gate/ahead.h>

#define THREADS 4
#define RACES   10

static void open_with(stage *s, unsigned max_age_s)
{
    char attestation[256];
    snprintf(attestation, sizeof attestation, "\"max_age_s\": %u, %s", max_age_s, stage_pins());
    stage_open(s, attestation);
}

static void gives_nothing_before_it_is_spent_and_everything_after(void **state)
{
    stage *s = *state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto_ptr(clv_voucher) voucher = NULL;
    uint8_t digest[CLV_OPERATION_DIGEST_SIZE];
    clv_auto(clv_buf) spki = CLV_BUF_INIT;
    clv_verify_options options;
    clv_document document;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
    assert_int_equal(clv_voucher_document(voucher).n, 0);
    assert_null(clv_voucher_key(voucher));

    assert_ok(clv_voucher_spend(voucher, &operation, err));
    clv_verify_options_init(&options);
    memcpy(options.root_sha256, s->policy->root_sha256, sizeof options.root_sha256);
    assert_ok(clv_document_verify(clv_voucher_document(voucher), &options, &document, err));
    assert_ok(clv_operation_digest(&operation, digest, err));
    assert_int_equal(document.user_data.bytes.n, sizeof digest);
    assert_memory_equal(document.user_data.bytes.p, digest, sizeof digest);
    assert_int_equal(document.nonce.bytes.n, 32);
    assert_ok(clv_spki_append(&spki, clv_voucher_key(voucher), err));
    assert_true(clv_bytes_equal(document.public_key.bytes, clv_buf_bytes(&spki)));
    clv_voucher_free(&voucher);
    stage_close(s);
}

static void set_action(clv_operation *o)
{
    o->action = CLV_DECRYPT;
    o->number_of_bytes = 0;
    assert_ok(clv_buf_append_text(&o->ciphertext, "blob", err));
}

static void set_key(clv_operation *o)
{
    o->key_arn[strlen(o->key_arn) - 1] = 'c';
}

static void set_bytes(clv_operation *o)
{
    o->number_of_bytes = 33;
}

static void add_context(clv_operation *o)
{
    assert_ok(clv_context_add(&o->context, "more", "", err));
}

static void drop_context(clv_operation *o)
{
    clv_context_drop(&o->context);
}

static void set_context_value(clv_operation *o)
{
    o->context.pair[0].value[0] = 'B';
}

static void set_context_key(clv_operation *o)
{
    o->context.pair[0].key[0] = 'Q';
}

static const struct {
    const char *name;
    void (*change)(clv_operation *o);
} changes[] = {
    {"action", set_action},
    {"key", set_key},
    {"size", set_bytes},
    {"one pair more", add_context},
    {"no context", drop_context},
    {"a context value", set_context_value},
    {"a context key", set_context_key},
};

static void refuses_every_other_operation_and_is_spent_by_it(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    stage_open(s, stage_pins());
    for (size_t i = 0; i < ROWS(changes); i++) {
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        clv_auto(clv_operation) other = CLV_OPERATION_INIT;
        clv_auto_ptr(clv_voucher) voucher = NULL;
        stage_operation("AgentSecrets", &operation);
        assert_ok(clv_operation_copy(&operation, &other, err));
        changes[i].change(&other);
        assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
        assert_code(clv_voucher_spend(voucher, &other, err), CLV_VOUCHER_MISMATCH);
        assert_int_equal(clv_voucher_document(voucher).n, 0);
        assert_null(clv_voucher_key(voucher));
        assert_code(clv_voucher_spend(voucher, &operation, err), CLV_VOUCHER_SPENT);
        assert_null(clv_voucher_key(voucher));
    }
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.mismatched, ROWS(changes));
    assert_int_equal(metrics.spent, 0);
    stage_close(s);
}

static void a_decrypt_is_bound_to_its_ciphertext(void **state)
{
    stage *s = *state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_operation) other = CLV_OPERATION_INIT;
    clv_auto_ptr(clv_voucher) voucher = NULL;
    stage_operation("AgentSecrets", &operation);
    set_action(&operation);
    assert_ok(clv_operation_copy(&operation, &other, err));
    other.ciphertext.p[3] ^= 1;
    stage_open(s, stage_pins());
    assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
    assert_code(clv_voucher_spend(voucher, &other, err), CLV_VOUCHER_MISMATCH);
    clv_voucher_free(&voucher);
    stage_close(s);
}

static void nothing_can_be_spent_where_nothing_is(void **state)
{
    (void)state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    assert_code(clv_voucher_spend(NULL, &operation, err), CLV_VOUCHER_SPENT);
}

static void an_operation_that_kms_would_refuse_is_not_vouched_for(void **state)
{
    stage *s = *state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_voucher *voucher = NULL;
    stage_operation("AgentSecrets", &operation);
    operation.number_of_bytes = 0;
    stage_open(s, stage_pins());
    unsigned before = s->liar.documents;
    assert_code(clv_gate_vouch(s->gate, &operation, &voucher, err), CLV_OPERATION_INVALID);
    assert_null(voucher);
    assert_int_equal(s->liar.documents, before);
    stage_close(s);
}

static void expires_unused(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto_ptr(clv_voucher) voucher = NULL;
    stage_operation("AgentSecrets", &operation);
    open_with(s, 3);
    assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
    usleep(3100 * 1000);
    assert_code(clv_voucher_spend(voucher, &operation, err), CLV_VOUCHER_EXPIRED);
    assert_null(clv_voucher_key(voucher));
    assert_code(clv_voucher_spend(voucher, &operation, err), CLV_VOUCHER_SPENT);
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.expired, 1);
    clv_voucher_free(&voucher);
    stage_close(s);
}

typedef struct race {
    clv_voucher *voucher;
    const clv_operation *operation;
    pthread_barrier_t *start;
    _Atomic int *won;
} race;

static void *run_race(void *context)
{
    race *r = context;
    pthread_barrier_wait(r->start);
    if (clv_voucher_spend(r->voucher, r->operation, NULL) == CLV_OK)
        (*r->won)++;
    return NULL;
}

static void of_many_threads_exactly_one_spends(void **state)
{
    stage *s = *state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    for (int i = 0; i < RACES; i++) {
        pthread_t thread[THREADS];
        pthread_barrier_t start;
        _Atomic int won = 0;
        clv_auto_ptr(clv_voucher) voucher = NULL;
        assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
        race r = {voucher, &operation, &start, &won};
        pthread_barrier_init(&start, NULL, THREADS);
        for (int k = 0; k < THREADS; k++)
            assert_int_equal(pthread_create(&thread[k], NULL, run_race, &r), 0);
        for (int k = 0; k < THREADS; k++)
            pthread_join(thread[k], NULL);
        pthread_barrier_destroy(&start);
        assert_int_equal(won, 1);
    }
    stage_close(s);
}

static void a_voucher_that_was_taken_away_is_nobody_elses(void **state)
{
    stage *s = *state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_voucher *owned = NULL;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    assert_ok(clv_gate_vouch(s->gate, &operation, &owned, err));
    clv_auto_ptr(clv_voucher) mine = clv_voucher_move(&owned);
    assert_non_null(mine);
    assert_null(owned);
    assert_null(clv_voucher_move(&owned));
    clv_voucher_free(&mine);
    stage_close(s);
}

static bool same_key(clv_voucher *a, clv_voucher *b)
{
    return EVP_PKEY_eq(clv_voucher_key(a), clv_voucher_key(b)) == 1;
}

static void a_voucher_prepared_ahead_is_taken_once(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto_ptr(clv_voucher) first = NULL;
    clv_auto_ptr(clv_voucher) second = NULL;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    assert_ok(clv_gate_prepare(s->gate, &operation, err));
    unsigned before = s->liar.documents;
    assert_ok(clv_gate_vouch(s->gate, &operation, &first, err));
    assert_int_equal(s->liar.documents, before);
    assert_ok(clv_gate_vouch(s->gate, &operation, &second, err));
    assert_int_equal(s->liar.documents, before + 1);
    assert_ok(clv_voucher_spend(first, &operation, err));
    assert_ok(clv_voucher_spend(second, &operation, err));
    assert_false(same_key(first, second));
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.ahead_taken, 1);
    assert_int_equal(metrics.ahead_missed, 1);
    assert_int_equal(metrics.ahead_ready, 0);
    clv_voucher_free(&first);
    clv_voucher_free(&second);
    stage_close(s);
}

static void other_parameters_miss_what_was_prepared(void **state)
{
    stage *s = *state;
    stage_open(s, stage_pins());
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    assert_ok(clv_gate_prepare(s->gate, &operation, err));
    for (size_t i = 0; i < ROWS(changes); i++) {
        clv_auto(clv_operation) other = CLV_OPERATION_INIT;
        clv_auto_ptr(clv_voucher) voucher = NULL;
        unsigned before = s->liar.documents;
        assert_ok(clv_operation_copy(&operation, &other, err));
        changes[i].change(&other);
        assert_ok(clv_gate_vouch(s->gate, &other, &voucher, err));
        assert_int_equal(s->liar.documents, before + 1);
        assert_ok(clv_voucher_spend(voucher, &other, err));
    }
    stage_close(s);
}

/* Recomputed from its parts: SHA-384 of {index: register} and the operation's encoding. */
static void what_is_prepared_is_kept_by_registers_and_operation(void **state)
{
    (void)state;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_buf) both = CLV_BUF_INIT;
    clv_identity identity = {.pcrs = {.present = 1 | 1 << 2}};
    uint8_t id[CLV_AHEAD_ID_SIZE], again[CLV_AHEAD_ID_SIZE], expected[CLV_AHEAD_ID_SIZE];
    stage_operation("AgentSecrets", &operation);
    memset(identity.pcrs.value[0], 0xa0, CLV_PCR_SIZE);
    memset(identity.pcrs.value[2], 0xa2, CLV_PCR_SIZE);
    assert_ok(clv_buf_append_text(&both, "\xa2", err));
    for (uint8_t i = 0; i < 3; i += 2) {
        assert_ok(clv_buf_u8(&both, i, err));
        assert_ok(clv_buf_append_text(&both, "\x58\x30", err));
        assert_ok(clv_buf_append(&both, CLV_BYTES(identity.pcrs.value[i], CLV_PCR_SIZE), err));
    }
    assert_ok(clv_operation_encode(&operation, &both, err));
    assert_ok(clv_sha384(clv_buf_bytes(&both), expected, err));
    assert_ok(clv_cache_id(&identity, &operation, id, err));
    assert_memory_equal(id, expected, sizeof id);

    identity.pcrs.value[2][0] ^= 1;
    assert_ok(clv_cache_id(&identity, &operation, again, err));
    assert_memory_not_equal(id, again, sizeof id);
    identity.pcrs.value[2][0] ^= 1;
    identity.pcrs.present |= 1 << 3;
    assert_ok(clv_cache_id(&identity, &operation, again, err));
    assert_memory_not_equal(id, again, sizeof id);
}

static void the_cache_is_bounded_and_the_oldest_goes(void **state)
{
    stage *s = *state;
    enum { BOUND = 2 }; /* few: on a slow machine many would grow old meanwhile */
    clv_gate_metrics metrics;
    char purpose[16];
    stage_open(s, stage_pins());
    assert_ok(clv_gate_work_ahead(s->gate, 0, BOUND, err));
    for (int i = 0; i <= BOUND; i++) {
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        snprintf(purpose, sizeof purpose, "%d", i);
        stage_operation(purpose, &operation);
        assert_ok(clv_gate_prepare(s->gate, &operation, err));
    }
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.ahead_ready, BOUND);
    for (int i = 0; i < 2; i++) {
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        clv_auto_ptr(clv_voucher) voucher = NULL;
        snprintf(purpose, sizeof purpose, "%d", i);
        stage_operation(purpose, &operation);
        assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
    }
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.ahead_missed, 1);
    assert_int_equal(metrics.ahead_taken, 1);
    stage_close(s);
}

static void no_more_is_kept_than_was_asked_for(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    for (size_t most = 0; most < 3; most++) {
        stage_open(s, stage_pins());
        assert_ok(clv_gate_work_ahead(s->gate, 0, most, err));
        for (int i = 0; i < 4; i++) {
            char purpose[16];
            clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
            snprintf(purpose, sizeof purpose, "%d", i);
            stage_operation(purpose, &operation);
            assert_ok(clv_gate_prepare(s->gate, &operation, err));
            clv_gate_read_metrics(s->gate, &metrics);
            assert_true(metrics.ahead_ready <= most);
        }
        assert_int_equal(metrics.ahead_ready, most);
        stage_close(s);
    }
}

static void what_nobody_takes_is_not_given_out_old(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto_ptr(clv_voucher) voucher = NULL;
    stage_operation("AgentSecrets", &operation);
    open_with(s, 4);
    assert_ok(clv_gate_prepare(s->gate, &operation, err));
    usleep(2100 * 1000);
    assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.ahead_taken, 0);
    assert_int_equal(metrics.ahead_missed, 1);
    assert_int_equal(metrics.ahead_ready, 0);
    clv_voucher_free(&voucher);
    stage_close(s);
}

static void wait_for(stage *s, uint64_t keys, uint64_t vouchers)
{
    clv_gate_metrics metrics;
    for (int i = 0; i < 6000; i++) {
        clv_gate_read_metrics(s->gate, &metrics);
        if (metrics.keys_ready == keys && metrics.ahead_ready == vouchers)
            return;
        usleep(10000);
    }
    fail_msg("expected %d keys and %d vouchers to become ready", (int)keys, (int)vouchers);
}

static void working_ahead_no_request_waits_for_a_key_or_a_document(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    assert_ok(clv_gate_work_ahead(s->gate, 2, 1, err));
    wait_for(s, 2, 0);
    for (int i = 0; i < 4; i++) {
        clv_auto_ptr(clv_voucher) voucher = NULL;
        assert_ok(clv_gate_vouch(s->gate, &operation, &voucher, err));
        assert_ok(clv_voucher_spend(voucher, &operation, err));
        wait_for(s, 2, i == 0 ? 0 : 1);
    }
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.keys_made, 0);
    assert_int_equal(metrics.ahead_missed, 2);
    assert_int_equal(metrics.ahead_taken, 2);
    assert_code(clv_gate_work_ahead(s->gate, 2, 1, err), CLV_INTERNAL);
    stage_close(s);
}

static void keys_of_the_pool_are_used_once_each(void **state)
{
    stage *s = *state;
    enum { VOUCHERS = 4 };
    clv_voucher *voucher[VOUCHERS] = {NULL};
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    set_action(&operation);
    stage_open(s, stage_pins());
    assert_ok(clv_gate_work_ahead(s->gate, 2, 0, err));
    wait_for(s, 2, 0);
    for (int i = 0; i < VOUCHERS; i++) {
        assert_ok(clv_gate_vouch(s->gate, &operation, &voucher[i], err));
        assert_ok(clv_voucher_spend(voucher[i], &operation, err));
        for (int k = 0; k < i; k++)
            assert_false(same_key(voucher[i], voucher[k]));
    }
    for (int i = 0; i < VOUCHERS; i++)
        clv_voucher_free(&voucher[i]);
    stage_close(s);
}

static void a_lying_module_gives_no_voucher_ahead(void **state)
{
    stage *s = *state;
    clv_gate_metrics metrics;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    stage_operation("AgentSecrets", &operation);
    stage_open(s, stage_pins());
    s->liar.lie = LIE_OTHER_ENCLAVE;
    assert_code(clv_gate_prepare(s->gate, &operation, err), CLV_GATE_IDENTITY);
    clv_gate_read_metrics(s->gate, &metrics);
    assert_int_equal(metrics.ahead_ready, 0);
    assert_int_equal(metrics.refused, 1);
    stage_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_nothing_before_it_is_spent_and_everything_after),
        cmocka_unit_test(refuses_every_other_operation_and_is_spent_by_it),
        cmocka_unit_test(a_decrypt_is_bound_to_its_ciphertext),
        cmocka_unit_test(nothing_can_be_spent_where_nothing_is),
        cmocka_unit_test(an_operation_that_kms_would_refuse_is_not_vouched_for),
        cmocka_unit_test(expires_unused),
        cmocka_unit_test(of_many_threads_exactly_one_spends),
        cmocka_unit_test(a_voucher_that_was_taken_away_is_nobody_elses),
        cmocka_unit_test(a_voucher_prepared_ahead_is_taken_once),
        cmocka_unit_test(other_parameters_miss_what_was_prepared),
        cmocka_unit_test(what_is_prepared_is_kept_by_registers_and_operation),
        cmocka_unit_test(the_cache_is_bounded_and_the_oldest_goes),
        cmocka_unit_test(no_more_is_kept_than_was_asked_for),
        cmocka_unit_test(what_nobody_takes_is_not_given_out_old),
        cmocka_unit_test(working_ahead_no_request_waits_for_a_key_or_a_document),
        cmocka_unit_test(keys_of_the_pool_are_used_once_each),
        cmocka_unit_test(a_lying_module_gives_no_voucher_ahead),
    };
    return cmocka_run_group_tests(tests, stage_group_start, stage_group_stop);
}

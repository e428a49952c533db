/* What a witness saw against what a store says: every case, and records that are not ours. */
#include "../check.h"

#include <vault/derive.h>
#include <witness/judge.h>

typedef struct judged {
    const char *what;
    uint64_t seen; /* 0: nothing */
    bool deleted, exact;
    uint64_t held;
    bool same; /* the store's digest is the one seen */
    clv_status status;
    clv_verdict verdict;
} judged;

static const judged judged_table[] = {
    {"nothing anywhere", 0, false, true, 0, true, CLV_OK, CLV_VERDICT_ABSENT},
    {"nothing anywhere, by receipt", 0, false, false, 0, true, CLV_OK, CLV_VERDICT_ABSENT},
    {"the very same", 5, false, true, 5, true, CLV_OK, CLV_VERDICT_SAME},
    {"the very same, by receipt", 5, false, false, 5, true, CLV_OK, CLV_VERDICT_SAME},
    {"a first put that was not acknowledged", 0, false, true, 1, false, CLV_OK, CLV_VERDICT_AHEAD},
    {"a put that was not acknowledged", 5, false, true, 6, false, CLV_OK, CLV_VERDICT_AHEAD},
    {"others wrote since the receipt", 5, false, false, 9, false, CLV_OK, CLV_VERDICT_AHEAD},
    {"an empty store", 5, false, true, 0, false, CLV_WITNESS_ROLLBACK, CLV_VERDICT_ABSENT},
    {"an empty store, by receipt", 5, false, false, 0, false, CLV_WITNESS_ROLLBACK,
     CLV_VERDICT_ABSENT},
    {"an empty store after one put", 1, false, true, 0, false, CLV_WITNESS_ROLLBACK,
     CLV_VERDICT_ABSENT},
    {"one older", 5, false, true, 4, false, CLV_WITNESS_ROLLBACK, CLV_VERDICT_ABSENT},
    {"one older, by receipt", 5, false, false, 4, false, CLV_WITNESS_ROLLBACK, CLV_VERDICT_ABSENT},
    {"much older", 5, false, true, 1, false, CLV_WITNESS_ROLLBACK, CLV_VERDICT_ABSENT},
    {"a fork", 5, false, true, 5, false, CLV_WITNESS_FORK, CLV_VERDICT_ABSENT},
    {"a fork, by receipt", 5, false, false, 5, false, CLV_WITNESS_FORK, CLV_VERDICT_ABSENT},
    {"a fork that went on", 5, false, true, 7, false, CLV_WITNESS_FORK, CLV_VERDICT_ABSENT},
    {"a store that the witness never saw", 0, false, true, 2, false, CLV_WITNESS_FORK,
     CLV_VERDICT_ABSENT},
    {"deleted, and it says so", 5, true, true, 5, false, CLV_OK, CLV_VERDICT_SAME},
    {"deleted, and alive again before", 5, true, true, 4, false, CLV_WITNESS_ROLLBACK,
     CLV_VERDICT_ABSENT},
    {"deleted, and the store is empty", 5, true, true, 0, false, CLV_WITNESS_ROLLBACK,
     CLV_VERDICT_ABSENT},
    {"deleted, and made again", 5, true, true, 6, false, CLV_OK, CLV_VERDICT_AHEAD},
};

static void every_store_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(judged_table); i++) {
        const judged *row = &judged_table[i];
        clv_error err = {.code = CLV_OK};
        clv_verdict verdict = CLV_VERDICT_ABSENT;
        clv_seen seen = {.known = row->seen > 0, .exact = row->exact};
        clv_held held = {.generation = row->held};
        seen.record.kind = row->deleted ? CLV_RECORD_DELETED : CLV_RECORD_STATE;
        seen.record.generation = row->seen;
        memset(seen.record.digest, 1, sizeof seen.record.digest);
        memset(held.digest, row->same ? 1 : 2, sizeof held.digest);
        clv_status status = clv_judge("key/name", &seen, &held, &verdict, &err);
        if (status != row->status || (status == CLV_OK && verdict != row->verdict))
            fail_msg("%s: status %s, verdict %d", row->what, clv_status_slug(status), verdict);
    }
}

static void a_digest_that_differs_in_its_last_byte_is_a_fork(void **state)
{
    (void)state;
    clv_verdict verdict;
    clv_seen seen = {.known = true, .exact = true, .record = {.kind = CLV_RECORD_STATE}};
    clv_held held = {.generation = 3};
    seen.record.generation = 3;
    held.digest[sizeof held.digest - 1] = 1;
    assert_code(clv_judge("key/name", &seen, &held, &verdict, err), CLV_WITNESS_FORK);
}

typedef struct signer {
    clv_secret *seed;
    uint8_t key[CLV_RECORD_PUBLIC];
} signer;

static signer new_signer(uint8_t fill)
{
    signer s = {.seed = NULL};
    clv_auto(clv_buf) public_key = CLV_BUF_INIT;
    assert_ok(clv_secret_new(32, &s.seed, err));
    memset(clv_secret_writable(s.seed), fill, 32);
    assert_ok(clv_derive_public(CLV_DERIVE_ED25519, s.seed, &public_key, err));
    memcpy(s.key, public_key.p, sizeof s.key);
    return s;
}

static clv_record example(void)
{
    clv_record record = {.kind = CLV_RECORD_STATE,
                         .name = "agent-state/memory",
                         .generation = UINT64_C(1) << 53,
                         .time_ms = 1795618533385,
                         .by = "uid 1000"};
    memset(record.fleet, 7, sizeof record.fleet);
    memset(record.digest, 9, sizeof record.digest);
    return record;
}

static void a_record_comes_back_as_it_was_signed(void **state)
{
    (void)state;
    signer s = new_signer(1);
    for (clv_record_kind kind = 0; kind < CLV_RECORD_KIND_COUNT; kind++) {
        clv_auto(clv_buf) bytes = CLV_BUF_INIT;
        clv_record record = example(), found;
        record.kind = kind;
        assert_ok(clv_record_sign(&record, s.seed, &bytes, err));
        assert_true(clv_record_like(clv_buf_bytes(&bytes)));
        assert_true(bytes.n <= CLV_RECORD_MAX);
        assert_ok(clv_record_open(clv_buf_bytes(&bytes), s.key, &found, err));
        assert_int_equal(found.kind, kind);
        assert_string_equal(found.name, record.name);
        assert_string_equal(found.by, record.by);
        assert_int_equal(found.generation, record.generation);
        assert_int_equal(found.time_ms, record.time_ms);
        assert_memory_equal(found.digest, record.digest, sizeof record.digest);
        assert_memory_equal(found.fleet, record.fleet, sizeof record.fleet);
    }
    clv_secret_free(&s.seed);
}

static void the_longest_record_fits_its_limit(void **state)
{
    (void)state;
    signer s = new_signer(1);
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_record record = example(), found;
    memset(record.name, 'n', CLV_WITNESS_NAME_MAX);
    memset(record.by, 'b', CLV_WITNESS_BY_MAX);
    assert_ok(clv_record_sign(&record, s.seed, &bytes, err));
    assert_ok(clv_record_open(clv_buf_bytes(&bytes), s.key, &found, err));
    clv_secret_free(&s.seed);
}

static void any_changed_bit_of_a_record_is_refused(void **state)
{
    (void)state;
    signer s = new_signer(1);
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_record record = example(), found;
    assert_ok(clv_record_sign(&record, s.seed, &bytes, err));
    for (size_t bit = 0; bit < bytes.n * 8; bit++) {
        bytes.p[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_code(clv_record_open(clv_buf_bytes(&bytes), s.key, &found, err), CLV_WITNESS_RECORD);
        bytes.p[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    clv_secret_free(&s.seed);
}

static void a_record_that_is_cut_or_longer_is_refused(void **state)
{
    (void)state;
    signer s = new_signer(1);
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_record record = example(), found;
    assert_ok(clv_record_sign(&record, s.seed, &bytes, err));
    for (size_t n = 0; n < bytes.n; n++) {
        assert_code(clv_record_open(CLV_BYTES(bytes.p, n), s.key, &found, err), CLV_WITNESS_RECORD);
    }
    assert_ok(clv_buf_u8(&bytes, 0, err));
    assert_code(clv_record_open(clv_buf_bytes(&bytes), s.key, &found, err), CLV_WITNESS_RECORD);
    clv_secret_free(&s.seed);
}

static void a_record_of_another_fleet_is_refused(void **state)
{
    (void)state;
    signer ours = new_signer(1), theirs = new_signer(2);
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_record record = example(), found;
    assert_ok(clv_record_sign(&record, theirs.seed, &bytes, err));
    assert_code(clv_record_open(clv_buf_bytes(&bytes), ours.key, &found, err), CLV_WITNESS_RECORD);
    clv_secret_free(&ours.seed);
    clv_secret_free(&theirs.seed);
}

static void no_sealed_message_is_taken_for_a_record(void **state)
{
    (void)state;
    const uint8_t sealed[] = {0x02, 0x05, 0x78};
    assert_false(clv_record_like(CLV_BYTES(sealed, sizeof sealed)));
    assert_false(clv_record_like(CLV_BYTES(NULL, 0)));
}

int main(void)
{
    clv_error err = {.code = CLV_OK};
    if (clv_secret_start(&err) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_store_has_its_verdict),
        cmocka_unit_test(a_digest_that_differs_in_its_last_byte_is_a_fork),
        cmocka_unit_test(a_record_comes_back_as_it_was_signed),
        cmocka_unit_test(the_longest_record_fits_its_limit),
        cmocka_unit_test(any_changed_bit_of_a_record_is_refused),
        cmocka_unit_test(a_record_that_is_cut_or_longer_is_refused),
        cmocka_unit_test(a_record_of_another_fleet_is_refused),
        cmocka_unit_test(no_sealed_message_is_taken_for_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

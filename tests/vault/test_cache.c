/* The cache of data keys (R14), with times made up. */
#include "../check.h"

#include <vault/cache.h>

static const uint8_t id_a[CLV_KEY_CACHE_ID] = "a";
static const uint8_t id_b[CLV_KEY_CACHE_ID] = "b";
static const clv_cache_limits limits = {.max_age_s = 10, .max_messages = 3, .max_bytes = 100};

typedef struct kept {
    clv_key_cache *cache;
    clv_secret *data_key;
} kept;

static void kept_make(kept *k)
{
    *k = (kept){0};
    assert_ok(clv_key_cache_new(&k->cache, err));
    assert_ok(clv_secret_random(32, &k->data_key, err));
}

static void kept_drop(kept *k)
{
    clv_key_cache_free(&k->cache);
    clv_secret_free(&k->data_key);
}

static void put(kept *k, const uint8_t *id, const clv_cache_limits *with, uint64_t n, uint64_t now)
{
    assert_ok(
        clv_key_cache_put(k->cache, id, with, k->data_key, clv_bytes_of("blob"), n, now, err));
}

static bool hit(kept *k, const uint8_t *id, uint64_t n, uint64_t now)
{
    clv_cached_key *key = clv_key_cache_take(k->cache, id, n, now);
    if (key == NULL)
        return false;
    assert_true(clv_secret_equal(clv_cached_key_secret(key), k->data_key));
    assert_bytes(clv_cached_key_encrypted(key), "blob");
    clv_key_cache_give_back(k->cache, &key);
    assert_null(key);
    return true;
}

static void gives_a_key_under_its_own_id_only(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    put(&k, id_a, &limits, 1, 0);
    assert_false(hit(&k, id_b, 1, 1));
    assert_true(hit(&k, id_a, 1, 1));
}

static void ends_at_its_age(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    put(&k, id_a, &limits, 1, 1000);
    assert_true(hit(&k, id_a, 1, 10999));
    assert_false(hit(&k, id_a, 1, 11000));
    assert_false(hit(&k, id_a, 1, 1001)); /* gone, not only refused */
}

static void ends_at_its_messages(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    put(&k, id_a, &limits, 1, 0);
    assert_true(hit(&k, id_a, 1, 1));
    assert_true(hit(&k, id_a, 1, 1));
    assert_false(hit(&k, id_a, 1, 1));
}

static void ends_at_its_bytes(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    put(&k, id_a, &limits, 60, 0);
    assert_false(hit(&k, id_a, 41, 1));
    put(&k, id_a, &limits, 60, 0);
    assert_true(hit(&k, id_a, 40, 1));
    assert_false(hit(&k, id_a, UINT64_MAX, 1));
}

static void keeps_nothing_where_the_limits_leave_no_second_message(void **state)
{
    (void)state;
    static const clv_cache_limits cases[] = {
        {0, 3, 100}, {10, 1, 100}, {10, 0, 100}, {10, 3, 0}, {10, 3, 1}};
    clv_auto(kept) k;
    kept_make(&k);
    for (size_t i = 0; i < ROWS(cases); i++) {
        put(&k, id_a, &cases[i], 1, 0);
        assert_false(hit(&k, id_a, 0, 1));
    }
}

static void a_sweep_wipes_what_is_too_old_and_says_when_to_come_again(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    put(&k, id_a, &limits, 1, 0);
    put(&k, id_b, &limits, 1, 500);
    assert_int_equal(clv_key_cache_sweep(k.cache, 1), 10000);
    assert_int_equal(clv_key_cache_sweep(k.cache, 10000), 10500);
    assert_int_equal(clv_key_cache_sweep(k.cache, 10500), UINT64_MAX);
}

static void a_key_in_use_lives_until_it_is_given_back(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    put(&k, id_a, &limits, 1, 0);
    clv_cached_key *key = clv_key_cache_take(k.cache, id_a, 1, 1);
    assert_non_null(key);
    clv_key_cache_sweep(k.cache, 20000);
    assert_false(hit(&k, id_a, 1, 1));
    assert_true(clv_secret_equal(clv_cached_key_secret(key), k.data_key));
    clv_key_cache_give_back(k.cache, &key);
}

static void the_oldest_makes_room(void **state)
{
    (void)state;
    clv_auto(kept) k;
    kept_make(&k);
    uint8_t id[CLV_KEY_CACHE_ID] = {0};
    for (int i = 0; i < CLV_KEY_CACHE_ENTRIES + 1; i++) {
        id[0] = (uint8_t)i;
        put(&k, id, &limits, 1, (uint64_t)i);
    }
    id[0] = 0;
    assert_false(hit(&k, id, 1, 100));
    id[0] = 1;
    assert_true(hit(&k, id, 1, 100));
}

/* Everything that a call says is part of the id, and so is the name of the policy's key. */
static void another_operation_has_another_id(void **state)
{
    (void)state;
    uint8_t ids[5][CLV_KEY_CACHE_ID];
    clv_policy_key key = {.name = "k"};
    clv_policy_key other = {.name = "l"};
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    operation.action = CLV_GENERATE_DATA_KEY;
    operation.key_arn = strdup("arn:aws:kms:us-east-1:123456789012:key/"
                               "1234abcd-12ab-34cd-56ef-1234567890ab");
    operation.number_of_bytes = 32;
    assert_ok(clv_key_cache_id(&key, &operation, ids[0], err));
    assert_ok(clv_key_cache_id(&other, &operation, ids[1], err));
    assert_ok(clv_context_add(&operation.context, "claviger:name", "n", err));
    assert_ok(clv_key_cache_id(&key, &operation, ids[2], err));
    operation.key_arn[strlen(operation.key_arn) - 1] = 'c';
    assert_ok(clv_key_cache_id(&key, &operation, ids[3], err));
    operation.number_of_bytes = 0;
    operation.action = CLV_DECRYPT;
    assert_ok(clv_buf_append_text(&operation.ciphertext, "blob", err));
    assert_ok(clv_key_cache_id(&key, &operation, ids[4], err));
    for (size_t i = 0; i < ROWS(ids); i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(ids[i], ids[j], CLV_KEY_CACHE_ID);
}

int main(void)
{
    if (clv_secret_start(NULL) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_a_key_under_its_own_id_only),
        cmocka_unit_test(ends_at_its_age),
        cmocka_unit_test(ends_at_its_messages),
        cmocka_unit_test(ends_at_its_bytes),
        cmocka_unit_test(keeps_nothing_where_the_limits_leave_no_second_message),
        cmocka_unit_test(a_sweep_wipes_what_is_too_old_and_says_when_to_come_again),
        cmocka_unit_test(a_key_in_use_lives_until_it_is_given_back),
        cmocka_unit_test(the_oldest_makes_room),
        cmocka_unit_test(another_operation_has_another_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* R3, R6, R26: measured boot, the signed baseline at the start, and randomness. */
#include "stage.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/rand.h>
#include <sodium.h>

#include <base/crypto.h>
#include <base/file.h>

/* The kernel's pool, as these tests want it; everybody else gets the true one. */
static _Atomic bool pool_is_empty;

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    if (pool_is_empty && (flags & GRND_NONBLOCK) != 0) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_getrandom, buffer, length, flags);
}

/* What OpenSSL's generator was given, in place of giving it. */
static struct {
    uint8_t p[NSM_RANDOM_SIZE];
    size_t n;
} seeded_with;

void RAND_seed(const void *seed, int n)
{
    assert_in_range(n, 1, sizeof seeded_with.p);
    memcpy(seeded_with.p, seed, (size_t)n);
    seeded_with.n = (size_t)n;
}

static clv_status open_gate(stage *s, const char *baseline, const char *signature, clv_error *err)
{
    return clv_gate_open(s->nsm, s->policy, clv_bytes_of(baseline), clv_bytes_of(signature),
                         &s->clock, &s->gate, err);
}

static void the_policy_is_what_register_16_measures(void **state)
{
    stage *s = *state;
    clv_nsm_pcr pcr;
    uint8_t digest[CLV_SHA384_SIZE], input[2 * CLV_PCR_SIZE] = {0}, expected[CLV_PCR_SIZE];
    stage_boot(s, stage_pins(), "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_ok(clv_sha384(clv_buf_bytes(&s->policy->bytes), digest, err));
    memcpy(input + CLV_PCR_SIZE, digest, sizeof digest);
    assert_ok(clv_sha384(CLV_BYTES(input, sizeof input), expected, err));
    assert_ok(clv_nsm_describe_pcr(s->nsm, 16, &pcr, err));
    assert_memory_equal(pcr.value, expected, sizeof expected);
    for (uint16_t i = 16; i < CLV_PCR_COUNT; i++) {
        assert_ok(clv_nsm_describe_pcr(s->nsm, i, &pcr, err));
        assert_true(pcr.locked);
    }
    stage_close(s);
}

static void one_space_more_is_another_register_16(void **state)
{
    stage *s = *state;
    clv_policy *a = stage_policy(&s->liar, stage_pins(), "");
    clv_policy *b = stage_policy(&s->liar, stage_pins(), " ");
    assert_memory_not_equal(a->pcr16, b->pcr16, CLV_PCR_SIZE);
    clv_policy_free(&a);
    clv_policy_free(&b);
}

static void refuses_registers_that_somebody_touched_before(void **state)
{
    stage *s = *state;
    static const uint16_t touched[] = {16, 17, 31};
    for (size_t i = 0; i < ROWS(touched); i++) {
        stage_boot(s, stage_pins(), "");
        assert_ok(clv_nsm_extend_pcr(s->nsm, touched[i], clv_bytes_of("before"), NULL, err));
        assert_code(clv_gate_measure(s->nsm, s->policy, err), CLV_POLICY_PCR_STATE);
        stage_close(s);

        stage_boot(s, stage_pins(), "");
        assert_ok(clv_nsm_lock_pcr(s->nsm, touched[i], err));
        assert_code(clv_gate_measure(s->nsm, s->policy, err), CLV_POLICY_PCR_STATE);
        stage_close(s);
    }
}

static void measures_once_for_each_boot(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_code(clv_gate_measure(s->nsm, s->policy, err), CLV_POLICY_PCR_STATE);
    stage_close(s);
}

static void opens_no_gate_before_the_policy_is_measured(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    assert_code(open_gate(s, "", "", err), CLV_ATT_PCR_MISSING);
    assert_null(s->gate);
    stage_close(s);
}

static void opens_no_gate_for_another_policy_than_the_measured_one(void **state)
{
    stage *s = *state;
    clv_gate *gate = NULL;
    stage_boot(s, stage_pins(), "");
    clv_policy *other = stage_policy(&s->liar, stage_pins(), " ");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_code(
        clv_gate_open(s->nsm, other, CLV_BYTES(NULL, 0), CLV_BYTES(NULL, 0), &s->clock, &gate, err),
        CLV_ATT_PCR_MISMATCH);
    assert_null(gate);
    clv_policy_free(&other);
    stage_close(s);
}

static void a_module_that_measured_something_else_stops_the_start(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    s->liar.lie = LIE_EXTEND;
    assert_code(clv_gate_measure(s->nsm, s->policy, err), CLV_POLICY_PCR_STATE);
    stage_close(s);
}

static void a_module_that_did_not_lock_stops_the_start(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    s->liar.lie = LIE_LOCK;
    assert_code(clv_gate_measure(s->nsm, s->policy, err), CLV_POLICY_PCR_STATE);
    stage_close(s);
}

static void files_of_the_policy_are_measured_behind_it(void **state)
{
    stage *s = *state;
    char path[96], top[160];
    clv_nsm_pcr before, after;
    snprintf(path, sizeof path, "%s/agent", s->liar.dir);
    snprintf(top, sizeof top, "\"measure\": {\"18\": \"%s\"},", path);

    assert_ok(clv_file_write(path, clv_bytes_of("agent"), 0600, err));
    stage_boot(s, stage_pins(), top);
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_ok(clv_nsm_describe_pcr(s->nsm, 18, &before, err));
    assert_ok(open_gate(s, "", "", err));
    assert_memory_equal(clv_gate_identity(s->gate)->pcrs.value[18], before.value, CLV_PCR_SIZE);
    stage_close(s);

    uint8_t digest[CLV_SHA384_SIZE], input[2 * CLV_PCR_SIZE] = {0}, expected[CLV_PCR_SIZE];
    assert_ok(clv_sha384(clv_bytes_of("agent"), digest, err));
    memcpy(input + CLV_PCR_SIZE, digest, sizeof digest);
    assert_ok(clv_sha384(CLV_BYTES(input, sizeof input), expected, err));
    assert_memory_equal(before.value, expected, CLV_PCR_SIZE);

    assert_ok(clv_file_write(path, clv_bytes_of("Agent"), 0600, err));
    stage_boot(s, stage_pins(), top);
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_ok(clv_nsm_describe_pcr(s->nsm, 18, &after, err));
    assert_memory_not_equal(before.value, after.value, CLV_PCR_SIZE);
    stage_close(s);
}

static void a_file_that_is_not_there_stops_the_start(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "\"measure\": {\"17\": \"/nonexistent/agent\"},");
    assert_code(clv_gate_measure(s->nsm, s->policy, err), CLV_SYSTEM);
    stage_close(s);
}

/* ---- the baseline at the start ---- */

typedef struct release_signer {
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES];
    char attestation[128]; /* "release_keys": […] */
    clv_buf baseline, signature;
} release_signer;

static void signer_start(release_signer *r)
{
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    const char *base64;
    *r = (release_signer){.baseline = CLV_BUF_INIT, .signature = CLV_BUF_INIT};
    crypto_sign_keypair(r->public_key, r->secret_key);
    assert_ok(clv_buf_append_text(&key, "Ed12345678", err));
    assert_ok(clv_buf_append(&key, CLV_BYTES(r->public_key, sizeof r->public_key), err));
    assert_ok(clv_base64_append(&text, clv_buf_bytes(&key), err));
    assert_ok(clv_buf_text(&text, &base64, err));
    snprintf(r->attestation, sizeof r->attestation, "\"release_keys\": [\"%s\"]", base64);
}

static void signer_drop(release_signer *r)
{
    clv_buf_drop(&r->baseline);
    clv_buf_drop(&r->signature);
}

static void add_pcr(clv_buf *out, int index, uint8_t byte, const char *end)
{
    uint8_t value[CLV_PCR_SIZE];
    memset(value, byte, sizeof value);
    assert_ok(clv_buf_printf(out, err, "\"%d\": \"", index));
    assert_ok(clv_hex_append(out, CLV_BYTES(value, sizeof value), err));
    assert_ok(clv_buf_printf(out, err, "\"%s", end));
}

/* One release of the honest image, but for PCR`wrong`; signed as minisign's legacy form is. */
static void sign_baseline(release_signer *r, int wrong, const char *revoked)
{
    static const char comment[] = "test";
    uint8_t signature[crypto_sign_BYTES], global[crypto_sign_BYTES];
    clv_auto(clv_buf) first = CLV_BUF_INIT;
    clv_auto(clv_buf) second = CLV_BUF_INIT;
    clv_buf_drop(&r->baseline);
    clv_buf_drop(&r->signature);
    assert_ok(clv_buf_append_text(
        &r->baseline, "{\"version\": 1, \"releases\": [{\"name\": \"1.0\", \"pcrs\": {", err));
    for (int i = 0; i < 3; i++)
        add_pcr(&r->baseline, i, (uint8_t)(LIAR_PCR_BYTE(i) ^ (i == wrong)), i < 2 ? "," : "}}]");
    assert_ok(clv_buf_printf(&r->baseline, err, ", \"revoked\": [%s]}", revoked));

    crypto_sign_detached(signature, NULL, r->baseline.p, r->baseline.n, r->secret_key);
    assert_ok(clv_buf_append(&second, CLV_BYTES(signature, sizeof signature), err));
    assert_ok(clv_buf_append_text(&second, comment, err));
    crypto_sign_detached(global, NULL, second.p, second.n, r->secret_key);
    assert_ok(clv_buf_append_text(&first, "Ed12345678", err));
    assert_ok(clv_buf_append(&first, CLV_BYTES(signature, sizeof signature), err));
    assert_ok(clv_buf_append_text(&r->signature, "untrusted comment: x\n", err));
    assert_ok(clv_base64_append(&r->signature, clv_buf_bytes(&first), err));
    assert_ok(clv_buf_printf(&r->signature, err, "\ntrusted comment: %s\n", comment));
    assert_ok(clv_base64_append(&r->signature, CLV_BYTES(global, sizeof global), err));
}

static clv_status open_signed(stage *s, const release_signer *r, clv_error *err)
{
    return clv_gate_open(s->nsm, s->policy, clv_buf_bytes(&r->baseline),
                         clv_buf_bytes(&r->signature), &s->clock, &s->gate, err);
}

static void only_a_release_of_the_signed_baseline_opens_the_gate(void **state)
{
    stage *s = *state;
    release_signer r;
    signer_start(&r);
    stage_boot(s, r.attestation, "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    for (int wrong = 0; wrong < 3; wrong++) {
        sign_baseline(&r, wrong, "");
        assert_code(open_signed(s, &r, err), CLV_BASELINE_NO_MATCH);
        assert_null(s->gate);
    }
    sign_baseline(&r, -1, "\"1.0\"");
    assert_code(open_signed(s, &r, err), CLV_BASELINE_REVOKED);
    assert_null(s->gate);
    sign_baseline(&r, -1, "");
    assert_ok(open_signed(s, &r, err));
    assert_string_equal(clv_gate_identity(s->gate)->release, "1.0");
    stage_close(s);
    signer_drop(&r);
}

static void a_baseline_counts_only_under_its_signature(void **state)
{
    stage *s = *state;
    release_signer r, stranger;
    signer_start(&r);
    signer_start(&stranger);
    stage_boot(s, r.attestation, "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    assert_code(open_gate(s, "", "", err), CLV_BASELINE_FORMAT);
    sign_baseline(&stranger, -1, "");
    assert_code(open_signed(s, &stranger, err), CLV_BASELINE_SIGNATURE);
    sign_baseline(&r, -1, "");
    r.baseline.p[r.baseline.n - 1] = ' ';
    assert_code(open_signed(s, &r, err), CLV_BASELINE_SIGNATURE);
    assert_null(s->gate);
    stage_close(s);
    signer_drop(&r);
    signer_drop(&stranger);
}

/* ---- randomness ---- */

static void opens_no_gate_while_the_kernels_pool_is_not_ready(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    pool_is_empty = true;
    clv_error err = {0};
    clv_status status = open_gate(s, "", "", &err);
    pool_is_empty = false;
    assert_int_equal(status, CLV_NO_ENTROPY);
    assert_null(s->gate);
    assert_int_equal(s->liar.documents, 0);
    stage_close(s);
}

static void keys_are_made_from_what_the_module_gave_too(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    seeded_with.n = 0;
    assert_ok(open_gate(s, "", "", err));
    assert_true(seeded_with.n >= 32);
    assert_memory_equal(seeded_with.p, s->liar.random, seeded_with.n);
    stage_close(s);
}

static void opens_no_gate_on_randomness_that_is_stuck(void **state)
{
    stage *s = *state;
    stage_boot(s, stage_pins(), "");
    assert_ok(clv_gate_measure(s->nsm, s->policy, err));
    s->liar.lie = LIE_STUCK;
    assert_code(open_gate(s, "", "", err), CLV_NO_ENTROPY);
    assert_null(s->gate);
    assert_int_equal(s->liar.documents, 0);
    stage_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_no_gate_while_the_kernels_pool_is_not_ready),
        cmocka_unit_test(opens_no_gate_on_randomness_that_is_stuck),
        cmocka_unit_test(keys_are_made_from_what_the_module_gave_too),
        cmocka_unit_test(the_policy_is_what_register_16_measures),
        cmocka_unit_test(one_space_more_is_another_register_16),
        cmocka_unit_test(refuses_registers_that_somebody_touched_before),
        cmocka_unit_test(measures_once_for_each_boot),
        cmocka_unit_test(opens_no_gate_before_the_policy_is_measured),
        cmocka_unit_test(opens_no_gate_for_another_policy_than_the_measured_one),
        cmocka_unit_test(a_module_that_measured_something_else_stops_the_start),
        cmocka_unit_test(a_module_that_did_not_lock_stops_the_start),
        cmocka_unit_test(files_of_the_policy_are_measured_behind_it),
        cmocka_unit_test(a_file_that_is_not_there_stops_the_start),
        cmocka_unit_test(only_a_release_of_the_signed_baseline_opens_the_gate),
        cmocka_unit_test(a_baseline_counts_only_under_its_signature),
    };
    return cmocka_run_group_tests(tests, stage_group_start, stage_group_stop);
}

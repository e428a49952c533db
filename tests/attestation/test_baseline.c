/* The signed baseline: signed by the ordinary minisign where it is installed, checked by ours. */
#include "../check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include <base/file.h>
#include <claviger/attestation.h>

#define H(digit)                                                                                  \
    digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit     \
        digit digit digit digit digit digit digit digit digit digit digit digit digit digit digit \
            digit digit
/* 96 digits: three times 32. */
#define HEX(digit) H(digit) H(digit) H(digit)
#define RELEASE(name, a) \
    "{\"name\":\"" name  \
    "\",\"pcrs\":{\"0\":\"" HEX(a) "\",\"1\":\"" HEX("2") "\",\"2\":\"" HEX("3") "\"}}"
#define BASELINE(releases, revoked) \
    "{\"version\":1,\"releases\":[" releases "],\"revoked\":[" revoked "]}"

/* When the documents of these tests are made: 2026-01-31T00:00:00Z. */
#define AT_MS UINT64_C(1769817600000)

static clv_pcrs image(uint8_t first)
{
    clv_pcrs pcrs = {.present = 7};
    memset(pcrs.value[0], first, CLV_PCR_SIZE);
    memset(pcrs.value[1], 0x22, CLV_PCR_SIZE);
    memset(pcrs.value[2], 0x33, CLV_PCR_SIZE);
    return pcrs;
}

/* A key pair of our own, and signatures in minisign's format made with libsodium. */
typedef struct signer {
    clv_release_key key;
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
} signer;

static void signer_make(signer *s)
{
    crypto_sign_keypair(s->key.key, s->secret);
    randombytes_buf(s->key.id, sizeof s->key.id);
}

enum fault {
    NO_FAULT,
    OTHER_ALGORITHM,
    OTHER_CONTENT,
    OTHER_COMMENT,
    OTHER_KEY_ID,
    CUT,
    MORE_LINES,
    NO_UNTRUSTED,
    NO_TRUSTED,
    NOT_BASE64,
    FAULTS
};

static void sign(const signer *s, clv_bytes content, bool prehash, enum fault fault, clv_buf *out)
{
    uint8_t first[74], global[64], hash[64];
    clv_auto(clv_buf) commented = CLV_BUF_INIT;
    const char *comment = "timestamp:1 file:baseline.json";
    memcpy(first, fault == OTHER_ALGORITHM ? "EE" : prehash ? "ED" : "Ed", 2);
    memcpy(first + 2, s->key.id, 8);
    first[2] ^= fault == OTHER_KEY_ID;
    crypto_generichash(hash, sizeof hash, content.p, content.n, NULL, 0);
    clv_bytes message = prehash ? CLV_BYTES(hash, sizeof hash) : content;
    if (fault == OTHER_CONTENT)
        message = clv_bytes_of("another file");
    crypto_sign_detached(first + 10, NULL, message.p, message.n, s->secret);
    assert_ok(clv_buf_append(&commented, CLV_BYTES(first + 10, 64), err));
    assert_ok(clv_buf_append_text(&commented, comment, err));
    crypto_sign_detached(global, NULL, commented.p, commented.n, s->secret);

    assert_ok(clv_buf_append_text(
        out, fault == NO_UNTRUSTED ? "comment: x\n" : "untrusted comment: x\n", err));
    if (fault == NOT_BASE64)
        assert_ok(clv_buf_append_text(out, "*", err));
    assert_ok(clv_base64_append(out, CLV_BYTES(first, sizeof first), err));
    assert_ok(
        clv_buf_append_text(out, fault == NO_TRUSTED ? "\ncomment: " : "\ntrusted comment: ", err));
    assert_ok(clv_buf_append_text(out, fault == OTHER_COMMENT ? "another" : comment, err));
    assert_ok(clv_buf_append_text(out, "\n", err));
    if (fault == CUT)
        return;
    assert_ok(clv_base64_append(out, CLV_BYTES(global, sizeof global), err));
    assert_ok(clv_buf_append_text(out, fault == MORE_LINES ? "\nmore\n" : "\n", err));
}

static void both_algorithms_of_minisign_are_accepted(void **state)
{
    (void)state;
    clv_bytes text = clv_bytes_of(BASELINE(RELEASE("1", "1"), ""));
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    signer s[2];
    signer_make(&s[0]);
    signer_make(&s[1]);
    clv_release_key keys[] = {s[0].key, s[1].key};
    for (int i = 0; i < 4; i++) {
        clv_auto(clv_buf) signature = CLV_BUF_INIT;
        sign(&s[i / 2], text, i % 2 == 0, NO_FAULT, &signature);
        assert_ok(clv_baseline_open(text, clv_buf_bytes(&signature), keys, 2, baseline, err));
        assert_int_equal(baseline->count, 1);
    }
    test_free(baseline);
}

static void each_fault_of_a_signature_has_its_code(void **state)
{
    (void)state;
    static const clv_status expected[FAULTS] = {
        [OTHER_ALGORITHM] = CLV_BASELINE_FORMAT,
        [OTHER_CONTENT] = CLV_BASELINE_SIGNATURE,
        [OTHER_COMMENT] = CLV_BASELINE_SIGNATURE,
        [OTHER_KEY_ID] = CLV_BASELINE_KEY,
        [CUT] = CLV_BASELINE_FORMAT,
        [MORE_LINES] = CLV_BASELINE_FORMAT,
        [NO_UNTRUSTED] = CLV_BASELINE_FORMAT,
        [NO_TRUSTED] = CLV_BASELINE_FORMAT,
        [NOT_BASE64] = CLV_BASELINE_FORMAT,
    };
    clv_bytes text = clv_bytes_of(BASELINE(RELEASE("1", "1"), ""));
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    signer s;
    signer_make(&s);
    for (enum fault fault = OTHER_ALGORITHM; fault < FAULTS; fault++) {
        clv_auto(clv_buf) signature = CLV_BUF_INIT;
        sign(&s, text, true, fault, &signature);
        assert_code(clv_baseline_open(text, clv_buf_bytes(&signature), &s.key, 1, baseline, err),
                    expected[fault]);
        assert_int_equal(baseline->count, 0);
    }
    test_free(baseline);
}

static void a_changed_baseline_is_refused_before_it_is_read(void **state)
{
    (void)state;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    signer s, thief;
    signer_make(&s);
    signer_make(&thief);
    thief.key = s.key; /* the right id over a signature of another key */
    assert_ok(clv_buf_append_text(&text, BASELINE(RELEASE("1", "1"), ""), err));
    sign(&s, clv_buf_bytes(&text), true, NO_FAULT, &signature);
    for (size_t i = 0; i < text.n; i++) {
        text.p[i] ^= 1;
        assert_code(clv_baseline_open(clv_buf_bytes(&text), clv_buf_bytes(&signature), &s.key, 1,
                                      baseline, err),
                    CLV_BASELINE_SIGNATURE);
        text.p[i] ^= 1;
    }
    signature.n = 0;
    sign(&thief, clv_buf_bytes(&text), true, NO_FAULT, &signature);
    assert_code(clv_baseline_open(clv_buf_bytes(&text), clv_buf_bytes(&signature), &s.key, 1,
                                  baseline, err),
                CLV_BASELINE_SIGNATURE);
    test_free(baseline);
}

static void each_malformed_baseline_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{\"version\":2,\"releases\":[]}",
        "{\"version\":1}",
        "{\"version\":1,\"releases\":{}}",
        "{\"version\":1,\"releases\":[],\"more\":1}",
        BASELINE("7", ""),
        BASELINE("{\"name\":\"1\"}", ""),
        BASELINE("{\"name\":\"\",\"pcrs\":{}}", ""),
        BASELINE("{\"name\":\"1\",\"pcrs\":{}}", ""),
        BASELINE("{\"name\":\"1\",\"pcrs\":{\"0\":\"" HEX("1") "\"}}", ""),
        BASELINE("{\"name\":\"1\",\"pcrs\":{\"0\":\"11\"}}", ""),
        BASELINE("{\"name\":\"1\",\"pcrs\":{\"32\":\"" HEX("1") "\"}}", ""),
        BASELINE("{\"name\":\"1\",\"pcrs\":{\"00\":\"" HEX("1") "\"}}", ""),
        BASELINE(RELEASE("1", "0"), ""),
        BASELINE(RELEASE("1", "1") "," RELEASE("1", "4"), ""),
        BASELINE(RELEASE("1", "1"), "\"2\""),
        BASELINE(RELEASE("1", "1"), "7"),
        "{\"version\":1,\"releases\":[],\"expires\":1769817600}",
        "{\"version\":1,\"releases\":[],\"expires\":\"1769817600\"}",
        "{\"version\":1,\"releases\":[],\"expires\":\"2026-02-31T00:00:00Z\"}",
        "{\"version\":1,\"releases\":[],\"expires\":\"Tuesday\"}",
        "{\"version\":1,\"releases\":[],\"expires\":null}",
    };
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    for (size_t i = 0; i < ROWS(bad); i++) {
        clv_status found = clv_baseline_parse(clv_bytes_of(bad[i]), baseline, NULL);
        if (found != CLV_BASELINE_FORMAT)
            fail_msg("%s: expected baseline-format, found %s", bad[i], clv_status_slug(found));
    }
    test_free(baseline);
}

static void an_image_matches_whole_or_not_at_all(void **state)
{
    (void)state;
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    const clv_release *release = NULL;
    assert_ok(clv_baseline_parse(
        clv_bytes_of(BASELINE(RELEASE("1", "1") "," RELEASE("2", "4"), "\"1\"")), baseline, err));
    clv_pcrs found = image(0x44);
    assert_ok(clv_baseline_match(baseline, &found, AT_MS, &release, err));
    assert_string_equal(release->name, "2");

    found = image(0x11);
    assert_code(clv_baseline_match(baseline, &found, AT_MS, &release, err), CLV_BASELINE_REVOKED);
    found = image(0x55);
    assert_code(clv_baseline_match(baseline, &found, AT_MS, &release, err), CLV_BASELINE_NO_MATCH);
    for (unsigned i = 0; i < 3; i++) {
        found = image(0x44);
        found.value[i][47] ^= 1;
        assert_code(clv_baseline_match(baseline, &found, AT_MS, &release, err),
                    CLV_BASELINE_NO_MATCH);
        found = image(0x44);
        found.present &= ~(UINT32_C(1) << i);
        assert_code(clv_baseline_match(baseline, &found, AT_MS, &release, err),
                    CLV_BASELINE_NO_MATCH);
        found = image(0x44);
        memset(found.value[i], 0, CLV_PCR_SIZE);
        assert_code(clv_baseline_match(baseline, &found, AT_MS, &release, err),
                    CLV_BASELINE_NO_MATCH);
    }
    test_free(baseline);
}

static void an_image_revoked_under_one_name_is_in_force_under_none(void **state)
{
    (void)state;
    static const char *const revoked[] = {"\"1\"", "\"2\"", "\"1\",\"2\""};
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    const clv_release *release = NULL;
    clv_pcrs found = image(0x11);
    for (size_t i = 0; i < ROWS(revoked); i++) {
        clv_auto(clv_buf) text = CLV_BUF_INIT;
        assert_ok(clv_buf_printf(
            &text, err, BASELINE(RELEASE("1", "1") "," RELEASE("2", "1"), "%s"), revoked[i]));
        assert_ok(clv_baseline_parse(clv_buf_bytes(&text), baseline, err));
        assert_code(clv_baseline_match(baseline, &found, AT_MS, &release, err),
                    CLV_BASELINE_REVOKED);
        assert_null(release);
    }
    test_free(baseline);
}

static void a_baseline_counts_to_its_last_instant(void **state)
{
    (void)state;
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    const clv_release *release = NULL;
    clv_pcrs found = image(0x11);
    assert_ok(clv_baseline_parse(clv_bytes_of("{\"version\":1,\"releases\":[" RELEASE(
                                     "1", "1") "],\"expires\":\"2026-01-31T00:00:00Z\"}"),
                                 baseline, err));
    assert_ok(clv_baseline_match(baseline, &found, AT_MS, &release, err));
    release = NULL;
    assert_code(clv_baseline_match(baseline, &found, AT_MS + 1, &release, err),
                CLV_BASELINE_EXPIRED);
    assert_null(release);
    assert_ok(clv_baseline_parse(clv_bytes_of(BASELINE(RELEASE("1", "1"), "")), baseline, err));
    assert_ok(clv_baseline_match(baseline, &found, UINT64_MAX, &release, err));
    test_free(baseline);
}

static void release_keys_have_one_form(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "RW",
        "RWSaGervCQVRJfFA3PBU+sHsEaecKBH6cG8+vaBwGl1zYekW+rUNK5m",
        "RWSaGervCQVRJfFA3PBU+sHsEaecKBH6cG8+vaBwGl1zYekW+rUNK5mRAAAA",
        "AASaGervCQVRJfFA3PBU+sHsEaecKBH6cG8+vaBwGl1zYekW+rUNK5mR",
    };
    clv_release_key key;
    assert_ok(clv_release_key_parse("RWSaGervCQVRJfFA3PBU+sHsEaecKBH6cG8+vaBwGl1zYekW+rUNK5mR",
                                    &key, err));
    assert_int_equal(key.id[0], 0x9a);
    for (size_t i = 0; i < ROWS(bad); i++)
        assert_code(clv_release_key_parse(bad[i], &key, err), CLV_BASELINE_KEY);
}

/* What the ordinary tool signs, in both of its modes, is accepted. */
static void the_ordinary_minisign_signs_for_us(void **state)
{
    (void)state;
    if (system("minisign -v >/dev/null 2>&1") != 0)
        skip();
    static char directory[] = "/tmp/claviger-minisign-XXXXXX";
    char command[600], path[200];
    assert_non_null(mkdtemp(directory));
    clv_bytes text = clv_bytes_of(BASELINE(RELEASE("1", "1"), ""));
    snprintf(path, sizeof path, "%s/b", directory);
    assert_ok(clv_file_write(path, text, 0600, err));
    clv_baseline *baseline = test_calloc(1, sizeof *baseline);
    for (int legacy = 0; legacy < 2; legacy++) {
        clv_auto(clv_buf) key = CLV_BUF_INIT;
        clv_auto(clv_buf) signature = CLV_BUF_INIT;
        clv_release_key parsed;
        const char *key_text;
        snprintf(command, sizeof command,
                 "cd %s && minisign -G -W -f -p k.pub -s k >/dev/null && minisign -S %s -s k -m b "
                 "-x b.sig >/dev/null && sed -n 2p k.pub | tr -d '\\n' > key",
                 directory, legacy ? "-l" : "");
        assert_int_equal(system(command), 0);
        snprintf(path, sizeof path, "%s/key", directory);
        assert_ok(clv_file_read(path, 100, &key, err));
        assert_ok(clv_buf_text(&key, &key_text, err));
        assert_ok(clv_release_key_parse(key_text, &parsed, err));
        snprintf(path, sizeof path, "%s/b.sig", directory);
        assert_ok(clv_file_read(path, 1000, &signature, err));
        assert_ok(clv_baseline_open(text, clv_buf_bytes(&signature), &parsed, 1, baseline, err));
    }
    test_free(baseline);
    snprintf(command, sizeof command, "rm -r %s", directory);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    if (sodium_init() < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_algorithms_of_minisign_are_accepted),
        cmocka_unit_test(each_fault_of_a_signature_has_its_code),
        cmocka_unit_test(a_changed_baseline_is_refused_before_it_is_read),
        cmocka_unit_test(each_malformed_baseline_is_refused),
        cmocka_unit_test(an_image_matches_whole_or_not_at_all),
        cmocka_unit_test(an_image_revoked_under_one_name_is_in_force_under_none),
        cmocka_unit_test(a_baseline_counts_to_its_last_instant),
        cmocka_unit_test(release_keys_have_one_form),
        cmocka_unit_test(the_ordinary_minisign_signs_for_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Genuine documents verify at their own time and at no later one; bad ones fail each for its own
 * reason. The documents are third parties' and not part of the project: skipped where absent. */
#include "../check.h"
#include <dirent.h>

#include "vectors.h"

#define HOUR_MS UINT64_C(3600000)

/* Run check on every document of a folder; skips where there is none. */
static size_t for_each_document(const char *folder, void (*check)(const char *name, clv_bytes))
{
    char path[512];
    size_t count = 0;
    vectors_path(folder, path);
    DIR *dir = opendir(path);
    if (dir == NULL)
        skip();
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        clv_auto(clv_buf) bytes = CLV_BUF_INIT;
        if (strstr(entry->d_name, ".bin") == NULL)
            continue;
        vectors_read(folder, entry->d_name, &bytes);
        check(entry->d_name, clv_buf_bytes(&bytes));
        count++;
    }
    closedir(dir);
    return count;
}

static clv_verify_options options_for(clv_bytes bytes, clv_document *document)
{
    clv_verify_options options;
    clv_verify_options_init(&options);
    assert_int_equal(clv_document_parse(bytes, document, NULL), CLV_OK);
    options.kind = document->kind;
    return options;
}

static clv_status verify(const char *name, clv_bytes bytes, const clv_verify_options *options)
{
    clv_document document;
    clv_error err = {0};
    clv_status status = clv_document_verify(bytes, options, &document, &err);
    if (status != CLV_OK)
        print_message("%s: %s: %s\n", name, clv_status_slug(status), err.text);
    return status;
}

static void check_own_time(const char *name, clv_bytes bytes)
{
    clv_document document;
    clv_verify_options options = options_for(bytes, &document);
    assert_int_equal(verify(name, bytes, &options), CLV_OK);
    options.at_ms = document.timestamp_ms;
    assert_int_equal(verify(name, bytes, &options), CLV_OK);
}

static void accepts_every_genuine_document_at_its_own_time(void **state)
{
    (void)state;
    assert_int_equal(for_each_document("attestation", check_own_time), 46);
}

static void check_expiry(const char *name, clv_bytes bytes)
{
    clv_document document;
    clv_certificate_facts leaf;
    clv_verify_options options = options_for(bytes, &document);
    assert_int_equal(clv_certificate_describe(document.certificate, &leaf, NULL), CLV_OK);
    options.at_ms = leaf.not_after_ms + 999;
    assert_int_equal(verify(name, bytes, &options), CLV_OK);
    options.at_ms = leaf.not_after_ms + 1000;
    assert_int_equal(clv_document_verify(bytes, &options, &document, NULL), CLV_ATT_CERT_EXPIRED);
    options.at_ms = leaf.not_after_ms + 24 * 365 * HOUR_MS;
    assert_int_equal(clv_document_verify(bytes, &options, &document, NULL), CLV_ATT_CERT_EXPIRED);
    options.at_ms = leaf.not_before_ms - 1;
    assert_int_equal(clv_document_verify(bytes, &options, &document, NULL), CLV_ATT_CERT_NOT_YET);
}

static void refuses_every_genuine_document_after_its_leaf_expired(void **state)
{
    (void)state;
    for_each_document("attestation", check_expiry);
}

static size_t nitrotpm_count;

static void check_kind(const char *name, clv_bytes bytes)
{
    clv_document document;
    clv_verify_options options = options_for(bytes, &document);
    nitrotpm_count += document.kind == CLV_KIND_NITROTPM;
    assert_int_equal(strstr(name, "vaportpm") != NULL || strstr(name, "60446453882") != NULL,
                     document.kind == CLV_KIND_NITROTPM);
    options.kind = document.kind == CLV_KIND_ENCLAVE ? CLV_KIND_NITROTPM : CLV_KIND_ENCLAVE;
    assert_int_equal(clv_document_verify(bytes, &options, &document, NULL), CLV_ATT_KIND);
}

static void refuses_each_kind_where_the_other_is_required(void **state)
{
    (void)state;
    nitrotpm_count = 0;
    for_each_document("attestation", check_kind);
    assert_int_equal(nitrotpm_count, 2);
}

/* Tag 18 is outside of what is signed. */
static void check_tagged(const char *name, clv_bytes bytes)
{
    clv_document document;
    clv_auto(clv_buf) tagged = CLV_BUF_INIT;
    clv_verify_options options = options_for(bytes, &document);
    assert_false(document.tagged);
    assert_int_equal(clv_buf_u8(&tagged, 0xd2, NULL), CLV_OK);
    assert_int_equal(clv_buf_append(&tagged, bytes, NULL), CLV_OK);
    assert_int_equal(verify(name, clv_buf_bytes(&tagged), &options), CLV_OK);
    assert_int_equal(clv_document_parse(clv_buf_bytes(&tagged), &document, NULL), CLV_OK);
    assert_true(document.tagged);
}

static void accepts_every_genuine_document_under_tag_18(void **state)
{
    (void)state;
    for_each_document("attestation", check_tagged);
}

static size_t indefinite_count;

static void count_indefinite(const char *name, clv_bytes bytes)
{
    (void)name;
    clv_document document;
    assert_int_equal(clv_document_parse(bytes, &document, NULL), CLV_OK);
    indefinite_count += document.payload.p[0] == 0xbf;
}

static void genuine_payloads_are_of_definite_and_of_indefinite_length(void **state)
{
    (void)state;
    indefinite_count = 0;
    size_t count = for_each_document("attestation", count_indefinite);
    assert_in_range(indefinite_count, 1, count - 1);
}

/* No change of a single bit in a document may leave it genuine; every 97th bit, to be quick. */
static void refuses_any_changed_bit_of_a_genuine_document(void **state)
{
    (void)state;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_document document;
    if (!vectors_read("attestation", "046-signalapp-libsignal.bin", &bytes))
        skip();
    clv_verify_options options = options_for(clv_buf_bytes(&bytes), &document);
    for (size_t bit = 0; bit < bytes.n * 8; bit += 97) {
        bytes.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(clv_document_verify(clv_buf_bytes(&bytes), &options, &document, NULL),
                             CLV_OK);
        bytes.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* Cut anywhere, copied to a block of just that size so that reading past it is seen. */
static void refuses_a_genuine_document_cut_anywhere(void **state)
{
    (void)state;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_document document;
    if (!vectors_read("attestation", "046-signalapp-libsignal.bin", &bytes))
        skip();
    for (size_t n = 0; n < bytes.n; n += n < 64 ? 1 : 37) {
        uint8_t *cut = malloc(n + 1);
        assert_non_null(cut);
        memcpy(cut, bytes.p, n);
        clv_status status = clv_document_parse(CLV_BYTES(cut, n), &document, NULL);
        assert_int_equal(status, n == 0 ? CLV_ATT_SIZE : CLV_ATT_CBOR);
        free(cut);
    }
}

static void refuses_each_bad_document_for_its_own_reason(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        clv_status reason;
    } bad[] = {
        {"N01-eternisai-remote-attestation-verifier.bin", CLV_ATT_SIGNATURE},
        {"N03-base-nitro-validator.bin", CLV_ATT_CBOR},
        {"N04-marlinprotocol-oyster-monorepo.bin", CLV_ATT_CERT_ROOT},
        {"N05-brave-nitriding.bin", CLV_ATT_BUNDLE},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        clv_auto(clv_buf) bytes = CLV_BUF_INIT;
        clv_document document;
        clv_verify_options options;
        clv_verify_options_init(&options);
        if (!vectors_read("attestation-bad", bad[i].name, &bytes))
            skip();
        assert_int_equal(clv_document_verify(clv_buf_bytes(&bytes), &options, &document, NULL),
                         bad[i].reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_every_genuine_document_at_its_own_time),
        cmocka_unit_test(refuses_every_genuine_document_after_its_leaf_expired),
        cmocka_unit_test(refuses_each_kind_where_the_other_is_required),
        cmocka_unit_test(accepts_every_genuine_document_under_tag_18),
        cmocka_unit_test(genuine_payloads_are_of_definite_and_of_indefinite_length),
        cmocka_unit_test(refuses_any_changed_bit_of_a_genuine_document),
        cmocka_unit_test(refuses_a_genuine_document_cut_anywhere),
        cmocka_unit_test(refuses_each_bad_document_for_its_own_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

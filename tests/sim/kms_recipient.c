/* What the local KMS makes of an attestation document: which it takes, and which condition keys
 * it gives. */
#include "../check.h"

#include <dirent.h>

#include <base/crypto.h>
#include <base/json.h>
#include <maker.h>
#include <sim/kms/call.h>
#include <vectors.h>

#define MINUTE_MS 60000

typedef struct fixture {
    maker m;
    clv_buf spki;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    clv_auto(clv_pkey) key = EVP_RSA_gen(2048);
    f = (fixture){.spki = CLV_BUF_INIT};
    maker_start(&f.m);
    assert_ok(clv_spki_append(&f.spki, key, err));
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    maker_drop(&f->m);
    clv_buf_drop(&f->spki);
    return 0;
}

/* A document of this kind with an RSA key, and its root. */
static void make(const fixture *f, bool nitrotpm, clv_buf *out, uint8_t root[CLV_ROOT_DIGEST_SIZE])
{
    maker_knobs knobs = RIGHT;
    clv_document document;
    clv_auto(clv_buf) made = CLV_BUF_INIT;
    knobs.nitrotpm = nitrotpm;
    maker_make(&f->m, &knobs, &made, root);
    assert_ok(clv_document_parse(clv_buf_bytes(&made), &document, err));
    document.public_key = (clv_optional){true, clv_buf_bytes(&f->spki)};
    maker_sign(&document, f->m.key[MAKER_LEAF], out);
}

/* A call that carries these bytes as its Recipient, at this time. */
typedef struct attempt {
    clv_kms_server server;
    clv_call call;
} attempt;

static clv_status read_recipient(attempt *a, clv_bytes document,
                                 const uint8_t root[CLV_ROOT_DIGEST_SIZE], uint64_t now_ms,
                                 clv_error *err)
{
    clv_auto(clv_buf) base64 = CLV_BUF_INIT;
    const char *text;
    *a = (attempt){.call = {.now_ms = now_ms}};
    a->call.server = &a->server;
    memcpy(a->server.root_sha256, root, CLV_ROOT_DIGEST_SIZE);
    CLV_TRY(clv_base64_append(&base64, document, err));
    CLV_TRY(clv_buf_text(&base64, &text, err));
    a->call.conditions = json_object();
    a->call.parameters = json_pack("{s:{s:s,s:s}}", "Recipient", "KeyEncryptionAlgorithm",
                                   "RSAES_OAEP_SHA_256", "AttestationDocument", text);
    return clv_recipient_read(&a->call, err);
}

/* How many condition keys begin so. */
static int keys_like(const attempt *a, const char *prefix)
{
    int n = 0;
    for (void *i = json_object_iter(a->call.conditions); i != NULL;
         i = json_object_iter_next(a->call.conditions, i))
        n += strncmp(json_object_iter_key(i), prefix, strlen(prefix)) == 0;
    return n;
}

static void gives_an_enclaves_registers_their_own_keys(void **state)
{
    const fixture *f = *state;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    attempt a;
    make(f, false, &document, root);
    assert_ok(read_recipient(&a, clv_buf_bytes(&document), root, MAKER_TIME_MS, err));
    assert_int_equal(keys_like(&a, "kms:RecipientAttestation:ImageSha384"), 1);
    assert_int_equal(keys_like(&a, "kms:RecipientAttestation:PCR"),
                     __builtin_popcount(a.call.recipient.document.pcrs.present));
    assert_int_equal(keys_like(&a, "kms:RecipientAttestation:NitroTPM"), 0);
    const json_t *image =
        json_object_get(a.call.conditions, "kms:RecipientAttestation:ImageSha384");
    assert_int_equal(strlen(json_string_value(json_array_get(image, 0))), 96);
    clv_call_drop(&a.call);
}

static void gives_a_nitrotpms_registers_keys_that_no_enclave_has(void **state)
{
    const fixture *f = *state;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    attempt a;
    make(f, true, &document, root);
    assert_ok(read_recipient(&a, clv_buf_bytes(&document), root, MAKER_TIME_MS, err));
    assert_int_equal(keys_like(&a, "kms:RecipientAttestation:NitroTPMPCR"),
                     __builtin_popcount(a.call.recipient.document.pcrs.present));
    assert_int_equal(keys_like(&a, "kms:RecipientAttestation:PCR"), 0);
    assert_int_equal(keys_like(&a, "kms:RecipientAttestation:ImageSha384"), 0);
    clv_auto(clv_json) audit = clv_recipient_audit(&a.call.recipient);
    assert_non_null(json_object_get(audit, "attestationDocumentModuleId"));
    assert_null(json_object_get(audit, "attestationDocumentEnclaveImageDigest"));
    assert_non_null(json_object_get(audit, "attestationDocumentNitroTPMPCR0"));
    clv_call_drop(&a.call);
}

static void takes_documents_of_the_last_five_minutes_alone(void **state)
{
    const fixture *f = *state;
    static const struct {
        int64_t later_ms;
        clv_status code;
    } rows[] = {
        {0, CLV_OK},
        {5 * MINUTE_MS, CLV_OK},
        {5 * MINUTE_MS + 1, CLV_KMS_VALIDATION},
        {-MINUTE_MS, CLV_OK},
        {-MINUTE_MS - 1, CLV_KMS_VALIDATION},
    };
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    make(f, false, &document, root);
    for (size_t i = 0; i < ROWS(rows); i++) {
        attempt a;
        clv_error why = {0};
        uint64_t now_ms = (uint64_t)((int64_t)MAKER_TIME_MS + rows[i].later_ms);
        clv_status found = read_recipient(&a, clv_buf_bytes(&document), root, now_ms, &why);
        if (found != rows[i].code)
            fail_msg("%lld ms later: %s: %s", (long long)rows[i].later_ms, clv_status_slug(found),
                     why.text);
        assert_int_equal(a.call.recipient.present, found == CLV_OK);
        clv_call_drop(&a.call);
    }
}

static bool carries_rsa(const clv_document *document)
{
    if (!document->public_key.present || document->public_key.bytes.n == 0)
        return false;
    const uint8_t *p = document->public_key.bytes.p;
    clv_auto(clv_pkey) key = d2i_PUBKEY(NULL, &p, (long)document->public_key.bytes.n);
    return key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA &&
           EVP_PKEY_get_bits(key) >= 2048 &&
           (size_t)(p - document->public_key.bytes.p) == document->public_key.bytes.n;
}

/* Documents that AWS signed, at their own time: those with a usable key are taken. */
static void takes_genuine_documents_that_carry_an_rsa_key(void **state)
{
    (void)state;
    char path[512];
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    int taken = 0, refused = 0;
    vectors_path("attestation", path);
    DIR *dir = opendir(path);
    if (dir == NULL)
        skip();
    assert_ok(clv_hex_decode_exact(clv_bytes_of(CLV_AWS_ROOT_SHA256), root, sizeof root, err));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        clv_auto(clv_buf) bytes = CLV_BUF_INIT;
        clv_document document;
        attempt a;
        if (strstr(entry->d_name, ".bin") == NULL)
            continue;
        assert_true(vectors_read("attestation", entry->d_name, &bytes));
        assert_ok(clv_document_parse(clv_buf_bytes(&bytes), &document, err));
        bool usable = carries_rsa(&document);
        clv_status expected = usable ? CLV_OK : CLV_KMS_VALIDATION;
        clv_error why = {0};
        clv_status found =
            read_recipient(&a, clv_buf_bytes(&bytes), root, document.timestamp_ms, &why);
        if (found != expected)
            fail_msg("%s: %s: %s", entry->d_name, clv_status_slug(found), why.text);
        clv_call_drop(&a.call);
        assert_int_equal(read_recipient(&a, clv_buf_bytes(&bytes), root,
                                        document.timestamp_ms + 6 * MINUTE_MS, NULL),
                         CLV_KMS_VALIDATION);
        clv_call_drop(&a.call);
        taken += usable;
        refused += !usable;
    }
    closedir(dir);
    print_message("%d genuine documents taken, %d refused for want of an RSA key\n", taken,
                  refused);
    assert_true(taken > 0);
    assert_true(refused > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_an_enclaves_registers_their_own_keys),
        cmocka_unit_test(gives_a_nitrotpms_registers_keys_that_no_enclave_has),
        cmocka_unit_test(takes_documents_of_the_last_five_minutes_alone),
        cmocka_unit_test(takes_genuine_documents_that_carry_an_rsa_key),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/*
 * Every rule of a document's shape, broken one at a time, with the code that says so. Each case
 * runs twice: on a document of the maker's own, signed after the change, and on a genuine one
 * encoded again around its old signature. Faults of shape come before faults of signature, so both
 * must fail alike; where the made one is fine, the genuine one must fail by its signature alone.
 */
#include "../check.h"

#include "maker.h"
#include "vectors.h"

typedef struct shape_case {
    const char *name;
    clv_status expect;
    maker_knobs knobs;
    bool made_only; /* the change needs a key, or is no change of a genuine document */
} shape_case;

static const shape_case shape_cases[] = {
    /* The envelope. */
    {"accepts an unchanged document", CLV_OK, RIGHT, false},
    {"accepts tag 18", CLV_OK, {.prefix = "d2"}, false},
    {"refuses tag 18 in a longer form", CLV_ATT_ENCODING, {.prefix = "d812"}, false},
    {"refuses an array of four in a longer form", CLV_ATT_ENCODING, {.array = "9804"}, false},
    {"refuses a protected header of a longer form",
     CLV_ATT_ENCODING,
     {.long_head = LONG_PROTECTED},
     false},
    {"refuses an unprotected header of a longer form",
     CLV_ATT_ENCODING,
     {.unprotected = "b800"},
     false},
    {"refuses a payload of a longer form", CLV_ATT_ENCODING, {.long_head = LONG_PAYLOAD}, false},
    {"refuses a signature of a longer form",
     CLV_ATT_ENCODING,
     {.long_head = LONG_SIGNATURE},
     false},
    {"refuses tag 17", CLV_ATT_TAG, {.prefix = "d1"}, false},
    {"refuses tag 98, COSE_Sign", CLV_ATT_TAG, {.prefix = "d862"}, false},
    {"refuses tag 61, CWT", CLV_ATT_TAG, {.prefix = "d83d"}, false},
    {"refuses tag 18 twice", CLV_ATT_TAG, {.prefix = "d2d2"}, false},
    {"refuses tag 18 around a CWT tag", CLV_ATT_TAG, {.prefix = "d2d83d"}, false},
    {"refuses the self-description tag", CLV_ATT_TAG, {.prefix = "d9d9f7"}, false},
    {"refuses a byte in front", CLV_ATT_COSE_SHAPE, {.prefix = "00"}, false},
    {"refuses an array of three", CLV_ATT_COSE_SHAPE, {.array = "83"}, false},
    {"refuses an array of five", CLV_ATT_COSE_SHAPE, {.array = "85"}, false},
    {"refuses an array of none", CLV_ATT_COSE_SHAPE, {.array = "80"}, false},
    {"refuses a huge array", CLV_ATT_COSE_SHAPE, {.array = "9bffffffffffffffff"}, false},
    {"refuses an indefinite array", CLV_ATT_INDEFINITE, {.array = "9f", .suffix = "ff"}, false},
    {"refuses a map in place of the array", CLV_ATT_COSE_SHAPE, {.array = "a2"}, false},
    {"refuses a text in place of the array", CLV_ATT_COSE_SHAPE, {.array = "6161"}, false},
    {"refuses one trailing byte", CLV_ATT_TRAILING, {.suffix = "00"}, false},
    {"refuses a second document behind", CLV_ATT_TRAILING, {.suffix = "8440a04040"}, false},
    {"refuses one byte cut off", CLV_ATT_CBOR, {.cut = 1}, false},
    {"refuses the signature cut off", CLV_ATT_CBOR, {.cut = 98}, false},

    /* The protected header. */
    {"refuses ES256", CLV_ATT_ALGORITHM, {.protected_ = "a10126"}, false},
    {"refuses ES512", CLV_ATT_ALGORITHM, {.protected_ = "a1013823"}, false},
    {"refuses alg -1", CLV_ATT_ALGORITHM, {.protected_ = "a10120"}, false},
    {"refuses a positive alg", CLV_ATT_ALGORITHM, {.protected_ = "a1011822"}, false},
    {"refuses a text alg", CLV_ATT_ALGORITHM, {.protected_ = "a101654553333834"}, false},
    {"refuses an array as alg", CLV_ATT_DEPTH, {.protected_ = "a1018122"}, false},
    {"refuses an empty protected header", CLV_ATT_PROTECTED, {.protected_ = "a0"}, false},
    {"refuses a protected header of no bytes", CLV_ATT_CBOR, {.protected_ = ""}, false},
    {"refuses a protected header with a kid",
     CLV_ATT_PROTECTED,
     {.protected_ = "a201382204414b"},
     false},
    {"refuses alg under another label", CLV_ATT_PROTECTED, {.protected_ = "a1023822"}, false},
    {"refuses alg under a text label", CLV_ATT_PROTECTED, {.protected_ = "a163616c673822"}, false},
    {"refuses alg twice", CLV_ATT_PROTECTED, {.protected_ = "a2013822013822"}, false},
    {"refuses a byte behind the protected map",
     CLV_ATT_PROTECTED,
     {.protected_ = "a101382200"},
     false},
    {"refuses an indefinite protected map",
     CLV_ATT_INDEFINITE,
     {.protected_ = "bf013822ff"},
     false},
    {"refuses a tagged protected map", CLV_ATT_TAG, {.protected_ = "c0a1013822"}, false},
    {"refuses a protected array", CLV_ATT_PROTECTED, {.protected_ = "82013822"}, false},
    {"refuses a protected header cut short", CLV_ATT_CBOR, {.protected_ = "a101"}, false},
    {"refuses a protected header that is a map itself",
     CLV_ATT_DEPTH,
     {.protected_as = AS_MAP},
     false},
    {"refuses a protected header that is text",
     CLV_ATT_COSE_SHAPE,
     {.protected_as = AS_TEXT},
     false},
    {"refuses a null protected header", CLV_ATT_COSE_SHAPE, {.protected_as = AS_NULL}, false},
    {"refuses an indefinite protected header",
     CLV_ATT_INDEFINITE,
     {.protected_as = AS_INDEFINITE_BYTES},
     false},
    {"refuses a deeply nested protected header", CLV_ATT_DEPTH, {.protected_as = AS_DEEP}, false},

    /* The unprotected header. */
    {"refuses a kid in the unprotected header",
     CLV_ATT_UNPROTECTED,
     {.unprotected = "a104414b"},
     false},
    {"refuses an alg in the unprotected header",
     CLV_ATT_UNPROTECTED,
     {.unprotected = "a1013822"},
     false},
    {"refuses a null unprotected header", CLV_ATT_UNPROTECTED, {.unprotected = "f6"}, false},
    {"refuses an array as unprotected header", CLV_ATT_UNPROTECTED, {.unprotected = "80"}, false},
    {"refuses a byte string as unprotected header",
     CLV_ATT_UNPROTECTED,
     {.unprotected = "40"},
     false},
    {"refuses an indefinite unprotected header",
     CLV_ATT_INDEFINITE,
     {.unprotected = "bfff"},
     false},
    {"refuses a tagged unprotected header", CLV_ATT_TAG, {.unprotected = "d2a0"}, false},

    /* The signature. */
    {"refuses a changed signature", CLV_ATT_SIGNATURE, {.signature = SIGNATURE_FLIPPED}, false},
    {"refuses a zero r", CLV_ATT_SIGNATURE_RANGE, {.signature = SIGNATURE_R_ZERO}, false},
    {"refuses a zero s", CLV_ATT_SIGNATURE_RANGE, {.signature = SIGNATURE_S_ZERO}, false},
    {"refuses r of the order", CLV_ATT_SIGNATURE_RANGE, {.signature = SIGNATURE_R_ORDER}, false},
    {"refuses s of the order", CLV_ATT_SIGNATURE_RANGE, {.signature = SIGNATURE_S_ORDER}, false},
    {"refuses r of all ones", CLV_ATT_SIGNATURE_RANGE, {.signature = SIGNATURE_R_MAX}, false},
    {"refuses 95 bytes of signature", CLV_ATT_SIGNATURE_LENGTH, {.signature = SIGNATURE_95}, false},
    {"refuses 97 bytes of signature", CLV_ATT_SIGNATURE_LENGTH, {.signature = SIGNATURE_97}, false},
    {"refuses no signature", CLV_ATT_SIGNATURE_LENGTH, {.signature = SIGNATURE_EMPTY}, false},
    {"refuses a DER signature", CLV_ATT_SIGNATURE_LENGTH, {.signature = SIGNATURE_DER}, true},
    {"refuses a text signature", CLV_ATT_COSE_SHAPE, {.signature = SIGNATURE_TEXT}, false},
    {"refuses an array as signature", CLV_ATT_DEPTH, {.signature = SIGNATURE_NESTED}, false},
    {"refuses a stranger's signature", CLV_ATT_SIGNATURE, {.signature = SIGNATURE_STRANGER}, true},
    {"refuses the issuer's own signature",
     CLV_ATT_SIGNATURE,
     {.signature = SIGNATURE_ISSUER},
     true},

    /* The payload as a whole. */
    {"accepts an indefinite payload map", CLV_OK, {.indefinite = true}, false},
    {"refuses an indefinite payload map without an end",
     CLV_ATT_CBOR,
     {.indefinite = true, .no_break = true},
     false},
    {"refuses a byte behind the payload map", CLV_ATT_TRAILING, {.payload_trailing = true}, false},
    {"refuses a byte behind an indefinite payload map",
     CLV_ATT_TRAILING,
     {.indefinite = true, .payload_trailing = true},
     false},
    {"refuses a payload map of more pairs than there are",
     CLV_ATT_CBOR,
     {.payload_pairs = 1},
     false},
    {"refuses a payload map of fewer pairs than there are",
     CLV_ATT_TRAILING,
     {.payload_pairs = -1},
     false},
    {"refuses a payload longer than 16384 bytes", CLV_ATT_SIZE, {.payload_padded = true}, false},
    {"refuses a null payload", CLV_ATT_COSE_SHAPE, {.payload_as = AS_NULL}, false},
    {"refuses a text payload", CLV_ATT_COSE_SHAPE, {.payload_as = AS_TEXT}, false},
    {"refuses a payload that is a map itself", CLV_ATT_DEPTH, {.payload_as = AS_MAP}, false},
    {"refuses a payload that is no map", CLV_ATT_PAYLOAD, {.payload_as = AS_BYTES}, false},
    {"refuses an indefinite payload string",
     CLV_ATT_INDEFINITE,
     {.payload_as = AS_INDEFINITE_BYTES},
     false},
    {"refuses an unknown field", CLV_ATT_FIELD_UNKNOWN, {.unknown_field = true}, false},
    {"refuses a number as key", CLV_ATT_PAYLOAD, {.number_key = true}, false},
    {"refuses both banks of registers", CLV_ATT_FIELD_DUPLICATE, {.both_banks = true}, false},
    {"refuses a NitroTPM bank in place of an enclave's", CLV_ATT_KIND, {.nitrotpm = true}, false},

    /* Limits of fields. */
    {"refuses an empty module_id",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_MODULE_ID].size = SIZE(0)},
     false},
    {"accepts a module_id of 128 bytes", CLV_OK, {.field[FIELD_MODULE_ID].size = SIZE(128)}, false},
    {"refuses a module_id of 129 bytes",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_MODULE_ID].size = SIZE(129)},
     false},
    {"refuses the digest SHA256", CLV_ATT_DIGEST, {.field[FIELD_DIGEST].size = 1}, false},
    {"refuses the timestamp 0", CLV_ATT_TIMESTAMP, {.field[FIELD_TIMESTAMP].size = 1}, false},
    {"refuses a timestamp in microseconds",
     CLV_ATT_TIMESTAMP,
     {.timestamp_ms = UINT64_C(1700000000123000)},
     false},
    {"refuses the largest timestamp", CLV_ATT_TIMESTAMP, {.timestamp_ms = UINT64_MAX}, false},
    {"refuses a timestamp in seconds", CLV_ATT_CERT_NOT_YET, {.timestamp_ms = MAKER_TIME_S}, false},
    {"refuses a timestamp of the year 9999",
     CLV_ATT_CERT_EXPIRED,
     {.timestamp_ms = UINT64_C(253402300799000)},
     false},
    {"refuses an empty certificate",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_CERTIFICATE].size = SIZE(0)},
     false},
    {"refuses a certificate of 1025 bytes",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_CERTIFICATE].size = SIZE(1025)},
     false},
    {"refuses a certificate of 1024 zeros",
     CLV_ATT_CERT_PARSE,
     {.field[FIELD_CERTIFICATE].size = SIZE(1024)},
     false},
    {"accepts an empty public_key", CLV_OK, {.field[FIELD_PUBLIC_KEY].size = SIZE(0)}, false},
    {"accepts a public_key of 1024 bytes",
     CLV_OK,
     {.field[FIELD_PUBLIC_KEY].size = SIZE(1024)},
     false},
    {"refuses a public_key of 1025 bytes",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_PUBLIC_KEY].size = SIZE(1025)},
     false},
    {"accepts an empty user_data", CLV_OK, {.field[FIELD_USER_DATA].size = SIZE(0)}, false},
    {"accepts a user_data of 1024 bytes",
     CLV_OK,
     {.field[FIELD_USER_DATA].size = SIZE(1024)},
     false},
    {"refuses a user_data of 1025 bytes",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_USER_DATA].size = SIZE(1025)},
     false},
    {"accepts an empty nonce", CLV_OK, {.field[FIELD_NONCE].size = SIZE(0)}, false},
    {"accepts a nonce of 1024 bytes", CLV_OK, {.field[FIELD_NONCE].size = SIZE(1024)}, false},
    {"refuses a nonce of 1025 bytes",
     CLV_ATT_FIELD_LENGTH,
     {.field[FIELD_NONCE].size = SIZE(1025)},
     false},

    /* The registers. */
    {"refuses no registers", CLV_ATT_PCR_COUNT, {.field[FIELD_PCRS].size = SIZE(0)}, false},
    {"accepts one register", CLV_OK, {.field[FIELD_PCRS].size = SIZE(1)}, false},
    {"accepts 32 registers", CLV_OK, {.field[FIELD_PCRS].size = SIZE(32)}, false},
    {"refuses 33 registers", CLV_ATT_PCR_COUNT, {.field[FIELD_PCRS].size = SIZE(33)}, false},
    {"refuses register 32", CLV_ATT_PCR_INDEX, {.pcrs = PCRS_INDEX_32}, false},
    {"refuses register 2^64-1", CLV_ATT_PCR_INDEX, {.pcrs = PCRS_INDEX_HUGE}, false},
    {"refuses a negative register", CLV_ATT_FIELD_TYPE, {.pcrs = PCRS_INDEX_NEGATIVE}, false},
    {"refuses a register with a name", CLV_ATT_FIELD_TYPE, {.pcrs = PCRS_INDEX_TEXT}, false},
    {"refuses a register of 47 bytes", CLV_ATT_PCR_LENGTH, {.pcrs = PCRS_SHORT}, false},
    {"refuses a register of 49 bytes", CLV_ATT_PCR_LENGTH, {.pcrs = PCRS_LONG}, false},
    {"refuses a register of no bytes", CLV_ATT_PCR_LENGTH, {.pcrs = PCRS_EMPTY_VALUE}, false},
    {"refuses a register twice", CLV_ATT_PCR_DUPLICATE, {.pcrs = PCRS_TWICE}, false},
    {"refuses a register of text", CLV_ATT_FIELD_TYPE, {.pcrs = PCRS_TEXT_VALUE}, false},
    {"refuses a null register", CLV_ATT_FIELD_TYPE, {.pcrs = PCRS_NULL_VALUE}, false},
    {"refuses an array as register", CLV_ATT_DEPTH, {.pcrs = PCRS_NESTED_VALUE}, false},
    {"accepts zero registers: matching refuses them", CLV_OK, {.pcrs = PCRS_ZERO}, false},

    /* The bundle. */
    {"refuses an empty bundle", CLV_ATT_BUNDLE, {.field[FIELD_CABUNDLE].size = SIZE(0)}, false},
    {"refuses a bundle of nine", CLV_ATT_BUNDLE, {.field[FIELD_CABUNDLE].size = SIZE(9)}, false},
    {"refuses a bundle of the root eight times",
     CLV_ATT_CERT_NAME,
     {.field[FIELD_CABUNDLE].size = SIZE(8)},
     true},
    {"refuses a null in the bundle", CLV_ATT_FIELD_TYPE, {.bundle = BUNDLE_NULL_ITEM}, false},
    {"refuses a text in the bundle", CLV_ATT_FIELD_TYPE, {.bundle = BUNDLE_TEXT_ITEM}, false},
    {"refuses an array in the bundle", CLV_ATT_DEPTH, {.bundle = BUNDLE_NESTED_ITEM}, false},
    {"refuses an empty certificate in the bundle",
     CLV_ATT_FIELD_LENGTH,
     {.bundle = BUNDLE_EMPTY_ITEM},
     false},
    {"refuses a certificate of 1025 bytes in the bundle",
     CLV_ATT_FIELD_LENGTH,
     {.bundle = BUNDLE_LONG_ITEM},
     false},
    {"refuses a bundle with its root last", CLV_ATT_CERT_ROOT, {.bundle = BUNDLE_REVERSED}, false},
    {"refuses a bundle without its root", CLV_ATT_CERT_ROOT, {.bundle = BUNDLE_NO_ROOT}, false},
    {"refuses a bundle in swapped order", CLV_ATT_CERT_PATHLEN, {.bundle = BUNDLE_SWAPPED}, false},
    {"refuses the root twice", CLV_ATT_CERT_NAME, {.bundle = BUNDLE_ROOT_TWICE}, true},
    {"refuses a leaf that is not right below its bundle",
     CLV_ATT_CERT_NAME,
     {.bundle = BUNDLE_ROOT_ONLY},
     false},
};

/* What a field must not be. Rules first, then what differs from them. */
static clv_status refusal_of(maker_as as)
{
    static const clv_status code[MAKER_AS_COUNT] = {
        [AS_NULL] = CLV_ATT_FIELD_TYPE,
        [AS_UINT] = CLV_ATT_FIELD_TYPE,
        [AS_NEGINT] = CLV_ATT_FIELD_TYPE,
        [AS_BYTES] = CLV_ATT_FIELD_TYPE,
        [AS_TEXT] = CLV_ATT_FIELD_TYPE,
        [AS_BOOL] = CLV_ATT_FIELD_TYPE,
        [AS_FLOAT] = CLV_ATT_FIELD_TYPE,
        [AS_ARRAY] = CLV_ATT_DEPTH,
        [AS_MAP] = CLV_ATT_DEPTH,
        [AS_DEEP] = CLV_ATT_DEPTH,
        [AS_TAG] = CLV_ATT_TAG,
        [AS_BREAK] = CLV_ATT_CBOR,
        [AS_INDEFINITE_BYTES] = CLV_ATT_INDEFINITE,
        [AS_INDEFINITE_TEXT] = CLV_ATT_INDEFINITE,
        [AS_INDEFINITE_ARRAY] = CLV_ATT_INDEFINITE,
        [AS_INDEFINITE_MAP] = CLV_ATT_INDEFINITE,
        [AS_BAD_UTF8] = CLV_ATT_FIELD_TYPE,
        [AS_RESERVED] = CLV_ATT_CBOR,
    };
    return code[as];
}

static const struct {
    maker_field_name field;
    maker_as as;
    clv_status code;
} exceptions[] = {
    {FIELD_MODULE_ID, AS_TEXT, CLV_OK},
    {FIELD_DIGEST, AS_TEXT, CLV_ATT_DIGEST},
    {FIELD_DIGEST, AS_BAD_UTF8, CLV_ATT_DIGEST},
    {FIELD_TIMESTAMP, AS_UINT, CLV_ATT_CERT_NOT_YET},
    {FIELD_PCRS, AS_ARRAY, CLV_ATT_FIELD_TYPE},
    {FIELD_PCRS, AS_DEEP, CLV_ATT_FIELD_TYPE},
    {FIELD_PCRS, AS_MAP, CLV_ATT_FIELD_TYPE},
    {FIELD_CERTIFICATE, AS_BYTES, CLV_ATT_CERT_PARSE},
    {FIELD_CABUNDLE, AS_NULL, CLV_ATT_BUNDLE},
    {FIELD_CABUNDLE, AS_ARRAY, CLV_ATT_FIELD_TYPE},
    {FIELD_CABUNDLE, AS_MAP, CLV_ATT_FIELD_TYPE},
    {FIELD_PUBLIC_KEY, AS_NULL, CLV_OK},
    {FIELD_PUBLIC_KEY, AS_BYTES, CLV_OK},
    {FIELD_USER_DATA, AS_NULL, CLV_OK},
    {FIELD_USER_DATA, AS_BYTES, CLV_OK},
    {FIELD_NONCE, AS_NULL, CLV_OK},
    {FIELD_NONCE, AS_BYTES, CLV_OK},
};

static const char *const as_text[MAKER_AS_COUNT] = {
    [AS_NULL] = "null",
    [AS_UINT] = "an unsigned integer",
    [AS_NEGINT] = "a negative integer",
    [AS_BYTES] = "bytes",
    [AS_TEXT] = "text",
    [AS_BOOL] = "a boolean",
    [AS_FLOAT] = "a float",
    [AS_ARRAY] = "an array",
    [AS_MAP] = "a map",
    [AS_DEEP] = "a thousand nested arrays",
    [AS_TAG] = "itself under a tag",
    [AS_BREAK] = "a break",
    [AS_INDEFINITE_BYTES] = "indefinite bytes",
    [AS_INDEFINITE_TEXT] = "indefinite text",
    [AS_INDEFINITE_ARRAY] = "an indefinite array",
    [AS_INDEFINITE_MAP] = "an indefinite map",
    [AS_BAD_UTF8] = "text that is not UTF-8",
    [AS_RESERVED] = "a reserved head",
};

#define EXPLICIT_CASES (sizeof shape_cases / sizeof shape_cases[0])
#define FIELD_CASES    (MAKER_FIELDS * (2 + MAKER_AS_COUNT - 1))
#define CASES          (EXPLICIT_CASES + FIELD_CASES)

static shape_case cases[CASES];
static char case_names[2 * CASES][112];
static maker keys;
static clv_buf genuine_bytes;
static clv_document genuine;
static bool have_genuine;

static clv_status expected_of(maker_field_name field, maker_as as)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++) {
        if (exceptions[i].field == field && exceptions[i].as == as)
            return exceptions[i].code;
    }
    return refusal_of(as);
}

/* For each field: absent, twice, and as everything that it is not. */
static size_t fill_field_cases(shape_case *to)
{
    static char names[FIELD_CASES][80];
    size_t n = 0;
    for (unsigned f = 0; f < MAKER_FIELDS; f++) {
        const char *field = maker_field_text[f];
        snprintf(names[n], sizeof names[n], "%s absent", field);
        to[n].expect = f < FIELD_PUBLIC_KEY ? CLV_ATT_FIELD_MISSING : CLV_OK;
        to[n++].knobs.field[f].omit = true;

        snprintf(names[n], sizeof names[n], "%s twice", field);
        to[n].expect = CLV_ATT_FIELD_DUPLICATE;
        to[n++].knobs.field[f].twice = true;

        for (unsigned as = AS_NULL; as < MAKER_AS_COUNT; as++) {
            snprintf(names[n], sizeof names[n], "%s as %s", field, as_text[as]);
            to[n].expect = expected_of((maker_field_name)f, (maker_as)as);
            to[n++].knobs.field[f].as = (maker_as)as;
        }
    }
    for (size_t i = 0; i < n; i++)
        to[i].name = names[i];
    return n;
}

static void check(const shape_case *c, clv_bytes document, const clv_verify_options *options,
                  clv_status expect)
{
    clv_document out;
    clv_error err = {0};
    clv_status status = clv_document_verify(document, options, &out, &err);
    if (status != expect)
        print_error("%s: expected %s, found %s: %s\n", c->name, clv_status_slug(expect),
                    clv_status_slug(status), err.text);
    assert_int_equal(status, expect);
    if (status != CLV_OK) {
        assert_int_equal(err.code, status);
        assert_int_not_equal(err.text[0], '\0');
    }
}

static void judges_a_made_document(void **state)
{
    const shape_case *c = *state;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_verify_options options;
    clv_verify_options_init(&options);
    maker_make(&keys, &c->knobs, &document, options.root_sha256);
    check(c, clv_buf_bytes(&document), &options, c->expect);
}

static void judges_a_genuine_document(void **state)
{
    const shape_case *c = *state;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_document parsed;
    clv_verify_options options;
    clv_status expect = c->expect;
    if (!have_genuine)
        skip();
    clv_verify_options_init(&options);
    maker_remake(&genuine, &c->knobs, &document);
    if (expect == CLV_OK && clv_document_parse(clv_buf_bytes(&document), &parsed, NULL) == CLV_OK &&
        !clv_bytes_equal(parsed.payload, genuine.payload))
        expect = CLV_ATT_SIGNATURE;
    check(c, clv_buf_bytes(&document), &options, expect);
}

static int start(void **state)
{
    (void)state;
    maker_start(&keys);
    have_genuine = vectors_read("attestation", "046-signalapp-libsignal.bin", &genuine_bytes) &&
                   clv_document_parse(clv_buf_bytes(&genuine_bytes), &genuine, NULL) == CLV_OK;
    return 0;
}

static int finish(void **state)
{
    (void)state;
    maker_drop(&keys);
    clv_buf_drop(&genuine_bytes);
    return 0;
}

int main(void)
{
    static struct CMUnitTest tests[2 * CASES];
    size_t n = 0;
    memcpy(cases, shape_cases, sizeof shape_cases);
    size_t count = EXPLICIT_CASES + fill_field_cases(cases + EXPLICIT_CASES);
    for (size_t i = 0; i < count; i++) {
        for (int on_genuine = 0; on_genuine < (cases[i].made_only ? 1 : 2); on_genuine++, n++) {
            snprintf(case_names[n], sizeof case_names[n], "%s: %s", on_genuine ? "genuine" : "made",
                     cases[i].name);
            tests[n] = (struct CMUnitTest){
                case_names[n], on_genuine ? judges_a_genuine_document : judges_a_made_document,
                NULL, NULL, &cases[i]};
        }
    }
    return _cmocka_run_group_tests("document", tests, n, start, finish);
}

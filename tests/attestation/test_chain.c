/* Every rule of each certificate, broken one at a time in a chain of the maker's own. */
#include "../check.h"

#include "maker.h"

#define ROOT     0
#define REGION   1
#define INSTANCE 3
#define LEAF     MAKER_LEAF

typedef struct chain_case {
    const char *name;
    clv_status expect;
    const char *place; /* how the error sentence begins */
    maker_knobs knobs;
    uint64_t at_ms; /* 0: CLV_AT_DOCUMENT */
} chain_case;

/* One knob of one certificate. */
#define WITH(position, ...)                      \
    {                                            \
        .certificate[position] = { __VA_ARGS__ } \
    }
#define AT_ROOT     "cabundle[0]: "
#define AT_REGION   "cabundle[1]: "
#define AT_INSTANCE "cabundle[3]: "
#define AT_LEAF     "certificate: "

static const chain_case cases[] = {
    {"accepts a chain as it should be", CLV_OK, NULL, RIGHT, 0},

    /* Time: both ends are inclusive, in seconds. */
    {"accepts a leaf in its first second", CLV_OK, NULL, WITH(LEAF, .not_before = MAKER_TIME_S), 0},
    {"refuses a leaf one second before", CLV_ATT_CERT_NOT_YET, AT_LEAF,
     WITH(LEAF, .not_before = MAKER_TIME_S + 1), 0},
    {"accepts a leaf in its last second", CLV_OK, NULL, WITH(LEAF, .not_after = MAKER_TIME_S), 0},
    {"refuses a leaf one second after", CLV_ATT_CERT_EXPIRED, AT_LEAF,
     WITH(LEAF, .not_after = MAKER_TIME_S - 1), 0},
    {"accepts a CA in its first second", CLV_OK, NULL, WITH(REGION, .not_before = MAKER_TIME_S), 0},
    {"refuses a CA one second before", CLV_ATT_CERT_NOT_YET, AT_REGION,
     WITH(REGION, .not_before = MAKER_TIME_S + 1), 0},
    {"accepts a CA in its last second", CLV_OK, NULL, WITH(INSTANCE, .not_after = MAKER_TIME_S), 0},
    {"refuses a CA one second after", CLV_ATT_CERT_EXPIRED, AT_INSTANCE,
     WITH(INSTANCE, .not_after = MAKER_TIME_S - 1), 0},
    {"refuses an expired root", CLV_ATT_CERT_EXPIRED, AT_ROOT,
     WITH(ROOT, .not_after = MAKER_TIME_S - 1), 0},
    {"refuses a root that is not valid yet", CLV_ATT_CERT_NOT_YET, AT_ROOT,
     WITH(ROOT, .not_before = MAKER_TIME_S + 1), 0},
    {"refuses a window turned round", CLV_ATT_CERT_NOT_YET, AT_LEAF,
     WITH(LEAF, .not_before = MAKER_VALID_UNTIL, .not_after = MAKER_VALID_FROM), 0},
    {"accepts a CA until 2049 and beyond", CLV_OK, NULL,
     WITH(ROOT, .not_after = INT64_C(2524608000)), 0},
    {"refuses a certificate that ended before 1970", CLV_ATT_CERT_EXPIRED, AT_LEAF,
     WITH(LEAF, .not_before = -200, .not_after = -100), 0},
    {"accepts the required time in the last second", CLV_OK, NULL, RIGHT,
     UINT64_C(1000) * MAKER_VALID_UNTIL + 999},
    {"refuses the required time one second after", CLV_ATT_CERT_EXPIRED, AT_ROOT, RIGHT,
     UINT64_C(1000) * MAKER_VALID_UNTIL + 1000},
    {"accepts the required time in the first second", CLV_OK, NULL, RIGHT,
     UINT64_C(1000) * MAKER_VALID_FROM},
    {"refuses the required time one millisecond before", CLV_ATT_CERT_NOT_YET, AT_ROOT, RIGHT,
     UINT64_C(1000) * MAKER_VALID_FROM - 1},
    {"refuses a document from after its leaf, whatever the required time", CLV_ATT_CERT_EXPIRED,
     AT_LEAF, WITH(LEAF, .not_after = MAKER_TIME_S - 1), UINT64_C(1000) * MAKER_VALID_FROM},
    {"refuses a time with an offset", CLV_ATT_CERT_PARSE, AT_LEAF,
     WITH(LEAF, .der = DER_TIME_OFFSET), 0},
    {"refuses a time without seconds", CLV_ATT_CERT_PARSE, AT_LEAF,
     WITH(LEAF, .der = DER_TIME_SHORT), 0},

    /* Encoding. */
    {"refuses a byte behind a CA", CLV_ATT_CERT_PARSE, AT_REGION, WITH(REGION, .der = DER_TRAILING),
     0},
    {"refuses a byte behind the leaf", CLV_ATT_CERT_PARSE, AT_LEAF, WITH(LEAF, .der = DER_TRAILING),
     0},
    {"refuses a byte behind the root, pinned or not", CLV_ATT_CERT_PARSE, AT_ROOT,
     WITH(ROOT, .der = DER_TRAILING), 0},
    {"refuses a certificate cut short", CLV_ATT_CERT_PARSE, AT_LEAF, WITH(LEAF, .der = DER_CUT), 0},
    {"refuses BER in DER's place", CLV_ATT_CERT_PARSE, AT_LEAF, WITH(LEAF, .der = DER_INDEFINITE),
     0},
    {"refuses version 1", CLV_ATT_CERT_PARSE, AT_LEAF, WITH(LEAF, .der = DER_VERSION_1), 0},
    {"refuses garbage", CLV_ATT_CERT_PARSE, AT_REGION, WITH(REGION, .der = DER_GARBAGE), 0},

    /* Algorithms and keys. */
    {"refuses a CA signed with SHA-256", CLV_ATT_CERT_ALGORITHM, AT_REGION,
     WITH(REGION, .algorithm = ALGORITHM_SHA256), 0},
    {"refuses a leaf signed with SHA-256", CLV_ATT_CERT_ALGORITHM, AT_LEAF,
     WITH(LEAF, .algorithm = ALGORITHM_SHA256), 0},
    {"refuses a leaf signed with SHA-512", CLV_ATT_CERT_ALGORITHM, AT_LEAF,
     WITH(LEAF, .algorithm = ALGORITHM_SHA512), 0},
    {"refuses a root signed with SHA-256", CLV_ATT_CERT_ALGORITHM, AT_ROOT,
     WITH(ROOT, .algorithm = ALGORITHM_SHA256), 0},
    {"refuses another algorithm outside", CLV_ATT_CERT_ALGORITHM, AT_LEAF,
     WITH(LEAF, .algorithm = ALGORITHM_OUTER_SHA256), 0},
    {"refuses another algorithm inside", CLV_ATT_CERT_ALGORITHM, AT_LEAF,
     WITH(LEAF, .algorithm = ALGORITHM_INNER_SHA256), 0},
    {"refuses a CA signed with RSA", CLV_ATT_CERT_KEY, AT_REGION, WITH(REGION, .key = KEY_RSA), 0},
    {"refuses a leaf key on P-256", CLV_ATT_CERT_KEY, AT_LEAF, WITH(LEAF, .key = KEY_P256), 0},
    {"refuses a leaf key on P-521", CLV_ATT_CERT_KEY, AT_LEAF, WITH(LEAF, .key = KEY_P521), 0},
    {"refuses a CA key on P-256", CLV_ATT_CERT_KEY, AT_INSTANCE, WITH(INSTANCE, .key = KEY_P256),
     0},
    {"refuses an RSA leaf key", CLV_ATT_CERT_KEY, AT_LEAF, WITH(LEAF, .key = KEY_RSA), 0},
    {"refuses P-384 by explicit parameters", CLV_ATT_CERT_KEY, AT_LEAF,
     WITH(LEAF, .key = KEY_EXPLICIT), 0},
    {"refuses P-384 by explicit parameters in a CA", CLV_ATT_CERT_KEY, AT_REGION,
     WITH(REGION, .key = KEY_EXPLICIT), 0},
    {"refuses a compressed point", CLV_ATT_CERT_KEY, AT_LEAF, WITH(LEAF, .key = KEY_COMPRESSED), 0},
    {"refuses a point off the curve", CLV_ATT_CERT_KEY, AT_LEAF, WITH(LEAF, .key = KEY_OFF_CURVE),
     0},

    /* basicConstraints. */
    {"refuses a CA that says it is none", CLV_ATT_CERT_BASIC, AT_REGION,
     WITH(REGION, .ca = CA_FALSE, .path = PATH_NONE), 0},
    {"refuses a CA that does not say", CLV_ATT_CERT_BASIC, AT_REGION, WITH(REGION, .ca = CA_ABSENT),
     0},
    {"refuses a last CA that says it is none", CLV_ATT_CERT_BASIC, AT_INSTANCE,
     WITH(INSTANCE, .ca = CA_FALSE, .path = PATH_NONE), 0},
    {"refuses a root that says it is none", CLV_ATT_CERT_BASIC, AT_ROOT, WITH(ROOT, .ca = CA_FALSE),
     0},
    {"refuses a leaf that says it is a CA", CLV_ATT_CERT_BASIC, AT_LEAF, WITH(LEAF, .ca = CA_TRUE),
     0},
    {"accepts a leaf that does not say", CLV_OK, NULL, WITH(LEAF, .ca = CA_ABSENT), 0},
    {"refuses a leaf with a path length", CLV_ATT_CERT_BASIC, AT_LEAF, WITH(LEAF, .path = PATH(0)),
     0},

    /* Path length: region has two CAs below it. */
    {"refuses a path length of 1 above two CAs", CLV_ATT_CERT_PATHLEN, AT_REGION,
     WITH(REGION, .path = PATH(1)), 0},
    {"refuses a path length of 0 above two CAs", CLV_ATT_CERT_PATHLEN, AT_REGION,
     WITH(REGION, .path = PATH(0)), 0},
    {"accepts a path length larger than needed", CLV_OK, NULL, WITH(REGION, .path = PATH(9)), 0},
    {"accepts no path length", CLV_OK, NULL, WITH(INSTANCE, .path = PATH_NONE), 0},
    {"refuses a root's path length of 2 above three CAs", CLV_ATT_CERT_PATHLEN, AT_ROOT,
     WITH(ROOT, .path = PATH(2)), 0},
    {"accepts a root's path length of 3", CLV_OK, NULL, WITH(ROOT, .path = PATH(3)), 0},
    {"refuses a negative path length", CLV_ATT_CERT_EXTENSION, AT_REGION,
     WITH(REGION, .extension = EXTENSION_PATH_NEGATIVE), 0},
    {"refuses a path length beyond all numbers", CLV_ATT_CERT_EXTENSION, AT_REGION,
     WITH(REGION, .extension = EXTENSION_PATH_HUGE), 0},

    /* keyUsage. */
    {"refuses a CA without keyUsage", CLV_ATT_CERT_USAGE, AT_REGION,
     WITH(REGION, .usage = USAGE_ABSENT), 0},
    {"refuses a CA that may sign data only", CLV_ATT_CERT_USAGE, AT_INSTANCE,
     WITH(INSTANCE, .usage = USAGE_DIGITAL_SIGNATURE), 0},
    {"refuses a CA that may sign revocations only", CLV_ATT_CERT_USAGE, AT_REGION,
     WITH(REGION, .usage = USAGE_CRL_SIGN), 0},
    {"refuses a root without keyUsage", CLV_ATT_CERT_USAGE, AT_ROOT,
     WITH(ROOT, .usage = USAGE_ABSENT), 0},
    {"accepts a CA that may sign data too", CLV_OK, NULL, WITH(REGION, .usage = USAGE_BOTH), 0},
    {"refuses a leaf without keyUsage", CLV_ATT_CERT_USAGE, AT_LEAF,
     WITH(LEAF, .usage = USAGE_ABSENT), 0},
    {"refuses a leaf that may sign certificates only", CLV_ATT_CERT_USAGE, AT_LEAF,
     WITH(LEAF, .usage = USAGE_CERT_SIGN), 0},
    {"refuses a leaf that may sign certificates too", CLV_ATT_CERT_USAGE, AT_LEAF,
     WITH(LEAF, .usage = USAGE_BOTH), 0},

    /* Other extensions. */
    {"accepts an unknown extension", CLV_OK, NULL, WITH(LEAF, .extension = EXTENSION_UNKNOWN), 0},
    {"refuses an unknown critical extension", CLV_ATT_CERT_CRITICAL, AT_LEAF,
     WITH(LEAF, .extension = EXTENSION_UNKNOWN_CRITICAL), 0},
    {"refuses an unknown critical extension in a CA", CLV_ATT_CERT_CRITICAL, AT_REGION,
     WITH(REGION, .extension = EXTENSION_UNKNOWN_CRITICAL), 0},
    {"refuses name constraints, which are not applied here", CLV_ATT_CERT_CRITICAL, AT_REGION,
     WITH(REGION, .extension = EXTENSION_NAME_CONSTRAINTS_CRITICAL), 0},
    {"refuses an unknown extension twice", CLV_ATT_CERT_EXTENSION, AT_LEAF,
     WITH(LEAF, .extension = EXTENSION_UNKNOWN_TWICE), 0},
    {"refuses basicConstraints twice", CLV_ATT_CERT_EXTENSION, AT_REGION,
     WITH(REGION, .extension = EXTENSION_BASIC_TWICE), 0},
    {"refuses keyUsage twice", CLV_ATT_CERT_EXTENSION, AT_LEAF,
     WITH(LEAF, .extension = EXTENSION_USAGE_TWICE), 0},
    {"refuses malformed basicConstraints", CLV_ATT_CERT_EXTENSION, AT_REGION,
     WITH(REGION, .extension = EXTENSION_BASIC_MALFORMED), 0},
    {"refuses a byte behind basicConstraints", CLV_ATT_CERT_EXTENSION, AT_REGION,
     WITH(REGION, .extension = EXTENSION_BASIC_TRAILING), 0},
    {"refuses a malformed keyUsage", CLV_ATT_CERT_EXTENSION, AT_LEAF,
     WITH(LEAF, .extension = EXTENSION_USAGE_MALFORMED), 0},

    /* Names and signatures. */
    {"refuses a CA of another issuer", CLV_ATT_CERT_NAME, AT_REGION,
     WITH(REGION, .issuer = "elsewhere"), 0},
    {"refuses a leaf of another issuer", CLV_ATT_CERT_NAME, AT_LEAF,
     WITH(LEAF, .issuer = "elsewhere"), 0},
    {"refuses a leaf that names its grandparent", CLV_ATT_CERT_NAME, AT_LEAF,
     WITH(LEAF, .issuer = "zone"), 0},
    {"refuses an empty issuer", CLV_ATT_CERT_NAME, AT_LEAF, WITH(LEAF, .issuer = ""), 0},
    {"refuses an empty issuer below an empty subject", CLV_ATT_CERT_NAME, AT_LEAF,
     WITH(INSTANCE, .subject = ""), 0},
    {"refuses a CA signed by a stranger", CLV_ATT_CERT_SIGNATURE, AT_REGION,
     WITH(REGION, .signer = SIGNER_STRANGER), 0},
    {"refuses a last CA signed by a stranger", CLV_ATT_CERT_SIGNATURE, AT_INSTANCE,
     WITH(INSTANCE, .signer = SIGNER_STRANGER), 0},
    {"refuses a leaf signed by a stranger", CLV_ATT_CERT_SIGNATURE, AT_LEAF,
     WITH(LEAF, .signer = SIGNER_STRANGER), 0},
    {"refuses a leaf with a changed signature", CLV_ATT_CERT_SIGNATURE, AT_LEAF,
     WITH(LEAF, .signer = SIGNER_FLIPPED), 0},
    {"refuses a CA with a changed signature", CLV_ATT_CERT_SIGNATURE, AT_REGION,
     WITH(REGION, .signer = SIGNER_FLIPPED), 0},
    {"accepts a pinned root whatever signed it", CLV_OK, NULL,
     WITH(ROOT, .signer = SIGNER_STRANGER), 0},
    {"refuses a root-signed leaf above which there are others",
     CLV_ATT_CERT_NAME,
     AT_LEAF,
     {.bundle = BUNDLE_ROOT_ONLY},
     0},
    {"refuses a leaf that names the root but was not signed by it",
     CLV_ATT_CERT_SIGNATURE,
     AT_LEAF,
     {.bundle = BUNDLE_ROOT_ONLY, .certificate[LEAF].issuer = "root"},
     0},
};
#define CASES (sizeof cases / sizeof cases[0])

static maker keys;

static void judges_a_chain(void **state)
{
    const chain_case *c = *state;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_document out = {.bundle_count = 77};
    clv_error err = {0};
    clv_verify_options options;
    clv_verify_options_init(&options);
    options.at_ms = c->at_ms != 0 ? c->at_ms : CLV_AT_DOCUMENT;
    maker_make(&keys, &c->knobs, &document, options.root_sha256);
    clv_status status = clv_document_verify(clv_buf_bytes(&document), &options, &out, &err);
    if (status != c->expect || (c->place != NULL && strstr(err.text, c->place) != err.text))
        print_error("%s: expected %s %s, found %s: %s\n", c->name, clv_status_slug(c->expect),
                    c->place != NULL ? c->place : "", clv_status_slug(status), err.text);
    assert_int_equal(status, c->expect);
    if (c->place != NULL)
        assert_ptr_equal(strstr(err.text, c->place), err.text);
    if (status != CLV_OK)
        assert_int_equal(out.bundle_count, 77);
}

/* The pin decides, not the place: a chain that is sound under another root is refused. */
static void refuses_a_sound_chain_under_another_root(void **state)
{
    (void)state;
    static const maker_knobs right = RIGHT;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_document out;
    clv_verify_options options;
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    maker_make(&keys, &right, &document, root);
    clv_verify_options_init(&options);
    assert_int_equal(clv_document_verify(clv_buf_bytes(&document), &options, &out, NULL),
                     CLV_ATT_CERT_ROOT);
    memcpy(options.root_sha256, root, sizeof root);
    options.root_sha256[CLV_ROOT_DIGEST_SIZE - 1] ^= 1;
    assert_int_equal(clv_document_verify(clv_buf_bytes(&document), &options, &out, NULL),
                     CLV_ATT_CERT_ROOT);
}

static void the_default_root_is_the_one_aws_publishes(void **state)
{
    (void)state;
    clv_verify_options options;
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    clv_verify_options_init(&options);
    assert_int_equal(
        clv_hex_append(&hex, CLV_BYTES(options.root_sha256, CLV_ROOT_DIGEST_SIZE), NULL), CLV_OK);
    assert_int_equal(clv_buf_text(&hex, &text, NULL), CLV_OK);
    assert_string_equal(text, "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b");
    assert_int_equal(options.kind, CLV_KIND_ENCLAVE);
    assert_true(options.at_ms == CLV_AT_DOCUMENT);
}

static void describes_a_certificate(void **state)
{
    (void)state;
    static const maker_knobs right = RIGHT;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_document document;
    clv_certificate_facts facts;
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    maker_make(&keys, &right, &bytes, root);
    assert_int_equal(clv_document_parse(clv_buf_bytes(&bytes), &document, NULL), CLV_OK);
    assert_int_equal(clv_certificate_describe(document.bundle[2], &facts, NULL), CLV_OK);
    assert_string_equal(facts.subject, "CN=zone,O=Test");
    assert_string_equal(facts.issuer, "CN=region,O=Test");
    assert_string_equal(facts.serial, "03");
    assert_true(facts.ca);
    assert_int_equal(facts.path_length, 1);
    assert_true(facts.not_before_ms == UINT64_C(1000) * MAKER_VALID_FROM);
    assert_true(facts.not_after_ms == UINT64_C(1000) * MAKER_VALID_UNTIL);
    assert_int_equal(clv_certificate_describe(CLV_BYTES("x", 1), &facts, NULL), CLV_ATT_CERT_PARSE);
    assert_int_equal(clv_certificate_describe(CLV_BYTES(NULL, 0), &facts, NULL),
                     CLV_ATT_CERT_PARSE);
}

static int start(void **state)
{
    (void)state;
    maker_start(&keys);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    maker_drop(&keys);
    return 0;
}

int main(void)
{
    static struct CMUnitTest tests[CASES + 3] = {
        cmocka_unit_test(refuses_a_sound_chain_under_another_root),
        cmocka_unit_test(the_default_root_is_the_one_aws_publishes),
        cmocka_unit_test(describes_a_certificate),
    };
    for (size_t i = 0; i < CASES; i++)
        tests[3 + i] = (struct CMUnitTest){cases[i].name, judges_a_chain, NULL, NULL,
                                           (void *)(uintptr_t)&cases[i]};
    return _cmocka_run_group_tests("chain", tests, CASES + 3, start, finish);
}

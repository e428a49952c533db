/* The measured file: what it may say, and what it makes of requests. */
#include "../check.h"

#include <claviger/policy.h>

#define ARN   "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define OTHER "arn:aws:kms:us-east-1:123456789012:key/ffffffff-12ab-34cd-56ef-1234567890ab"
#define H48                            \
    "11111111111111111111111111111111" \
    "11111111111111111111111111111111" \
    "11111111111111111111111111111111"
#define ROOT "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"

#define ATTESTATION "{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"" H48 "\"}}"
#define KMS                                                                           \
    "{\"region\":\"us-east-1\",\"endpoint\":\"https://kms.us-east-1.amazonaws.com\"," \
    "\"ca_file\":\"/etc/ca.pem\"}"
#define KEY                                                                     \
    "{\"key_id\":\"" ARN "\",\"operations\":[\"GenerateDataKey\",\"Decrypt\"]," \
    "\"encryption_context\":{\"Purpose\":\"AgentSecrets\",\"enclave\":\"${enclave}\"}}"
/* DER SubjectPublicKeyInfo: the base point of P-256; a byte behind it; off the curve; a point on
 * secp256k1, which KMS does not agree on. */
#define PEER                                                                   \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5" \
    "RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
#define PEER_LONGER                                                            \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5" \
    "RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QA="
#define PEER_OFF_CURVE                                                         \
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5" \
    "RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9A=="
#define PEER_K1                                                                \
    "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEZos1a2IYSeIFMaaqEtMIjJVfNvdcNyPTft0hofGc" \
    "OxhhjmDWQaUAXoSFNRZaac6pt3hwbXSJj5ntAp1QBEqI1w=="
#define AGREEMENT(operations, peer)                                                              \
    WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[" operations "],\"peer_public_key\":" peer \
             "}")
#define AGENT "{\"uid\":1000,\"may\":[\"seal:k\",\"unseal:k\",\"derive:k/wallet/*\"]}"

#define POLICY(attestation, kms, keys, agents)                                      \
    "{\"version\":1,\"enclave\":\"e\",\"attestation\":" attestation ",\"kms\":" kms \
    ",\"keys\":" keys ",\"agents\":" agents "}"
#define GOOD POLICY(ATTESTATION, KMS, "{\"k\":" KEY "}", "[" AGENT "]")
/* A policy whose one key, attestation section or agent is this. */
#define WITH_KEY(key)        POLICY(ATTESTATION, KMS, "{\"k\":" key "}", "[]")
#define WITH_ATTESTATION(at) POLICY(at, KMS, "{\"k\":" KEY "}", "[]")
#define WITH_AGENT(agent)    POLICY(ATTESTATION, KMS, "{\"k\":" KEY "}", "[" agent "]")
#define WITH_KMS(kms)        POLICY(ATTESTATION, kms, "{\"k\":" KEY "}", "[]")

#define WITH_WITNESS(witness)                                                       \
    "{\"version\":1,\"enclave\":\"e\",\"attestation\":" ATTESTATION ",\"kms\":" KMS \
    ",\"keys\":{\"k\":" KEY "},\"agents\":[],\"witness\":" witness "}"
#define WITNESS_ETCD(endpoints, more) \
    WITH_WITNESS("{\"mode\":\"etcd\",\"key\":\"k\",\"endpoints\":" endpoints more "}")
#define WITNESS_REST ",\"ca_file\":\"/etc/w.pem\",\"prefix\":\"p/\""

static clv_policy *parse(const char *text)
{
    clv_policy *policy = NULL;
    assert_ok(clv_policy_parse(clv_bytes_of(text), &policy, err));
    return policy;
}

static clv_identity identity_of(const clv_policy *policy)
{
    clv_identity identity = {.pcrs = {.present = 7 | 1 << 8 | 1 << 16}};
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++)
        memset(identity.pcrs.value[i], (int)i + 1, CLV_PCR_SIZE);
    memcpy(identity.pcrs.value[16], policy->pcr16, CLV_PCR_SIZE);
    return identity;
}

/* Each malformed policy: its code, and the place that its sentence must name. */
static const struct {
    const char *text;
    clv_status expected;
    const char *names;
} bad_table[] = {
    {"", CLV_JSON_MALFORMED, "line"},
    {"[]", CLV_JSON_TYPE, "object"},
    {"{\"version\":1,\"version\":1}", CLV_JSON_MALFORMED, "version, line 1, column 22: a member"},
    {POLICY(ATTESTATION, KMS, "{\"k\":" KEY ",\"k\":" KEY "}", "[]"), CLV_JSON_MALFORMED,
     "keys.k, "},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"root_sha256\":\"" ROOT "\"}"),
     CLV_JSON_MALFORMED, "attestation.root_sha256, "},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"a\":\"x\",\"a\":\"x\"}}"),
     CLV_JSON_MALFORMED, "keys.k.encryption_context.a, "},
    {WITH_KEY("{\"key_id\":\"" ARN "\", /* the old one */ \"operations\":[\"Decrypt\"]}"),
     CLV_JSON_MALFORMED, "keys.k.key_id, "},
    {WITH_KMS("{\"region\": // ours\n\"us-east-1\"}"), CLV_JSON_MALFORMED, "kms.region, "},
    {WITH_ATTESTATION("{\"max_age_s\":100000000000000000000}"), CLV_JSON_MALFORMED,
     "attestation.max_age_s, "},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"" H48
                      "\"},\"max_age_s\":9223372036854775807}"),
     CLV_JSON_VALUE, "attestation.max_age_s"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"" H48
                      "\"},\"max_age_s\":6e1}"),
     CLV_JSON_TYPE, "attestation.max_age_s"},
    {WITH_AGENT("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"),
     CLV_JSON_MALFORMED, "agents[0][0]"},
    {"{\"version\":2}", CLV_JSON_VALUE, "version"},
    {"{\"version\":\"1\"}", CLV_JSON_TYPE, "version"},
    {"{\"version\":1}", CLV_JSON_MISSING, "enclave"},
    {WITH_WITNESS("[]"), CLV_JSON_TYPE, "witness"},
    {WITH_WITNESS("{}"), CLV_JSON_MISSING, "witness.mode"},
    {WITH_WITNESS("{\"mode\":\"oracle\"}"), CLV_JSON_VALUE, "witness.mode"},
    {WITH_WITNESS("{\"mode\":\"receipts\"}"), CLV_JSON_MISSING, "witness.key"},
    {WITH_WITNESS("{\"mode\":\"receipts\",\"key\":\"z\"}"), CLV_POLICY_FORMAT, "witness.key"},
    {WITH_WITNESS("{\"mode\":\"receipts\",\"key\":\"k\",\"prefix\":\"p\"}"), CLV_JSON_UNKNOWN,
     "witness.prefix"},
    {WITH_WITNESS("{\"mode\":\"etcd\",\"key\":\"k\"}"), CLV_JSON_MISSING, "witness.endpoints"},
    {WITNESS_ETCD("[]", WITNESS_REST), CLV_JSON_TYPE, "witness.endpoints"},
    {WITNESS_ETCD("\"https://w\"", WITNESS_REST), CLV_JSON_TYPE, "witness.endpoints"},
    {WITNESS_ETCD("[\"http://w\"]", WITNESS_REST), CLV_POLICY_FORMAT, "witness.endpoints[0]"},
    {WITNESS_ETCD("[\"https://w\",7]", WITNESS_REST), CLV_POLICY_FORMAT, "witness.endpoints[1]"},
    {WITNESS_ETCD("[\"https://w@x\"]", WITNESS_REST), CLV_POLICY_FORMAT, "witness.endpoints[0]"},
    {WITNESS_ETCD("[\"https://w\"]", ""), CLV_JSON_MISSING, "witness.ca_file"},
    {WITNESS_ETCD("[\"https://w\"]", ",\"ca_file\":\"w.pem\",\"prefix\":\"p\""), CLV_POLICY_FORMAT,
     "witness.ca_file"},
    {WITNESS_ETCD("[\"https://w\"]", ",\"ca_file\":\"/w.pem\",\"prefix\":\"\""), CLV_JSON_VALUE,
     "witness.prefix"},
    {"{\"version\":1,\"enclave\":\"a b\"}", CLV_POLICY_FORMAT, "enclave"},
    {"{\"version\":1,\"enclave\":\"\"}", CLV_POLICY_FORMAT, "enclave"},
    {"{\"version\":1,\"enclave\":\"e\"}", CLV_JSON_MISSING, "attestation"},
    {WITH_ATTESTATION("[]"), CLV_JSON_TYPE, "attestation"},
    {WITH_ATTESTATION("{}"), CLV_JSON_MISSING, "attestation.root_sha256"},
    {WITH_ATTESTATION("{\"root_sha256\":\"00\"}"), CLV_BAD_ENCODING, "attestation.root_sha256"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\"}"), CLV_POLICY_WEAK, "attestation"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"3\":\"" H48 "\"}}"),
     CLV_POLICY_WEAK, "attestation"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"0\":\"" H48 "\"}}"),
     CLV_POLICY_FORMAT, "attestation.pcrs.0"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"16\":\"" H48 "\"}}"),
     CLV_POLICY_FORMAT, "attestation.pcrs.16"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"32\":\"" H48 "\"}}"),
     CLV_POLICY_FORMAT, "attestation.pcrs"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"08\":\"" H48 "\"}}"),
     CLV_POLICY_FORMAT, "attestation.pcrs"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"11\"}}"), CLV_BAD_ENCODING,
     "attestation.pcrs.8"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":"
                      "\"00000000000000000000000000000000"
                      "00000000000000000000000000000000"
                      "00000000000000000000000000000000\"}}"),
     CLV_POLICY_FORMAT, "attestation.pcrs.8"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"release_keys\":[\"RWx\"]}"),
     CLV_BASELINE_KEY, "attestation.release_keys[0]"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"release_keys\":[7]}"), CLV_JSON_TYPE,
     "attestation.release_keys[0]"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"" H48
                      "\"},\"max_age_s\":0}"),
     CLV_JSON_VALUE, "attestation.max_age_s"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"" H48
                      "\"},\"allow_debug\":1}"),
     CLV_JSON_TYPE, "attestation.allow_debug"},
    {WITH_ATTESTATION("{\"root_sha256\":\"" ROOT "\",\"pcrs\":{\"8\":\"" H48 "\"},\"x\":1}"),
     CLV_JSON_UNKNOWN, "attestation.x"},
    {WITH_KMS("{\"region\":\"us-east-1\"}"), CLV_JSON_MISSING, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"\",\"endpoint\":\"https://x\",\"ca_file\":\"/x\"}"), CLV_JSON_VALUE,
     "kms.region"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"http://x\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"https://\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"https://a@b\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"https://a/b\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"https://a:\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"https://a:1x\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "kms.endpoint"},
    {WITH_KMS("{\"region\":\"us-east-1\",\"endpoint\":\"https://x\",\"ca_file\":\"x\"}"),
     CLV_POLICY_FORMAT, "kms.ca_file"},
    {WITH_KMS("{\"region\":\"eu-west-1\",\"endpoint\":\"https://x\",\"ca_file\":\"/x\"}"),
     CLV_POLICY_FORMAT, "keys.k.key_id"},
    {AGREEMENT("\"DeriveSharedSecret\"", "7"), CLV_JSON_TYPE, "keys.k.peer_public_key"},
    {AGREEMENT("\"DeriveSharedSecret\"", "\"\""), CLV_BAD_ENCODING, "keys.k.peer_public_key"},
    {AGREEMENT("\"DeriveSharedSecret\"", "\"!\""), CLV_BAD_ENCODING, "keys.k.peer_public_key"},
    {AGREEMENT("\"DeriveSharedSecret\"", "\"" PEER_LONGER "\""), CLV_BAD_ENCODING,
     "keys.k.peer_public_key"},
    {AGREEMENT("\"DeriveSharedSecret\"", "\"" PEER_OFF_CURVE "\""), CLV_BAD_ENCODING,
     "keys.k.peer_public_key"},
    {AGREEMENT("\"DeriveSharedSecret\"", "\"" PEER_K1 "\""), CLV_BAD_ENCODING,
     "keys.k.peer_public_key"},
    {AGREEMENT("\"Decrypt\"", "\"" PEER "\""), CLV_POLICY_FORMAT, "keys.k.operations"},
    {POLICY(ATTESTATION, KMS, "{}", "[]"), CLV_POLICY_FORMAT, "keys"},
    {POLICY(ATTESTATION, KMS, "{\"a b\":" KEY "}", "[]"), CLV_POLICY_FORMAT, "keys"},
    {WITH_KEY("{\"operations\":[\"Decrypt\"]}"), CLV_JSON_MISSING, "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"1234abcd-12ab-34cd-56ef-1234567890ab\",\"operations\":[\"Decrypt\"]}"),
     CLV_POLICY_FORMAT, "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"alias/x\",\"operations\":[\"Decrypt\"]}"), CLV_POLICY_FORMAT,
     "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"arn:aws:kms:us-east-1:123456789012:alias/x\",\"operations\":["
              "\"Decrypt\"]}"),
     CLV_POLICY_FORMAT, "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"arn:aws:kms:us-east-1:12345678901:key/x\",\"operations\":["
              "\"Decrypt\"]}"),
     CLV_POLICY_FORMAT, "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"arn:aws:kms:us-east-1:123456789012:key/*\",\"operations\":["
              "\"Decrypt\"]}"),
     CLV_POLICY_FORMAT, "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"arn:aws:s3:us-east-1:123456789012:key/x\",\"operations\":["
              "\"Decrypt\"]}"),
     CLV_POLICY_FORMAT, "keys.k.key_id"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[]}"), CLV_JSON_TYPE, "keys.k.operations"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Encrypt\"]}"), CLV_POLICY_FORMAT,
     "keys.k.operations[0]"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\",\"Decrypt\"]}"),
     CLV_POLICY_FORMAT, "keys.k.operations[1]"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"claviger:name\":\"x\"}}"),
     CLV_POLICY_FORMAT, "keys.k.encryption_context"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"aws-crypto-public-key\":\"x\"}}"),
     CLV_POLICY_FORMAT, "keys.k.encryption_context"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"a\":1}}"),
     CLV_JSON_TYPE, "keys.k.encryption_context.a"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"a\":\"${parent}\"}}"),
     CLV_POLICY_TEMPLATE, "keys.k.encryption_context.a"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"a\":\"${pcr32}\"}}"),
     CLV_POLICY_TEMPLATE, "keys.k.encryption_context.a"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"encryption_context\":{"
              "\"a\":\"x${enclave\"}}"),
     CLV_POLICY_TEMPLATE, "keys.k.encryption_context.a"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"cache\":{}}"),
     CLV_JSON_MISSING, "keys.k.cache.max_age_s"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],\"cache\":{\"max_age_s\":-1,"
              "\"max_messages\":1,\"max_bytes\":0}}"),
     CLV_JSON_VALUE, "keys.k.cache.max_age_s"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],"
              "\"max_encrypted_data_keys\":0}"),
     CLV_JSON_VALUE, "keys.k.max_encrypted_data_keys"},
    {WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],"
              "\"max_encrypted_data_keys\":17}"),
     CLV_JSON_VALUE, "keys.k.max_encrypted_data_keys"},
    {WITH_AGENT("{\"may\":[]}"), CLV_JSON_MISSING, "agents[0]"},
    {WITH_AGENT("{\"uid\":-1,\"may\":[]}"), CLV_JSON_VALUE, "agents[0].uid"},
    {WITH_AGENT("{\"uid\":1}"), CLV_JSON_MISSING, "agents[0].may"},
    {WITH_AGENT("{\"exe_sha256\":\"00\",\"may\":[]}"), CLV_JSON_MISSING, "agents[0]"},
    {WITH_AGENT("{\"uid\":1,\"exe_sha256\":\"00\",\"may\":[]}"), CLV_BAD_ENCODING,
     "agents[0].exe_sha256"},
    {WITH_AGENT("{\"uid\":1,\"may\":[\"seal\"]}"), CLV_POLICY_FORMAT, "agents[0].may[0]"},
    {WITH_AGENT("{\"uid\":1,\"may\":[\"fly:k\"]}"), CLV_POLICY_FORMAT, "agents[0].may[0]"},
    {WITH_AGENT("{\"uid\":1,\"may\":[\"seal:other\"]}"), CLV_POLICY_FORMAT, "agents[0].may[0]"},
    {WITH_AGENT("{\"uid\":1,\"may\":[\"derive:k/a*b\"]}"), CLV_POLICY_FORMAT, "agents[0].may[0]"},
    {WITH_AGENT("{\"uid\":1,\"may\":[\"derive:k/\"]}"), CLV_POLICY_FORMAT, "agents[0].may[0]"},
    {WITH_AGENT("{\"uid\":1,\"may\":[7]}"), CLV_JSON_TYPE, "agents[0].may[0]"},
};

static void each_malformed_policy_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(bad_table); i++) {
        clv_policy *policy = NULL;
        clv_error fault = {.code = CLV_OK};
        clv_status found = clv_policy_parse(clv_bytes_of(bad_table[i].text), &policy, &fault);
        if (found != bad_table[i].expected || strstr(fault.text, bad_table[i].names) == NULL)
            fail_msg("%s: expected %s naming %s, found %s: %s", bad_table[i].text,
                     clv_status_slug(bad_table[i].expected), bad_table[i].names,
                     clv_status_slug(found), fault.text);
        assert_null(policy);
    }
}

/* Every prefix of a good policy is a bad one; none may crash or leak. */
static void a_policy_cut_anywhere_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < strlen(GOOD); n++) {
        clv_policy *policy = NULL;
        assert_int_not_equal(clv_policy_parse(CLV_BYTES(GOOD, n), &policy, NULL), CLV_OK);
        assert_null(policy);
    }
}

static void one_byte_more_is_another_measurement(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) a = parse(GOOD);
    clv_auto_ptr(clv_policy) b = parse(GOOD " ");
    assert_memory_not_equal(a->pcr16, b->pcr16, sizeof a->pcr16);
    assert_memory_not_equal(a->digest, a->pcr16, sizeof a->pcr16);
}

static void templates_are_filled_from_the_document(void **state)
{
    (void)state;
    static const char text[] = WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],"
                                        "\"encryption_context\":{\"a\":\"${enclave}-${pcr8}.\","
                                        "\"p\":\"${policy}\",\"s\":\"${pcrs}\"}}");
    clv_auto_ptr(clv_policy) policy = parse(text);
    clv_identity identity = identity_of(policy);
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto(clv_buf) pcr16 = CLV_BUF_INIT;
    const char *pcr16_text;
    assert_ok(clv_policy_resolve_context(policy, &policy->key[0], &identity, &context, err));
    assert_string_equal(clv_context_get(&context, "a"),
                        "e-"
                        "090909090909090909090909090909090909090909090909"
                        "090909090909090909090909090909090909090909090909"
                        ".");
    assert_ok(clv_hex_append(&pcr16, CLV_BYTES(policy->pcr16, CLV_PCR_SIZE), err));
    assert_ok(clv_buf_text(&pcr16, &pcr16_text, err));
    assert_string_equal(clv_context_get(&context, "p"), pcr16_text);
    /* Recomputed with Python: SHA-384 of a4 00 5830 01… 01 5830 02… 02 5830 03… 08 5830 09… */
    assert_string_equal(clv_context_get(&context, "s"),
                        "5b0a09ef168a60e0030d280625761113c6e1d019993079f23d35dc22d0b59085c4a05c41fd"
                        "c27ca819ef4f93ba5c4d42");
}

static void a_register_that_identifies_nobody_fills_no_template(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy =
        parse(WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],"
                       "\"encryption_context\":{\"a\":\"${pcr8}\"}}"));
    clv_identity identity = identity_of(policy);
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    memset(identity.pcrs.value[8], 0, CLV_PCR_SIZE);
    assert_code(clv_policy_resolve_context(policy, &policy->key[0], &identity, &context, err),
                CLV_ATT_PCR_ZERO);
    clv_auto_ptr(clv_policy) whole =
        parse(WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],"
                       "\"encryption_context\":{\"a\":\"${pcrs}\"}}"));
    clv_identity debug = identity_of(whole);
    memset(debug.pcrs.value[1], 0, CLV_PCR_SIZE);
    assert_code(clv_policy_resolve_context(whole, &whole->key[0], &debug, &context, err),
                CLV_ATT_PCR_ZERO);
    identity.pcrs.present = 7;
    assert_code(clv_policy_resolve_context(policy, &policy->key[0], &identity, &context, err),
                CLV_ATT_PCR_MISSING);
}

static const struct {
    const char *request;
    clv_status expected;
    const char *names;
} setup_table[] = {
    {"{\"keyId\":\"" ARN "\"}", CLV_OK, ""},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":{}}", CLV_OK, ""},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"Purpose\":\"AgentSecrets\"}}", CLV_OK, ""},
    {"{\"keyId\":\"" ARN
     "\",\"encryptionContext\":{\"enclave\":\"e\",\"Purpose\":\"AgentSecrets\"}}",
     CLV_OK, ""},
    {"{\"keyId\":\"" OTHER "\"}", CLV_POLICY_NO_KEY, "keyId"},
    {"{\"keyId\":\"" ARN " \"}", CLV_POLICY_NO_KEY, "keyId"},
    {"{\"keyId\":\"1234abcd-12ab-34cd-56ef-1234567890ab\"}", CLV_POLICY_NO_KEY, "keyId"},
    {"{\"keyId\":\"alias/x\"}", CLV_POLICY_NO_KEY, "keyId"},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"Purpose\":\"agentsecrets\"}}",
     CLV_POLICY_CONTEXT, "encryptionContext.Purpose"},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"more\":\"x\"}}", CLV_POLICY_CONTEXT,
     "encryptionContext.more"},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"enclave\":\"${enclave}\"}}",
     CLV_POLICY_CONTEXT, "encryptionContext.enclave"},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"enclave\":1}}", CLV_REQUEST_FORMAT,
     "encryptionContext.enclave"},
    {"{\"keyId\":\"" ARN "\",\"encryptionContext\":[]}", CLV_REQUEST_FORMAT, "encryptionContext"},
    {"{\"keyId\":\"" ARN "\",\"numberOfBytes\":64}", CLV_REQUEST_FORMAT, "numberOfBytes"},
    {"{\"keyId\":\"" ARN "\",\"keyId\":\"" OTHER "\"}", CLV_REQUEST_FORMAT, "twice"},
    {"{\"keyid\":\"" ARN "\"}", CLV_REQUEST_FORMAT, "keyId"},
    {"{\"keyId\":7}", CLV_REQUEST_FORMAT, "keyId"},
    {"{}", CLV_REQUEST_FORMAT, "keyId"},
    {"[]", CLV_REQUEST_FORMAT, "object"},
    {"", CLV_REQUEST_FORMAT, "JSON"},
    {"{\"keyId\":\"" ARN "\"} {}", CLV_REQUEST_FORMAT, "JSON"},
};

static void a_request_selects_and_never_supplies(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy = parse(GOOD);
    clv_identity identity = identity_of(policy);
    for (size_t i = 0; i < ROWS(setup_table); i++) {
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        const clv_policy_key *key = NULL;
        clv_error fault = {.code = CLV_OK};
        clv_status found = clv_policy_resolve_setup(
            policy, &identity, clv_bytes_of(setup_table[i].request), &key, &operation, &fault);
        if (found != setup_table[i].expected || strstr(fault.text, setup_table[i].names) == NULL)
            fail_msg("%s: expected %s naming %s, found %s: %s", setup_table[i].request,
                     clv_status_slug(setup_table[i].expected), setup_table[i].names,
                     clv_status_slug(found), fault.text);
        if (found != CLV_OK)
            continue;
        assert_string_equal(operation.key_arn, ARN);
        assert_int_equal(operation.number_of_bytes, 32);
        assert_int_equal(operation.context.count, 2);
        assert_string_equal(clv_context_get(&operation.context, "Purpose"), "AgentSecrets");
        assert_string_equal(clv_context_get(&operation.context, "enclave"), "e");
    }
}

static void a_request_that_fits_two_keys_is_refused(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy =
        parse(POLICY(ATTESTATION, KMS,
                     "{\"a\":{\"key_id\":\"" ARN "\",\"operations\":[\"GenerateDataKey\"],"
                     "\"encryption_context\":{\"x\":\"1\"}},"
                     "\"b\":{\"key_id\":\"" ARN "\",\"operations\":[\"GenerateDataKey\"],"
                     "\"encryption_context\":{\"x\":\"2\"}}}",
                     "[]"));
    clv_identity identity = identity_of(policy);
    const clv_policy_key *key = NULL;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    assert_code(clv_policy_resolve_setup(policy, &identity, clv_bytes_of("{\"keyId\":\"" ARN "\"}"),
                                         &key, &operation, err),
                CLV_POLICY_AMBIGUOUS);
    assert_ok(clv_policy_resolve_setup(
        policy, &identity,
        clv_bytes_of("{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"x\":\"2\"}}"), &key,
        &operation, err));
    assert_string_equal(key->name, "b");
}

static void an_operation_that_the_key_lacks_is_refused(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy =
        parse(WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"]}"));
    clv_identity identity = identity_of(policy);
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    assert_code(
        clv_policy_resolve_generate(policy, &policy->key[0], &identity, NULL, 32, &operation, err),
        CLV_POLICY_OPERATION);
    assert_ok(clv_policy_resolve_decrypt(policy, &policy->key[0], &identity, NULL,
                                         clv_bytes_of("blob"), &operation, err));
}

static void a_key_agreement_is_the_policys_own_in_every_byte(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy =
        parse(WITH_KEY("{\"key_id\":\"" ARN "\",\"operations\":[\"DeriveSharedSecret\"],"
                       "\"peer_public_key\":\"" PEER "\","
                       "\"encryption_context\":{\"x\":\"1\"}}"));
    clv_identity identity = identity_of(policy);
    const clv_policy_key *key = NULL;
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    assert_ok(clv_policy_resolve_agreement(&policy->key[0], &operation, err));
    assert_int_equal(operation.action, CLV_DERIVE_SHARED_SECRET);
    assert_string_equal(operation.key_arn, ARN);
    assert_int_equal(operation.context.count, 0);
    clv_auto(clv_buf) peer = CLV_BUF_INIT;
    assert_ok(clv_base64_decode(clv_bytes_of(PEER), &peer, err));
    assert_true(clv_bytes_equal(clv_buf_bytes(&operation.public_key), clv_buf_bytes(&peer)));

    /* The parent has nothing to set up, and no key without a peer agrees with anybody. */
    clv_auto(clv_operation) other = CLV_OPERATION_INIT;
    assert_code(clv_policy_resolve_setup(policy, &identity, clv_bytes_of("{\"keyId\":\"" ARN "\"}"),
                                         &key, &other, err),
                CLV_POLICY_OPERATION);
    clv_auto_ptr(clv_policy) without = parse(GOOD);
    assert_code(clv_policy_resolve_agreement(&without->key[0], &other, err), CLV_POLICY_OPERATION);
}

static const struct {
    uint32_t uid;
    const char *verb, *key, *name;
    clv_status expected;
} allow_table[] = {
    {1000, "seal", "k", "", CLV_OK},
    {1000, "seal", "k", "any/name", CLV_OK},
    {1000, "unseal", "k", "x", CLV_OK},
    {1000, "derive", "k", "wallet/1", CLV_OK},
    {1000, "derive", "k", "wallet/", CLV_OK},
    {1000, "derive", "k", "wallet", CLV_CAPABILITY_MISSING},
    {1000, "derive", "k", "walle", CLV_CAPABILITY_MISSING},
    {1000, "derive", "k", "", CLV_CAPABILITY_MISSING},
    {1000, "delete", "k", "x", CLV_CAPABILITY_MISSING},
    {1000, "seal", "kk", "x", CLV_CAPABILITY_MISSING},
    {1000, "sea", "k", "x", CLV_CAPABILITY_MISSING},
    {1001, "seal", "k", "", CLV_AGENT_UNKNOWN},
    {0, "seal", "k", "", CLV_AGENT_UNKNOWN},
};

static void an_agent_may_do_exactly_what_the_table_says(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy = parse(GOOD);
    for (size_t i = 0; i < ROWS(allow_table); i++) {
        clv_error fault = {.code = CLV_OK};
        clv_caller caller = {.uid = allow_table[i].uid, .gid = 5};
        clv_status found = clv_policy_allow(policy, &caller, allow_table[i].verb,
                                            allow_table[i].key, allow_table[i].name, &fault);
        if (found != allow_table[i].expected)
            fail_msg("%u %s:%s/%s: expected %s, found %s", allow_table[i].uid, allow_table[i].verb,
                     allow_table[i].key, allow_table[i].name,
                     clv_status_slug(allow_table[i].expected), clv_status_slug(found));
    }
}

#define EXE_A "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"

static void a_row_that_names_an_executable_is_for_callers_that_run_it(void **state)
{
    (void)state;
    clv_auto_ptr(clv_policy) policy =
        parse(WITH_AGENT("{\"uid\":1,\"exe_sha256\":\"" EXE_A "\",\"may\":[\"seal:k\"]},"
                         "{\"uid\":1,\"gid\":7,\"may\":[\"attest:k\"]}"));
    uint8_t a[CLV_EXE_DIGEST_SIZE], b[CLV_EXE_DIGEST_SIZE];
    memset(a, 0xa1, sizeof a);
    memcpy(b, a, sizeof b);
    b[CLV_EXE_DIGEST_SIZE - 1] ^= 1;
    const struct {
        clv_caller caller;
        const char *verb, *said;
        clv_status expected;
    } row[] = {
        {{1, 1, a}, "seal", "", CLV_OK},
        {{1, 1, b}, "seal", "executable a1a1", CLV_AGENT_UNKNOWN},
        {{1, 1, NULL}, "seal", "executable not measurable", CLV_AGENT_UNKNOWN},
        {{2, 1, a}, "seal", "uid 2, gid 1", CLV_AGENT_UNKNOWN},
        {{1, 7, NULL}, "attest", "", CLV_OK},
        {{1, 7, NULL}, "seal", "seal:k, executable not measurable", CLV_CAPABILITY_MISSING},
        {{1, 7, b}, "seal", "seal:k, executable a1a1", CLV_CAPABILITY_MISSING},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_error fault = {.code = CLV_OK};
        assert_int_equal(clv_policy_allow(policy, &row[i].caller, row[i].verb, "k", "", &fault),
                         row[i].expected);
        assert_non_null(strstr(fault.text, row[i].said));
    }
    assert_ptr_equal(clv_policy_exe_row(policy, 1, 1), &policy->agent[0]);
    assert_null(clv_policy_exe_row(policy, 2, 7));
}

static void a_witness_is_read_in_both_modes(void **state)
{
    (void)state;
    clv_policy *none = parse(GOOD);
    assert_int_equal(none->witness.mode, CLV_WITNESS_MODE_NONE);
    clv_policy_free(&none);
    clv_policy *receipts = parse(WITH_WITNESS("{\"mode\":\"receipts\",\"key\":\"k\"}"));
    assert_int_equal(receipts->witness.mode, CLV_WITNESS_MODE_RECEIPTS);
    clv_policy_free(&receipts);
    clv_policy *etcd = parse(WITNESS_ETCD("[\"https://a:2379\",\"https://b\"]", WITNESS_REST));
    assert_int_equal(etcd->witness.mode, CLV_WITNESS_MODE_ETCD);
    assert_int_equal(etcd->witness.endpoint_count, 2);
    assert_string_equal(etcd->witness.endpoint[1], "https://b");
    assert_string_equal(etcd->witness.ca_file, "/etc/w.pem");
    assert_string_equal(etcd->witness.prefix, "p/");
    assert_int_equal(etcd->witness.key, 0);
    clv_policy_free(&etcd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_witness_is_read_in_both_modes),
        cmocka_unit_test(each_malformed_policy_is_refused_by_name),
        cmocka_unit_test(a_policy_cut_anywhere_is_refused),
        cmocka_unit_test(one_byte_more_is_another_measurement),
        cmocka_unit_test(templates_are_filled_from_the_document),
        cmocka_unit_test(a_register_that_identifies_nobody_fills_no_template),
        cmocka_unit_test(a_request_selects_and_never_supplies),
        cmocka_unit_test(a_request_that_fits_two_keys_is_refused),
        cmocka_unit_test(an_operation_that_the_key_lacks_is_refused),
        cmocka_unit_test(a_key_agreement_is_the_policys_own_in_every_byte),
        cmocka_unit_test(an_agent_may_do_exactly_what_the_table_says),
        cmocka_unit_test(a_row_that_names_an_executable_is_for_callers_that_run_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What comes from outside as JSON, by the input's first byte: a policy, a parent's key setup
 * request under a fixed policy, a baseline, or a baseline's signature. Nothing may crash, leak or
 * read out of bounds, and no request may make an operation that is not the policy's.
 */
#include <claviger/policy.h>

#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARN "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

static const char policy_text[] =
    "{\"version\":1,\"enclave\":\"e\",\"attestation\":{\"root_sha256\":\"" CLV_AWS_ROOT_SHA256
    "\",\"release_keys\":[\"RWQxMjM0NTY3ODEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEy\"]},"
    "\"kms\":{\"region\":\"us-east-1\",\"endpoint\":\"https://kms.us-east-1.amazonaws.com\","
    "\"ca_file\":\"/ca\"},\"keys\":{\"k\":{\"key_id\":\"" ARN
    "\",\"operations\":[\"GenerateDataKey\"],\"encryption_context\":{\"a\":\"b\","
    "\"p\":\"${policy}\"}}},\"agents\":[{\"uid\":1,\"may\":[\"seal:k\"]}]}";

static clv_policy *policy;
static clv_identity identity;
static clv_baseline baseline;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    clv_error err = {0};
    if (clv_policy_parse(clv_bytes_of(policy_text), &policy, &err) != CLV_OK)
        abort();
    identity.pcrs.present = UINT32_C(1) << CLV_POLICY_PCR;
    memcpy(identity.pcrs.value[CLV_POLICY_PCR], policy->pcr16, CLV_PCR_SIZE);
    return 0;
}

static void as_policy(clv_bytes text)
{
    clv_auto_ptr(clv_policy) read = NULL;
    if (clv_policy_parse(text, &read, NULL) != CLV_OK)
        return;
    if (read->release_key_count == 0 && (read->pins.present >> CLV_SIGNER_PCR & 1) == 0)
        abort();
    for (size_t i = 0; i < read->key_count; i++) {
        clv_auto(clv_context) context = CLV_CONTEXT_INIT;
        (void)!clv_policy_resolve_context(read, &read->key[i], &identity, &context, NULL);
    }
}

static void as_request(clv_bytes text)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    const clv_policy_key *key;
    if (clv_policy_resolve_setup(policy, &identity, text, &key, &operation, NULL) != CLV_OK)
        return;
    if (operation.action != CLV_GENERATE_DATA_KEY || strcmp(operation.key_arn, ARN) != 0 ||
        operation.context.count != 2 || operation.number_of_bytes != 32)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    clv_cursor c = clv_cursor_of(CLV_BYTES(data, size));
    uint8_t what;
    if (clv_cursor_u8(&c, &what, NULL) != CLV_OK)
        abort();
    if (what % 4 == 0)
        as_policy(c.rest);
    else if (what % 4 == 1)
        as_request(c.rest);
    else if (what % 4 == 2)
        (void)!clv_baseline_parse(c.rest, &baseline, NULL);
    else if (clv_baseline_open(CLV_BYTES("{}", 2), c.rest, policy->release_key,
                               policy->release_key_count, &baseline, NULL) == CLV_OK)
        abort();
    return 0;
}

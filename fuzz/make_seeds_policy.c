/* One sound input of each kind that fuzz_policy reads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARN "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
#define HEX                                            \
    "010203040506070809000102030405060708090001020304" \
    "010203040506070809000102030405060708090001020304"

static const char *const seeds[] = {
    "\0{\"version\":1,\"enclave\":\"e\",\"attestation\":{\"root_sha256\":"
    "\"641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b\",\"pcrs\":{\"8\":\"" HEX
    "\"}},\"kms\":{\"region\":\"us-east-1\",\"endpoint\":\"https://kms\",\"ca_file\":\"/ca\"},"
    "\"keys\":{\"k\":{\"key_id\":\"" ARN "\",\"operations\":[\"Decrypt\"],"
    "\"encryption_context\":{\"a\":\"${pcrs}\"},\"cache\":{\"max_age_s\":1,\"max_messages\":1,"
    "\"max_bytes\":1}}},\"measure\":{\"17\":\"/x\"},\"agents\":[{\"uid\":1,\"gid\":2,"
    "\"may\":[\"derive:k/a/*\"]}]}",
    "\1{\"keyId\":\"" ARN "\",\"encryptionContext\":{\"a\":\"b\"}}",
    "\2{\"version\":1,\"releases\":[{\"name\":\"1\",\"pcrs\":{\"0\":\"" HEX "\",\"1\":\"" HEX
    "\",\"2\":\"" HEX "\"}}],\"revoked\":[\"1\"]}",
    "\3untrusted comment: x\n"
    "RUQxMjM0NTY3OAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAA=\ntrusted comment: t\n"
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n",
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof seeds / sizeof seeds[0]; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/policy-%zu", argv[1], i);
        FILE *out = fopen(path, "w");
        size_t n = 1 + strlen(seeds[i] + 1);
        if (out == NULL || fwrite(seeds[i], 1, n, out) != n || fclose(out) != 0)
            return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

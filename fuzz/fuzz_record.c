/*
 * Any bytes as a witness's record, and as a statement that the fleet's key has signed: no crash,
 * and what is read comes back as it was when it is signed again.
 */
#include <stdlib.h>

#include <base/cbor.h>
#include <vault/derive.h>
#include <witness/record.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static clv_secret *seed;
static uint8_t key[CLV_RECORD_PUBLIC];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    clv_auto(clv_buf) public_key = CLV_BUF_INIT;
    if (clv_secret_start(NULL) != CLV_OK || clv_secret_new(sizeof key, &seed, NULL) != CLV_OK ||
        clv_derive_public(CLV_DERIVE_ED25519, seed, &public_key, NULL) != CLV_OK)
        abort();
    memcpy(key, public_key.p, sizeof key);
    return 0;
}

static void sign_statement(clv_bytes statement, clv_buf *out)
{
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    if (clv_derive_sign(CLV_DERIVE_ED25519, seed, statement, false, &signature, NULL) != CLV_OK ||
        clv_cbor_put_array(out, 2, NULL) != CLV_OK ||
        clv_cbor_put_bytes(out, statement, NULL) != CLV_OK ||
        clv_cbor_put_bytes(out, clv_buf_bytes(&signature), NULL) != CLV_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_auto(clv_buf) again = CLV_BUF_INIT;
    clv_record record, same;
    if (clv_record_open(CLV_BYTES(data, size), key, &record, NULL) == CLV_OK)
        abort(); /* nobody but the line below has the key */
    sign_statement(CLV_BYTES(data, size), &bytes);
    if (clv_record_open(clv_buf_bytes(&bytes), key, &record, NULL) != CLV_OK)
        return 0;
    if (clv_record_sign(&record, seed, &again, NULL) != CLV_OK ||
        clv_record_open(clv_buf_bytes(&again), key, &same, NULL) != CLV_OK ||
        same.kind != record.kind || same.generation != record.generation ||
        strcmp(same.name, record.name) != 0 ||
        memcmp(same.digest, record.digest, sizeof same.digest) != 0)
        abort();
    return 0;
}

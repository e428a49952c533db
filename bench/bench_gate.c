/*
 * What a voucher costs, stage by stage: the document from the module, its verification, the key.
 * Against the floor of the ECDSA verifications that no verifier can do without. Medians; processor
 * time for what only computes, as `openssl speed` counts it, the wall clock for what waits: the
 * module is the software one, in a thread of this process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <base/net.h>
#include <claviger/secret.h>
#include <gate/ahead.h>
#include <gate/gate.h>
#include <sim/nsm/nsm.h>

#include "bench.h"

#define ROUNDS     101
#define KEY_ROUNDS 15
#define SIGNATURES 5 /* four certificates below the pinned root, and the document */
#define KEY_ARN    "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"

static clv_error error;

static void must(clv_status status, const char *what)
{
    if (status == CLV_OK)
        return;
    fprintf(stderr, "bench_gate: %s: %s\n", what, error.text);
    exit(EXIT_FAILURE);
}

static double read_us(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *sample, size_t n)
{
    qsort(sample, n, sizeof *sample, ascending);
    return sample[n / 2];
}

/* ---- the stage ---- */

static nsm_module module = {.lock = PTHREAD_MUTEX_INITIALIZER, .chain = NSM_CHAIN_INIT};
static int listening, stop;

static void *serve(void *context)
{
    (void)context;
    must(nsm_serve(&module, listening, stop, &error), "the module");
    return NULL;
}

static void boot_module(const char *dir, char *address, size_t size)
{
    clv_address at;
    snprintf(address, size, "unix:%s/nsm", dir);
    must(nsm_chain_init(dir, "i-0123456789abcdef0-enc0123456789abcdef", &error), "root");
    must(nsm_chain_load(dir, &module.chain, &error), "root");
    for (int i = 0; i < NSM_BOOT_PCRS; i++) {
        module.bank.pcr[i].locked = true;
        memset(module.bank.pcr[i].value, i + 1, NSM_PCR_SIZE);
    }
    must(clv_address_parse(address, &at, &error), "address");
    must(clv_listen(&at, 0600, &listening, NULL, &error), "listen");
    stop = eventfd(0, EFD_CLOEXEC);
}

static clv_policy *make_policy(const char *dir)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_policy *policy;
    char path[128], root[65] = "", pin[2 * CLV_PCR_SIZE + 1];
    snprintf(path, sizeof path, "%s/root.sha256", dir);
    FILE *file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%64s", root) != 1)
        exit(EXIT_FAILURE);
    fclose(file);
    for (size_t i = 0; i < CLV_PCR_SIZE; i++)
        memcpy(pin + 2 * i, "09", 3);
    must(clv_buf_printf(
             &text, &error,
             "{\"version\":1,\"enclave\":\"bench\",\"attestation\":{\"root_sha256\":\"%s\","
             "\"pcrs\":{\"8\":\"%s\"}},\"kms\":{\"region\":\"us-east-1\",\"endpoint\":"
             "\"https://kms.us-east-1.amazonaws.com\",\"ca_file\":\"/ca\"},\"keys\":{\"k\":"
             "{\"key_id\":\"" KEY_ARN "\",\"operations\":[\"GenerateDataKey\"]}},\"agents\":[]}",
             root, pin),
         "policy");
    must(clv_policy_parse(clv_buf_bytes(&text), &policy, &error), "policy");
    return policy;
}

/* ---- the stages of a voucher ---- */

static double time_document(clv_nsm *nsm, clv_buf *last)
{
    double sample[ROUNDS];
    uint8_t user_data[48] = {1}, nonce[32] = {2}, key[294] = {3};
    clv_binding ask = {.public_key = {true, CLV_BYTES(key, sizeof key)},
                       .user_data = {true, CLV_BYTES(user_data, sizeof user_data)},
                       .nonce = {true, CLV_BYTES(nonce, sizeof nonce)}};
    for (int i = 0; i < ROUNDS; i++) {
        clv_buf_drop(last);
        double start = read_us(CLOCK_MONOTONIC);
        must(clv_nsm_attest(nsm, &ask, last, &error), "document");
        sample[i] = read_us(CLOCK_MONOTONIC) - start;
    }
    return median(sample, ROUNDS);
}

static double time_verification(const clv_policy *policy, clv_bytes document)
{
    double sample[ROUNDS];
    clv_verify_options options;
    clv_document out;
    clv_verify_options_init(&options);
    memcpy(options.root_sha256, policy->root_sha256, sizeof options.root_sha256);
    for (int i = 0; i < ROUNDS; i++) {
        double start = read_us(CLOCK_THREAD_CPUTIME_ID);
        must(clv_document_verify(document, &options, &out, &error), "verification");
        sample[i] = read_us(CLOCK_THREAD_CPUTIME_ID) - start;
    }
    return median(sample, ROUNDS);
}

static double time_key(void)
{
    double sample[KEY_ROUNDS];
    for (int i = 0; i < KEY_ROUNDS; i++) {
        EVP_PKEY *key;
        double start = read_us(CLOCK_THREAD_CPUTIME_ID);
        must(clv_key_make(&key, &error), "key");
        sample[i] = read_us(CLOCK_THREAD_CPUTIME_ID) - start;
        EVP_PKEY_free(key);
    }
    return median(sample, KEY_ROUNDS);
}

static void wait_until_ready(clv_gate *gate, uint64_t keys, uint64_t vouchers)
{
    clv_gate_metrics m;
    do {
        usleep(2000);
        clv_gate_read_metrics(gate, &m);
    } while (m.keys_ready < keys || m.ahead_ready < vouchers);
}

/* A whole voucher; every operation another one when `fresh`, so that none is ready. */
static double time_voucher(clv_gate *gate, bool fresh, uint64_t keys, uint64_t vouchers)
{
    double sample[KEY_ROUNDS];
    for (int i = -2; i < KEY_ROUNDS; i++) {
        clv_auto_ptr(clv_voucher) voucher = NULL;
        clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
        char value[16];
        snprintf(value, sizeof value, "%d", fresh ? i : 0);
        operation.key_arn = strdup(KEY_ARN);
        operation.number_of_bytes = 32;
        must(clv_context_add(&operation.context, "n", value, &error), "context");
        wait_until_ready(gate, keys, i < 0 ? 0 : vouchers);
        double start = read_us(CLOCK_MONOTONIC);
        must(clv_gate_vouch(gate, &operation, &voucher, &error), "voucher");
        if (i >= 0)
            sample[i] = read_us(CLOCK_MONOTONIC) - start;
    }
    return median(sample, KEY_ROUNDS);
}

static double floor_us(void)
{
    char line[256];
    double sign, verify;
    bench_openssl_speed("-seconds 2 ecdsap384", "+F4:", line, sizeof line);
    if (sscanf(line, "+F4:%*d:%*d:%lf:%lf", &sign, &verify) != 2)
        exit(EXIT_FAILURE);
    return SIGNATURES * 1e6 / verify;
}

static void print(const char *what, double us, double against)
{
    printf("%-36s %8.0f us  %6.2f times the floor\n", what, us, us / against);
}

static void run(const char *address, const clv_policy *policy)
{
    clv_clock clock;
    clv_auto_ptr(clv_nsm) nsm = NULL;
    clv_auto_ptr(clv_gate) gate = NULL;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_clock_init(&clock);
    must(clv_nsm_open(address, &nsm, &error), "module");
    must(clv_gate_measure(nsm, policy, &error), "measure");
    must(clv_gate_open(nsm, policy, CLV_BYTES(NULL, 0), CLV_BYTES(NULL, 0), &clock, &gate, &error),
         "gate");
    double against = floor_us();
    double asked = time_document(nsm, &document);
    double verified = time_verification(policy, clv_buf_bytes(&document));
    double key = time_key();
    double waiting = time_voucher(gate, true, 0, 0);
    must(clv_gate_work_ahead(gate, 4, 4, &error), "ahead");
    double pooled = time_voucher(gate, true, 4, 0);
    double ready = time_voucher(gate, false, 4, 1);
    printf("%-36s %8.0f us\n", "floor: 5 ECDSA P-384 verifications", against);
    print("document (software module), wall", asked, against);
    print("verification", verified, against);
    print("RSA-2048 key, made", key, against);
    print("voucher, key made then, wall", waiting, against);
    print("voucher, key from the pool, wall", pooled, against);
    print("voucher prepared ahead, wall", ready, against);
}

int main(void)
{
    char dir[] = "/tmp/claviger-bench-XXXXXX", address[96], command[96];
    uint64_t one = 1;
    pthread_t thread;
    must(clv_secret_start(&error), "start");
    if (mkdtemp(dir) == NULL)
        return EXIT_FAILURE;
    boot_module(dir, address, sizeof address);
    clv_policy *policy = make_policy(dir);
    if (pthread_create(&thread, NULL, serve, NULL) != 0)
        return EXIT_FAILURE;
    run(address, policy);
    if (write(stop, &one, sizeof one) != sizeof one)
        return EXIT_FAILURE;
    pthread_join(thread, NULL);
    clv_policy_free(&policy);
    snprintf(command, sizeof command, "rm -r '%s'", dir);
    return system(command) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

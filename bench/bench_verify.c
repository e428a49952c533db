/*
 * Verifications of a document a second, against the floor: the time that its ECDSA verifications
 * alone take, as `openssl speed ecdsap384` measures them in the same run.
 */
#include <stdio.h>
#include <stdlib.h>

#include <maker.h>

#include "bench.h"

#define SECONDS 2.0

/* Returns verifications a second. */
static double measure(clv_bytes document, const clv_verify_options *options)
{
    double start = bench_now(), elapsed;
    unsigned long count = 0;
    do {
        clv_document out;
        clv_error err = {0};
        if (clv_document_verify(document, options, &out, &err) != CLV_OK) {
            fprintf(stderr, "bench_verify: %s\n", err.text);
            exit(EXIT_FAILURE);
        }
        count++;
        elapsed = bench_now() - start;
    } while (elapsed < SECONDS);
    return (double)count / elapsed;
}

static double ecdsa_verifications(void)
{
    char line[256];
    double sign, verify;
    bench_openssl_speed("-seconds 2 ecdsap384", "+F4:", line, sizeof line);
    if (sscanf(line, "+F4:%*d:%*d:%lf:%lf", &sign, &verify) != 2) {
        fprintf(stderr, "bench_verify: expected +F4:…, found %s\n", line);
        exit(EXIT_FAILURE);
    }
    return verify;
}

int main(void)
{
    static const maker_knobs right = RIGHT;
    maker m;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_verify_options options;
    clv_verify_options_init(&options);
    maker_start(&m);
    maker_make(&m, &right, &document, options.root_sha256);
    maker_drop(&m);

    /* Before and after, so that a machine whose speed drifts does not flatter either side. */
    double before = measure(clv_buf_bytes(&document), &options);
    double ecdsa = ecdsa_verifications();
    double rate = (before + measure(clv_buf_bytes(&document), &options)) / 2;
    /* The root is pinned by digest: its own signature is not verified. The document's is. */
    int signatures = MAKER_CERTS - 1 + 1;
    double floor_rate = ecdsa / signatures;
    printf("verify: %.0f documents/s (%.2f ms each)\n", rate, 1000 / rate);
    printf("floor:  %.0f documents/s (%d ECDSA P-384 verifications at %.0f/s)\n", floor_rate,
           signatures, ecdsa);
    printf("ratio:  %.3f times the floor's time\n", floor_rate / rate);
    return EXIT_SUCCESS;
}

/*
 * Sealing and unsealing against the bare cipher: `openssl speed -evp aes-256-gcm` at the same block
 * size, alternating with it in one run, so that both see the same machine.
 *
 *     bench_seal [MEBIBYTES]        default 1024
 *
 * A piece of one mebibyte is sealed over and over as one message, and one sealed message is opened
 * over and over: what is measured is the format and the cipher, not the disk. Each figure is the
 * best of ROUNDS.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <claviger/seal.h>

#include "bench.h"

#define ROUNDS 5
#define PIECE  ((size_t)1024 * 1024)
#define GOAL   0.9
/* A message to open: large enough that its header costs nothing to speak of. */
#define SEALED_PIECES 32

/* Bytes a second, from the machine-readable line "+F:…:AES-256-GCM:rate". */
static double openssl_rate(unsigned frame)
{
    char arguments[64];
    char line[256];
    snprintf(arguments, sizeof arguments, "-evp aes-256-gcm -bytes %u -seconds 1", frame);
    bench_openssl_speed(arguments, "+F:", line, sizeof line);
    return strtod(strrchr(line, ':') + 1, NULL);
}

static clv_status count(void *to, clv_bytes piece, clv_error *err)
{
    (void)err;
    *(size_t *)to += piece.n;
    return CLV_OK;
}

typedef struct message {
    clv_secret *key;
    clv_context context;
    clv_buf plaintext; /* PIECE bytes */
    clv_buf sealed;    /* one message of SEALED_PIECES, for unsealing */
    unsigned frame;
    size_t mebibytes;
} message;

static clv_status start(const message *m, clv_sink sink, void *to, clv_sealer **out, clv_error *err)
{
    return clv_sealer_new(m->key, "arn:aws:kms:us-east-1:123456789012:key/bench",
                          clv_bytes_of("bench"), &m->context, m->frame, sink, to, out, err);
}

static clv_status seal(const message *m, double *rate, clv_error *err)
{
    clv_auto_ptr(clv_sealer) sealer = NULL;
    size_t written = 0;
    double before = bench_now();
    CLV_TRY(start(m, count, &written, &sealer, err));
    for (size_t i = 0; i < m->mebibytes; i++)
        CLV_TRY(clv_sealer_update(sealer, clv_buf_bytes(&m->plaintext), err));
    CLV_TRY(clv_sealer_finish(sealer, err));
    *rate = (double)(m->mebibytes * PIECE) / (bench_now() - before);
    return CLV_OK;
}

static clv_status unseal(const message *m, double *rate, clv_error *err)
{
    size_t released = 0;
    double before = bench_now();
    for (size_t i = 0; i < m->mebibytes; i += SEALED_PIECES) {
        clv_auto(clv_seal_header) header = {0};
        clv_auto_ptr(clv_unsealer) unsealer = NULL;
        clv_bytes skipped;
        clv_cursor c = clv_cursor_of(clv_buf_bytes(&m->sealed));
        CLV_TRY(clv_seal_header_parse(c.rest, &header, err));
        CLV_TRY(clv_unsealer_new(m->key, &header, count, &released, &unsealer, err));
        CLV_TRY(clv_cursor_take(&c, header.length, &skipped, err));
        CLV_TRY(clv_unsealer_update(unsealer, c.rest, err));
        CLV_TRY(clv_unsealer_finish(unsealer, err));
    }
    *rate = (double)released / (bench_now() - before);
    return CLV_OK;
}

static clv_status measure(message *m, clv_error *err)
{
    double floor = 0;
    double sealing = 0;
    double unsealing = 0;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    m->sealed.n = 0;
    CLV_TRY(start(m, clv_sink_buf, &m->sealed, &sealer, err));
    for (size_t i = 0; i < SEALED_PIECES; i++)
        CLV_TRY(clv_sealer_update(sealer, clv_buf_bytes(&m->plaintext), err));
    CLV_TRY(clv_sealer_finish(sealer, err));
    for (int i = 0; i < ROUNDS; i++) {
        double rate = openssl_rate(m->frame);
        floor = rate > floor ? rate : floor;
        CLV_TRY(seal(m, &rate, err));
        sealing = rate > sealing ? rate : sealing;
        CLV_TRY(unseal(m, &rate, err));
        unsealing = rate > unsealing ? rate : unsealing;
    }
    printf("%10u %12.0f %12.0f %12.0f %8.2f %8.2f\n", m->frame, floor / 1e6, sealing / 1e6,
           unsealing / 1e6, sealing / floor, unsealing / floor);
    fflush(stdout);
    return CLV_OK;
}

/* Small messages with one data key, as with a cached one: derivation, header, one frame. */
static clv_status measure_small(message *m, clv_error *err)
{
    enum { MESSAGES = 20000, SIZE = 1024 };
    size_t written = 0;
    double before = bench_now();
    m->frame = CLV_SEAL_FRAME;
    for (int i = 0; i < MESSAGES; i++) {
        clv_auto_ptr(clv_sealer) sealer = NULL;
        CLV_TRY(start(m, count, &written, &sealer, err));
        CLV_TRY(clv_sealer_update(sealer, CLV_BYTES(m->plaintext.p, SIZE), err));
        CLV_TRY(clv_sealer_finish(sealer, err));
    }
    printf("messages of %d bytes with one data key: %.0f a second\n", SIZE,
           MESSAGES / (bench_now() - before));
    return CLV_OK;
}

static clv_status run(size_t mebibytes, clv_error *err)
{
    static const unsigned frames[] = {4096, 16384, 65536, CLV_SEAL_FRAME_MAX};
    message m = {.mebibytes = mebibytes};
    uint8_t *to;
    CLV_TRY(clv_secret_random(CLV_SEAL_KEY_SIZE, &m.key, err));
    CLV_TRY(clv_context_add(&m.context, "Purpose", "AgentSecrets", err));
    CLV_TRY(clv_buf_reserve(&m.plaintext, PIECE, &to, err));
    m.plaintext.n = PIECE;

    printf("sealing %zu MiB a round, best of %d; MB/s; goal: ratio at least %.1f\n", mebibytes,
           ROUNDS, GOAL);
    printf("%10s %12s %12s %12s %8s %8s\n", "frame", "openssl", "seal", "unseal", "seal/o",
           "unseal/o");
    clv_status status = CLV_OK;
    for (size_t i = 0; i < sizeof frames / sizeof frames[0] && status == CLV_OK; i++) {
        m.frame = frames[i];
        status = measure(&m, err);
    }
    if (status == CLV_OK)
        status = measure_small(&m, err);
    clv_secret_free(&m.key);
    clv_context_drop(&m.context);
    clv_buf_drop(&m.plaintext);
    clv_buf_drop(&m.sealed);
    return status;
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    size_t mebibytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    clv_status status = clv_secret_start(&err);
    if (status == CLV_OK)
        status = run(mebibytes, &err);
    if (status != CLV_OK)
        fprintf(stderr, "bench_seal: %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

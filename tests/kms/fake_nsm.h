/*
 * A module on a Unix socket within the test: enough of the NSM for a gate to measure, identify and
 * vouch. Its clock starts at MAKER_TIME_MS (2023), so that nothing here can lean on the machine's.
 */
#ifndef CLV_TESTS_FAKE_NSM_H
#define CLV_TESTS_FAKE_NSM_H

#include <pthread.h>

#include "../attestation/maker.h"

typedef struct fake_nsm {
    char address[200]; /* unix:… */
    uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE];
    maker maker;
    clv_buf certificate[MAKER_CERTS];
    clv_document document; /* what each document says; changed by extending */
    uint64_t started_ms;
    uint64_t locked;   /* registers below this one are */
    unsigned attested; /* documents made; read by the test when no call is under way */
    int listener;
    pthread_t thread;
} fake_nsm;

/* Serves until stopped, at DIRECTORY/nsm. debug: PCR0 to PCR2 are zero. */
void fake_nsm_start(fake_nsm *nsm, const char *directory, bool debug);
void fake_nsm_stop(fake_nsm *nsm);

#endif

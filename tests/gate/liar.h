/*
 * An NSM that lies: the software module on a Unix socket in this process, which does to each
 * document what the test tells it. Everything else it answers truthfully.
 */
#ifndef CLV_TESTS_GATE_LIAR_H
#define CLV_TESTS_GATE_LIAR_H

#include <pthread.h>
#include <stdatomic.h>

#include <claviger/gate.h>
#include <sim/nsm/nsm.h>

typedef enum liar_lie {
    LIE_NONE,
    /* what was asked for */
    LIE_NONCE,
    LIE_NO_NONCE,
    LIE_SHORT_NONCE,
    LIE_USER_DATA,
    LIE_NO_USER_DATA,
    LIE_PUBLIC_KEY,
    LIE_NO_PUBLIC_KEY,
    LIE_REPLAY, /* the first document ever made */
    /* who signs */
    LIE_OTHER_ROOT,
    LIE_OTHER_ENCLAVE, /* same root, same registers, another module */
    LIE_SIGNATURE,
    /* the registers */
    LIE_PCR0,
    LIE_PCR1,
    LIE_PCR8,
    LIE_PCR16,
    LIE_PCR17,
    LIE_PCR16_MISSING,
    LIE_PCR17_MISSING,
    LIE_ZERO_IMAGE, /* debug mode */
    LIE_ZERO_ALL,
    /* time */
    LIE_SLOW,
    LIE_BACKWARDS,
    LIE_AHEAD,
    /* measured boot */
    LIE_EXTEND, /* another value than the extended one */
    LIE_LOCK,   /* says that it locked all, and left the last one open */
    /* randomness */
    LIE_STUCK, /* zeros */
    /* shape */
    LIE_CUT,
    LIE_TRAILING,
    LIE_EMPTY,
    LIE_ERROR,
    LIE_CLOSE,
    LIE_COUNT
} liar_lie;

/* The registers of the honest image. */
#define LIAR_PCR_BYTE(index) ((uint8_t)(0xa0 + (index)))
/* What LIE_SLOW takes: longer than the test policies' max_age_s of 3. */
#define LIAR_SLOW_MS 3200

typedef struct liar {
    char dir[64];
    char address[96];
    char root_hex[2 * CLV_ROOT_DIGEST_SIZE + 1];
    nsm_module module;
    nsm_chain stranger, neighbour, shifted; /* of another root; another module; another time */
    clv_buf first;                          /* the first document */
    _Atomic int lie;
    _Atomic unsigned documents;
    uint8_t random[NSM_RANDOM_SIZE]; /* the last that was given out */
    int listening, stop;
    pthread_t thread;
} liar;

/* All of these end the test when something fails that should not. */
void liar_start(liar *l);
void liar_stop(liar *l);

/* Boot again: registers 0, 1, 2 and 8 measured, the rest zero. */
void liar_boot(liar *l);

#endif

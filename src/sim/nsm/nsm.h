/*
 * The software NSM: a register bank, a certificate chain of its own, and the requests of the real
 * module (github.com/aws/aws-nitro-enclaves-nsm-api). For development and tests: it proves nothing
 * about the machine it runs on.
 */
#ifndef CLV_SIM_NSM_H
#define CLV_SIM_NSM_H

#include <pthread.h>

#include <base/crypto.h>
#include <base/json.h>

#define NSM_PCR_COUNT    32
#define NSM_PCR_SIZE     48
#define NSM_BOOT_PCRS    16 /* 0 to 15 are locked at boot */
#define NSM_REQUEST_MAX  0x1000
#define NSM_RESPONSE_MAX 0x3000
#define NSM_RANDOM_SIZE  256
#define NSM_MODULE_MAX   128

/* ---- bank.c: the registers ---- */

typedef struct nsm_bank {
    struct nsm_register {
        bool locked;
        uint8_t value[NSM_PCR_SIZE];
    } pcr[NSM_PCR_COUNT];
} nsm_bank;

typedef struct nsm_boot {
    const char *pcr_file;  /* {"0": "hex", …}; NULL: all zero */
    const char *role_arn;  /* measured into PCR3 unless the file gives it; NULL: none */
    const char *module_id; /* its instance id is measured into PCR4 unless the file gives it */
    bool debug;            /* PCR0, 1 and 2 stay zero, as with --debug-mode */
} nsm_boot;

CLV_NODISCARD clv_status nsm_bank_boot(nsm_bank *bank, const nsm_boot *boot, clv_error *err);

/* value = SHA-384(value || data). false when it is locked. */
CLV_NODISCARD clv_status nsm_bank_extend(nsm_bank *bank, unsigned index, clv_bytes data,
                                         clv_error *err);

/* ---- chain.c: root to leaf, in the shape of the real chain ---- */

enum { NSM_ROOT, NSM_REGION, NSM_ZONE, NSM_INSTANCE, NSM_LEAF, NSM_CHAIN };

typedef struct nsm_chain {
    X509 *certificate[NSM_CHAIN];
    EVP_PKEY *key[NSM_CHAIN];
    uint64_t expires_s[NSM_CHAIN]; /* wall clock */
    char module_id[NSM_MODULE_MAX + 1];
    int64_t offset_s; /* added to the wall clock: a module whose clock is wrong */
} nsm_chain;

#define NSM_CHAIN_INIT              \
    {                               \
        {NULL}, {NULL}, {0}, {0}, 0 \
    }
void nsm_chain_drop(nsm_chain *chain);

/* Makes DIR/root.key, DIR/root.pem, DIR/root.sha256 and DIR/module-id. Refuses to overwrite. */
CLV_NODISCARD clv_status nsm_chain_init(const char *directory, const char *module_id,
                                        clv_error *err);
CLV_NODISCARD clv_status nsm_chain_load(const char *directory, nsm_chain *out, clv_error *err);
/* Issues what is missing or about to expire. Call before each document. */
CLV_NODISCARD clv_status nsm_chain_refresh(nsm_chain *chain, clv_error *err);
uint64_t nsm_chain_now_ms(const nsm_chain *chain);

/* ---- document.c: the attestation document ---- */

typedef struct nsm_optional {
    bool present;
    clv_bytes bytes;
} nsm_optional;

typedef struct nsm_ask {
    nsm_optional user_data, nonce, public_key;
} nsm_ask;

CLV_NODISCARD clv_status nsm_document_make(nsm_chain *chain, const nsm_bank *bank,
                                           const nsm_ask *ask, bool indefinite, clv_buf *out,
                                           clv_error *err);

/* ---- handler.c: requests to answers ---- */

typedef struct nsm_module {
    pthread_mutex_t lock; /* protects bank and chain: the real module takes one request at a time */
    nsm_bank bank;
    nsm_chain chain;
    bool indefinite; /* payload maps of indefinite length, as a fifth of the real ones have */
} nsm_module;

/* The answer to one request, appended to *answer: an {"Error": …} where the request is bad. */
CLV_NODISCARD clv_status nsm_handle(nsm_module *module, clv_bytes request, clv_buf *answer,
                                    clv_error *err);

/* ---- serve.c and cuse.c: the two ways in ---- */

/* Serves frames on the socket until stop_fd becomes readable. */
CLV_NODISCARD clv_status nsm_serve(nsm_module *module, int listen_fd, int stop_fd, clv_error *err);

/* Serves /dev/NAME through CUSE in a thread of its own; ends with the process. */
CLV_NODISCARD clv_status nsm_cuse_start(nsm_module *module, const char *name, clv_error *err);

#endif

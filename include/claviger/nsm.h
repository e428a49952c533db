/*
 * The Nitro Secure Module's client: seven requests in CBOR, as the kernel's
 * include/uapi/linux/nsm.h and github.com/aws/aws-nitro-enclaves-nsm-api (src/api) have them.
 *
 * Two transports, named by an address:
 *     device:/dev/nsm     ioctl on the device of an enclave (or a CUSE device that stands for it)
 *     unix:/path          the software NSM: each message is a u32 length and that many bytes
 *
 * A handle may be shared by threads; one request is under way at a time.
 */
#ifndef CLAVIGER_NSM_H
#define CLAVIGER_NSM_H

#include <claviger/attestation.h>
#include <claviger/bytes.h>

/* linux/nsm.h: NSM_REQUEST_MAX_SIZE, NSM_RESPONSE_MAX_SIZE. */
#define CLV_NSM_REQUEST_MAX  0x1000
#define CLV_NSM_RESPONSE_MAX 0x3000
#define CLV_NSM_RANDOM_MAX   256

typedef struct clv_nsm clv_nsm;

CLV_NODISCARD clv_status clv_nsm_open(const char *address, clv_nsm **out, clv_error *err);
void clv_nsm_free(clv_nsm **nsm);

typedef struct clv_nsm_description {
    uint16_t version_major, version_minor, version_patch;
    char module_id[CLV_MODULE_ID_MAX + 1];
    uint16_t max_pcrs;
    uint32_t locked; /* bit i: PCR i is locked */
    char digest[16];
} clv_nsm_description;

CLV_NODISCARD clv_status clv_nsm_describe(clv_nsm *nsm, clv_nsm_description *out, clv_error *err);

typedef struct clv_nsm_pcr {
    bool locked;
    uint8_t value[CLV_PCR_SIZE];
} clv_nsm_pcr;

CLV_NODISCARD clv_status clv_nsm_describe_pcr(clv_nsm *nsm, uint16_t index, clv_nsm_pcr *out,
                                              clv_error *err);
/* value = SHA-384(value || data). out may be NULL. */
CLV_NODISCARD clv_status clv_nsm_extend_pcr(clv_nsm *nsm, uint16_t index, clv_bytes data,
                                            uint8_t out[CLV_PCR_SIZE], clv_error *err);
CLV_NODISCARD clv_status clv_nsm_lock_pcr(clv_nsm *nsm, uint16_t index, clv_error *err);
/* Locks registers 0 to range - 1. */
CLV_NODISCARD clv_status clv_nsm_lock_pcrs(clv_nsm *nsm, uint16_t range, clv_error *err);
/* The document's bytes are appended to *document; nothing about it is checked here. */
CLV_NODISCARD clv_status clv_nsm_attest(clv_nsm *nsm, const clv_binding *ask, clv_buf *document,
                                        clv_error *err);
/* Fills out with exactly n bytes, asking as often as it takes. */
CLV_NODISCARD clv_status clv_nsm_random(clv_nsm *nsm, uint8_t *out, size_t n, clv_error *err);

#endif

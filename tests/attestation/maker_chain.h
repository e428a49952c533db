/* The maker's two halves: certificates (maker_chain.c) and the document around them (maker.c). */
#ifndef CLV_TESTS_ATTESTATION_MAKER_CHAIN_H
#define CLV_TESTS_ATTESTATION_MAKER_CHAIN_H

#include "maker.h"

/* End the process unless it held. */
void maker_must(bool held, const char *what, int line);

/* The certificate at this position, appended. */
void maker_certificate_make(const maker *m, const maker_knobs *knobs, size_t position,
                            clv_buf *der);

/* The key that belongs to it. */
EVP_PKEY *maker_key_of(const maker *m, const maker_knobs *knobs, size_t position);

#endif

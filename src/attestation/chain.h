/*
 * The walk from the pinned root to the leaf: by order and by names, never by key identifiers,
 * which genuine certificates often lack. Every rule is checked here by itself (RFC 5280 section 6,
 * narrowed to what the Nitro PKI is).
 */
#ifndef CLV_ATTESTATION_CHAIN_H
#define CLV_ATTESTATION_CHAIN_H

#include <attestation/certificate.h>
#include <claviger/attestation.h>

/*
 * bundle[0] must hash to root_sha256 (CLV_ATT_CERT_ROOT); its self-signature says nothing beyond
 * that. Each certificate after it is named and signed by the one before. All must be valid at the
 * document's timestamp and at at_ms (unless CLV_AT_DOCUMENT). Error sentences name the place.
 * *leaf is filled only on CLV_OK; the caller drops it.
 */
CLV_NODISCARD clv_status clv_chain_verify(const clv_document *document,
                                          const uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE],
                                          uint64_t at_ms, clv_certificate *leaf, clv_error *err);

#endif

/*
 * minisign signatures (jedisct1.github.io/minisign, "Signature format"):
 *
 *     untrusted comment: …
 *     base64( algorithm(2) || key id(8) || Ed25519 signature(64) )
 *     trusted comment: …
 *     base64( Ed25519 signature(64) over signature || trusted comment )
 *
 * Algorithm "Ed" signs the file's bytes, "ED" their BLAKE2b-512. Both signatures must hold.
 */
#ifndef CLV_ATTESTATION_MINISIGN_H
#define CLV_ATTESTATION_MINISIGN_H

#include <claviger/attestation.h>

#define CLV_MINISIGN_MAX 4096

/* CLV_BASELINE_FORMAT: the signature file's shape. CLV_BASELINE_KEY: none of the keys made it.
 * CLV_BASELINE_SIGNATURE: it is not over these bytes. */
CLV_NODISCARD clv_status clv_minisign_verify(clv_bytes content, clv_bytes signature_file,
                                             const clv_release_key *keys, size_t key_count,
                                             clv_error *err);

#endif

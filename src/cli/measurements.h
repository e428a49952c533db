/* Measurements as people have them: what nitro-cli prints, or a plain map of registers. */
#ifndef CLV_CLI_MEASUREMENTS_H
#define CLV_CLI_MEASUREMENTS_H

#include <claviger/attestation.h>

/*
 * Read registers from JSON: the output of `nitro-cli build-enclave`, `describe-enclaves` (one
 * enclave), `describe-eif` or `claviger measure` ("Measurements": {"PCR0": …}), or a map
 * {"0": "hex", …}. Other members are left alone: nitro-cli adds to them. `path` "-" is standard
 * input. Errors name the member.
 */
CLV_NODISCARD clv_status clv_measurements_read(const char *path, clv_pcrs *out, clv_error *err);

#endif

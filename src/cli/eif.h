/*
 * The Enclave Image Format, version 2 to 4, as far as its measurements go
 * (github.com/aws/aws-nitro-enclaves-image-format, README and src/defs).
 */
#ifndef CLV_CLI_EIF_H
#define CLV_CLI_EIF_H

#include <claviger/attestation.h>

/*
 * Measure an image: PCR0 = SHA-384(zeros || SHA-384(kernel, command line, ramdisks in the file's
 * order)), PCR1 without the ramdisks behind the first, PCR2 over those alone, PCR8 over the DER of
 * the certificate that signed it, where one did. Checks magic, version, the tables of sections
 * against the sections, their kinds and numbers, and the CRC: CLV_EIF_FORMAT says what is wrong.
 * A signature is checked against PCR0 only (the module checks it in full when the image starts).
 */
CLV_NODISCARD clv_status clv_eif_measure(clv_bytes image, clv_pcrs *out, clv_error *err);

#endif

/* The payload of an attestation document: AWS attestation_process.md section 2, "Attestation
 * document", with the limits of <claviger/attestation.h>. */
#ifndef CLV_ATTESTATION_PAYLOAD_H
#define CLV_ATTESTATION_PAYLOAD_H

#include <claviger/attestation.h>

/* Fill the members of out that the payload states; the views point into payload. */
CLV_NODISCARD clv_status clv_payload_parse(clv_bytes payload, clv_document *out, clv_error *err);

#endif

/* RSAES-OAEP (RFC 8017 section 7.1) under an RSA key of the KMS. */
#ifndef CLV_SIM_KMS_RSA_H
#define CLV_SIM_KMS_RSA_H

#include <sim/kms/call.h>

CLV_NODISCARD clv_status clv_rsa_encrypt(clv_call *call, const clv_key *key,
                                         const clv_algorithm *algorithm, clv_bytes plaintext,
                                         clv_buf *out, clv_error *err);
/* CLV_KMS_INVALID_CIPHERTEXT, whatever is wrong with it. */
CLV_NODISCARD clv_status clv_rsa_decrypt(clv_call *call, const clv_key *key,
                                         const clv_algorithm *algorithm, clv_bytes ciphertext,
                                         clv_buf *out, clv_error *err);

#endif

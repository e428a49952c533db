/* The header body of a message, written (data-format/message-header.md, version 2.0). */
#ifndef CLV_SEAL_HEADER_H
#define CLV_SEAL_HEADER_H

#include <claviger/seal.h>

#define CLV_SEAL_MESSAGE_VERSION 2
#define CLV_SEAL_CONTENT_FRAMED  2

/* Everything from the version to the commitment, appended. The header tag follows it. */
CLV_NODISCARD clv_status clv_seal_header_append(clv_buf *out, clv_bytes message_id,
                                                const clv_context *context, const char *key_arn,
                                                clv_bytes encrypted_data_key, uint32_t frame_length,
                                                clv_bytes commitment, clv_error *err);

/* 1 to CLV_SEAL_FRAME_MAX: CLV_SEAL_FRAME_LENGTH. */
CLV_NODISCARD clv_status clv_seal_frame_length_check(uint32_t frame_length, clv_error *err);

#endif

/*
 * Frames between parent and enclave, over any address of base/net.h.
 *
 * A frame is a header of 8 bytes, then the payload:
 *
 *     u8  version    1
 *     u8  type       clv_frame_type
 *     u16 reserved   0
 *     u32 length     of the payload, big-endian, at most CLV_FRAME_MAX
 *
 * A connection carries calls, one after the other. A call is CALL (JSON: {"op": …, members}),
 * then any number of DATA, then END. Its answer is RESULT (JSON) or FAULT (JSON: {"code": slug,
 * "message": sentence}); a RESULT is followed by DATA* END, a FAULT by nothing. Everything in a
 * frame from the other side is input to be checked, in the enclave and in the parent alike.
 */
#ifndef CLV_CHANNEL_FRAME_H
#define CLV_CHANNEL_FRAME_H

#include <base/json.h>
#include <base/net.h>

#define CLV_FRAME_MAX     ((size_t)1024 * 1024)
#define CLV_FRAME_HEADER  8
#define CLV_CALL_MAX      65536                      /* JSON of CALL, RESULT, FAULT */
#define CLV_CALL_DATA_MAX ((size_t)64 * 1024 * 1024) /* all DATA of one call */

typedef enum clv_frame_type {
    CLV_FRAME_CALL = 1,
    CLV_FRAME_DATA = 2,
    CLV_FRAME_END = 3,
    CLV_FRAME_RESULT = 4,
    CLV_FRAME_FAULT = 5,
} clv_frame_type;

CLV_NODISCARD clv_status clv_frame_write(int fd, clv_frame_type type, clv_bytes payload,
                                         clv_error *err);
/* The payload is appended to *payload. CLV_FRAME_FORMAT, CLV_TOO_LARGE, CLV_CLOSED, CLV_DEADLINE.
 */
CLV_NODISCARD clv_status clv_frame_read(int fd, clv_frame_type *type, clv_buf *payload,
                                        clv_error *err);

/* One half of a call: its JSON and its data. */
typedef struct clv_message {
    json_t *json;
    clv_buf data;
} clv_message;
#define CLV_MESSAGE_INIT                         \
    {                                            \
        NULL, CLV_BUF_LIMITED(CLV_CALL_DATA_MAX) \
    }
void clv_message_drop(clv_message *message);

/* Client: send a call with its data, read the whole answer. A FAULT becomes this function's error,
 * with the code its slug names (CLV_FRAME_FORMAT where it names none). */
CLV_NODISCARD clv_status clv_call(int fd, const json_t *call, clv_bytes data, clv_message *answer,
                                  clv_error *err);

/* A call without members, on a connection of its own: {"op": op} to the address. timeout_ms bounds
 * the connecting and each read and write. */
CLV_NODISCARD clv_status clv_call_once(const char *address, int timeout_ms, const char *op,
                                       clv_bytes data, clv_message *answer, clv_error *err);

/* Fail with the code and the sentence of a FAULT's payload. */
CLV_NODISCARD clv_status clv_fail_as_fault(clv_bytes text, clv_error *err);

/* Server: read one whole call. CLV_CLOSED with nothing read is the end of the connection. */
CLV_NODISCARD clv_status clv_call_read(int fd, clv_message *call, clv_error *err);
CLV_NODISCARD clv_status clv_call_answer(int fd, const json_t *result, clv_bytes data,
                                         clv_error *err);
CLV_NODISCARD clv_status clv_call_fault(int fd, const clv_error *fault, clv_error *err);

#endif

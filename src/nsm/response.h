/* Reading the NSM's answers: strict, because a parent could stand behind a device node. */
#ifndef CLV_NSM_RESPONSE_H
#define CLV_NSM_RESPONSE_H

#include <base/cbor.h>
#include <claviger/nsm.h>

/*
 * The fields of the answer to a request of this name, as a cursor at the first of *count pairs. An
 * answer that is a bare text ("LockPCR") has count 0. {"Error": NAME} becomes NAME's own code.
 */
CLV_NODISCARD clv_status clv_nsm_open_answer(clv_bytes answer, const char *name, clv_cursor *fields,
                                             uint64_t *count, clv_error *err);

/* One field of an answer: its name, type, and where its item goes. */
typedef struct clv_nsm_field {
    const char *name;
    clv_cbor_type type;
    clv_cbor_item item;
    bool seen;
    clv_cursor items; /* of an array: at its first item */
} clv_nsm_field;

/* Read exactly these fields, each once, in any order, and the end of the answer. */
CLV_NODISCARD clv_status clv_nsm_read_fields(clv_cursor fields, uint64_t count,
                                             clv_nsm_field *field, size_t field_count,
                                             clv_error *err);

#endif

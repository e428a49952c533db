/*
 * CBOR (RFC 8949): a strict pull reader and a deterministic writer over libcbor's streaming
 * decoder and encoders, which allocate nothing. libcbor's idioms end here.
 */
#ifndef CLV_BASE_CBOR_H
#define CLV_BASE_CBOR_H

#include <claviger/bytes.h>

typedef enum clv_cbor_type {
    CLV_CBOR_UINT,
    CLV_CBOR_NEGINT, /* value n stands for -1 - n */
    CLV_CBOR_BYTES,
    CLV_CBOR_TEXT,
    CLV_CBOR_ARRAY, /* value: number of items */
    CLV_CBOR_MAP,   /* value: number of pairs */
    CLV_CBOR_TAG,
    CLV_CBOR_BOOL,
    CLV_CBOR_NULL,
    CLV_CBOR_BREAK,
    CLV_CBOR_OTHER, /* undefined, floats, simple values */
} clv_cbor_type;

/* One item head, with the string it announces where it is a definite string. */
typedef struct clv_cbor_item {
    clv_cbor_type type;
    bool indefinite; /* a string, array or map of indefinite length */
    bool minimal;    /* the head is in its shortest form (RFC 8949 section 4.2.1) */
    uint64_t value;  /* the number, count, tag or truth value */
    clv_bytes bytes; /* the content of a definite string */
} clv_cbor_item;

/*
 * Take the next item from the cursor. CLV_CBOR_MALFORMED when the bytes are not CBOR or end too
 * early (a string longer than what is left included); the cursor then stays where it was.
 */
CLV_NODISCARD clv_status clv_cbor_next(clv_cursor *c, clv_cbor_item *out, clv_error *err);

/* The next item, which must be of this type (else CLV_CBOR_TYPE) and definite. */
CLV_NODISCARD clv_status clv_cbor_expect(clv_cursor *c, clv_cbor_type type, clv_cbor_item *out,
                                         clv_error *err);

/* "unsigned integer", "byte string", … for error sentences. */
const char *clv_cbor_type_name(clv_cbor_type type);

/* The writer: heads in shortest form. The caller keeps map keys in order. */
CLV_NODISCARD clv_status clv_cbor_put_uint(clv_buf *buf, uint64_t value, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_negint(clv_buf *buf, uint64_t value, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_bytes(clv_buf *buf, clv_bytes bytes, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_text(clv_buf *buf, const char *text, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_array(clv_buf *buf, size_t items, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_map(clv_buf *buf, size_t pairs, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_tag(clv_buf *buf, uint64_t tag, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_bool(clv_buf *buf, bool value, clv_error *err);
CLV_NODISCARD clv_status clv_cbor_put_null(clv_buf *buf, clv_error *err);

#endif

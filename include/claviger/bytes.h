/*
 * Bytes: a view, an owned buffer, a cursor that cannot run past its end.
 *
 * None of these is for secrets: see secret.h.
 */
#ifndef CLAVIGER_BYTES_H
#define CLAVIGER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <claviger/error.h>

/* A view of bytes that somebody else owns. p may be NULL when n is 0. */
typedef struct clv_bytes {
    const uint8_t *p;
    size_t n;
} clv_bytes;

#define CLV_BYTES(pointer, length) ((clv_bytes){(const uint8_t *)(pointer), (length)})

/* The bytes of a C string, without its NUL. */
static inline clv_bytes clv_bytes_of(const char *text)
{
    return CLV_BYTES(text, strlen(text));
}

/* Equal length and content. For public values: the time taken depends on the content. */
bool clv_bytes_equal(clv_bytes a, clv_bytes b);

/* Equal length and content, in time that depends on the length alone (sodium_memcmp). */
bool clv_bytes_equal_secret(clv_bytes a, clv_bytes b);

/* Whether every byte is zero; true for an empty view. */
bool clv_bytes_all_zero(clv_bytes b);

/*
 * An owned, growing buffer. Start it with CLV_BUF_INIT, hold it with clv_auto(clv_buf). Appending
 * beyond `limit` bytes (0: CLV_BUF_LIMIT) fails with CLV_TOO_LARGE and changes nothing.
 */
typedef struct clv_buf {
    uint8_t *p;
    size_t n;
    size_t capacity;
    size_t limit;
} clv_buf;

#define CLV_BUF_LIMIT ((size_t)64 * 1024 * 1024)
#define CLV_BUF_INIT  \
    {                 \
        NULL, 0, 0, 0 \
    }
#define CLV_BUF_LIMITED(max) \
    {                        \
        NULL, 0, 0, (max)    \
    }

/* Frees, after wiping: buffers carry agents' plaintext. */
void clv_buf_drop(clv_buf *buf);

static inline clv_bytes clv_buf_bytes(const clv_buf *buf)
{
    return CLV_BYTES(buf->p, buf->n);
}

CLV_NODISCARD clv_status clv_buf_append(clv_buf *buf, clv_bytes bytes, clv_error *err);
CLV_NODISCARD clv_status clv_buf_append_text(clv_buf *buf, const char *text, clv_error *err);
CLV_NODISCARD clv_status clv_buf_printf(clv_buf *buf, clv_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Room for n more bytes; *out points at them. The caller then adds what it wrote to buf->n. */
CLV_NODISCARD clv_status clv_buf_reserve(clv_buf *buf, size_t n, uint8_t **out, clv_error *err);

/* The content as a C string (a NUL is kept after the last byte, not counted in n). */
CLV_NODISCARD clv_status clv_buf_text(clv_buf *buf, const char **out, clv_error *err);

/* A duplicate of a view as a NUL-terminated string that the caller frees with free(). */
CLV_NODISCARD clv_status clv_text_dup(clv_bytes text, char **out, clv_error *err);

/* For clv_auto: a char * from malloc. */
typedef char *clv_text;
void clv_text_drop(clv_text *text);

/*
 * A cursor over bytes: each read takes from the front or fails with CLV_TRUNCATED and takes
 * nothing. Integers are big-endian, as every format here has them.
 */
typedef struct clv_cursor {
    clv_bytes rest;
} clv_cursor;

static inline clv_cursor clv_cursor_of(clv_bytes bytes)
{
    return (clv_cursor){bytes};
}

CLV_NODISCARD clv_status clv_cursor_take(clv_cursor *c, size_t n, clv_bytes *out, clv_error *err);
CLV_NODISCARD clv_status clv_cursor_u8(clv_cursor *c, uint8_t *out, clv_error *err);
CLV_NODISCARD clv_status clv_cursor_u16(clv_cursor *c, uint16_t *out, clv_error *err);
CLV_NODISCARD clv_status clv_cursor_u32(clv_cursor *c, uint32_t *out, clv_error *err);
CLV_NODISCARD clv_status clv_cursor_u64(clv_cursor *c, uint64_t *out, clv_error *err);

CLV_NODISCARD clv_status clv_buf_u8(clv_buf *buf, uint8_t value, clv_error *err);
CLV_NODISCARD clv_status clv_buf_u16(clv_buf *buf, uint16_t value, clv_error *err);
CLV_NODISCARD clv_status clv_buf_u32(clv_buf *buf, uint32_t value, clv_error *err);
CLV_NODISCARD clv_status clv_buf_u64(clv_buf *buf, uint64_t value, clv_error *err);

/* Lower-case hex of the bytes, appended. */
CLV_NODISCARD clv_status clv_hex_append(clv_buf *buf, clv_bytes bytes, clv_error *err);
/* Hex in either case, no separators, an even number of digits: CLV_BAD_ENCODING otherwise. */
CLV_NODISCARD clv_status clv_hex_decode(clv_bytes text, clv_buf *out, clv_error *err);
/* Exactly n bytes of hex into out. */
CLV_NODISCARD clv_status clv_hex_decode_exact(clv_bytes text, uint8_t *out, size_t n,
                                              clv_error *err);

/* Base64 of RFC 4648 section 4, padded, no line breaks; decoding accepts nothing else. */
CLV_NODISCARD clv_status clv_base64_append(clv_buf *buf, clv_bytes bytes, clv_error *err);
CLV_NODISCARD clv_status clv_base64_decode(clv_bytes text, clv_buf *out, clv_error *err);

/* Whether the bytes are well-formed UTF-8 without NUL. */
bool clv_utf8_valid(clv_bytes text);

#endif

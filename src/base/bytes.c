#include <claviger/bytes.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <sodium.h>

bool clv_bytes_equal(clv_bytes a, clv_bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool clv_bytes_equal_secret(clv_bytes a, clv_bytes b)
{
    return a.n == b.n && (a.n == 0 || sodium_memcmp(a.p, b.p, a.n) == 0);
}

bool clv_bytes_all_zero(clv_bytes b)
{
    return b.n == 0 || sodium_is_zero(b.p, b.n) == 1;
}

void clv_buf_drop(clv_buf *buf)
{
    if (buf->p != NULL) {
        sodium_memzero(buf->p, buf->capacity);
        free(buf->p);
    }
    size_t limit = buf->limit;
    *buf = (clv_buf)CLV_BUF_LIMITED(limit);
}

static clv_status grow(clv_buf *buf, size_t wanted, clv_error *err)
{
    /* Doubling, so that appending stays linear; what is asked for at once is not rounded up. */
    size_t capacity = buf->capacity < 128 ? 256 : 2 * buf->capacity;
    if (capacity < wanted)
        capacity = wanted;
    /* A buffer that may not grow further needs no room for it; one byte is for a NUL. */
    size_t most = (buf->limit != 0 ? buf->limit : CLV_BUF_LIMIT) + 1;
    if (capacity > most)
        capacity = most;

    /* Not realloc(): the old block may hold plaintext and has to be wiped. */
    uint8_t *p = malloc(capacity);
    if (p == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for %zu bytes", capacity);
    if (buf->p != NULL) {
        memcpy(p, buf->p, buf->n);
        sodium_memzero(buf->p, buf->capacity);
        free(buf->p);
    }
    buf->p = p;
    buf->capacity = capacity;
    return CLV_OK;
}

clv_status clv_buf_reserve(clv_buf *buf, size_t n, uint8_t **out, clv_error *err)
{
    size_t limit = buf->limit != 0 ? buf->limit : CLV_BUF_LIMIT;
    if (n > limit || buf->n > limit - n)
        return clv_fail(err, CLV_TOO_LARGE, "expected at most %zu bytes, found more", limit);
    /* One byte more than asked, so that clv_buf_text() always has room for its NUL. */
    if (buf->p == NULL || buf->capacity - buf->n <= n)
        CLV_TRY(grow(buf, buf->n + n + 1, err));
    *out = buf->p + buf->n;
    return CLV_OK;
}

clv_status clv_buf_append(clv_buf *buf, clv_bytes bytes, clv_error *err)
{
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, bytes.n, &to, err));
    if (bytes.n > 0)
        memcpy(to, bytes.p, bytes.n);
    buf->n += bytes.n;
    return CLV_OK;
}

clv_status clv_buf_append_text(clv_buf *buf, const char *text, clv_error *err)
{
    return clv_buf_append(buf, clv_bytes_of(text), err);
}

clv_status clv_buf_printf(clv_buf *buf, clv_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        return clv_fail(err, CLV_INTERNAL, "vsnprintf failed");

    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, (size_t)n, &to, err));
    va_start(args, format);
    vsnprintf((char *)to, (size_t)n + 1, format, args);
    va_end(args);
    buf->n += (size_t)n;
    return CLV_OK;
}

clv_status clv_buf_text(clv_buf *buf, const char **out, clv_error *err)
{
    uint8_t *end;
    CLV_TRY(clv_buf_reserve(buf, 0, &end, err));
    *end = 0;
    *out = (const char *)buf->p;
    return CLV_OK;
}

clv_status clv_text_dup(clv_bytes text, char **out, clv_error *err)
{
    char *copy = malloc(text.n + 1);
    if (copy == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for %zu bytes", text.n + 1);
    if (text.n > 0)
        memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    *out = copy;
    return CLV_OK;
}

void clv_text_drop(clv_text *text)
{
    free(*text);
    *text = NULL;
}

clv_status clv_cursor_take(clv_cursor *c, size_t n, clv_bytes *out, clv_error *err)
{
    if (c->rest.n < n)
        return clv_fail(err, CLV_TRUNCATED, "expected %zu more bytes, found %zu", n, c->rest.n);
    *out = CLV_BYTES(c->rest.p, n);
    c->rest = CLV_BYTES(n == 0 ? c->rest.p : c->rest.p + n, c->rest.n - n);
    return CLV_OK;
}

static clv_status take_integer(clv_cursor *c, size_t n, uint64_t *out, clv_error *err)
{
    clv_bytes bytes;
    CLV_TRY(clv_cursor_take(c, n, &bytes, err));
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | bytes.p[i];
    *out = value;
    return CLV_OK;
}

clv_status clv_cursor_u8(clv_cursor *c, uint8_t *out, clv_error *err)
{
    uint64_t value;
    CLV_TRY(take_integer(c, sizeof *out, &value, err));
    *out = (uint8_t)value;
    return CLV_OK;
}

clv_status clv_cursor_u16(clv_cursor *c, uint16_t *out, clv_error *err)
{
    uint64_t value;
    CLV_TRY(take_integer(c, sizeof *out, &value, err));
    *out = (uint16_t)value;
    return CLV_OK;
}

clv_status clv_cursor_u32(clv_cursor *c, uint32_t *out, clv_error *err)
{
    uint64_t value;
    CLV_TRY(take_integer(c, sizeof *out, &value, err));
    *out = (uint32_t)value;
    return CLV_OK;
}

clv_status clv_cursor_u64(clv_cursor *c, uint64_t *out, clv_error *err)
{
    return take_integer(c, sizeof *out, out, err);
}

static clv_status put_integer(clv_buf *buf, uint64_t value, size_t n, clv_error *err)
{
    uint8_t bytes[sizeof value];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(value >> 8 * (n - 1 - i));
    return clv_buf_append(buf, CLV_BYTES(bytes, n), err);
}

clv_status clv_buf_u8(clv_buf *buf, uint8_t value, clv_error *err)
{
    return put_integer(buf, value, sizeof value, err);
}

clv_status clv_buf_u16(clv_buf *buf, uint16_t value, clv_error *err)
{
    return put_integer(buf, value, sizeof value, err);
}

clv_status clv_buf_u32(clv_buf *buf, uint32_t value, clv_error *err)
{
    return put_integer(buf, value, sizeof value, err);
}

clv_status clv_buf_u64(clv_buf *buf, uint64_t value, clv_error *err)
{
    return put_integer(buf, value, sizeof value, err);
}

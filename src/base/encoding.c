/* Text encodings of bytes: hex, base64 (through libsodium), and the UTF-8 check. */
#include <claviger/bytes.h>

#include <sodium.h>

clv_status clv_hex_append(clv_buf *buf, clv_bytes bytes, clv_error *err)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, 2 * bytes.n, &to, err));
    for (size_t i = 0; i < bytes.n; i++) {
        to[2 * i] = (uint8_t)digits[bytes.p[i] >> 4];
        to[2 * i + 1] = (uint8_t)digits[bytes.p[i] & 15];
    }
    buf->n += 2 * bytes.n;
    return CLV_OK;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static clv_status hex_into(clv_bytes text, uint8_t *out, clv_error *err)
{
    for (size_t i = 0; i < text.n; i++) {
        int digit = hex_digit(text.p[i]);
        if (digit < 0)
            return clv_fail(err, CLV_BAD_ENCODING,
                            "expected hex digits, found 0x%02x at offset %zu", text.p[i], i);
        out[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : out[i / 2] | digit);
    }
    return CLV_OK;
}

clv_status clv_hex_decode(clv_bytes text, clv_buf *out, clv_error *err)
{
    if (text.n % 2 != 0)
        return clv_fail(err, CLV_BAD_ENCODING, "expected an even number of hex digits, found %zu",
                        text.n);
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, text.n / 2, &to, err));
    CLV_TRY(hex_into(text, to, err));
    out->n += text.n / 2;
    return CLV_OK;
}

clv_status clv_hex_decode_exact(clv_bytes text, uint8_t *out, size_t n, clv_error *err)
{
    if (text.n != 2 * n)
        return clv_fail(err, CLV_BAD_ENCODING, "expected %zu hex digits, found %zu", 2 * n, text.n);
    return hex_into(text, out, err);
}

clv_status clv_base64_append(clv_buf *buf, clv_bytes bytes, clv_error *err)
{
    if (bytes.n > CLV_BUF_LIMIT)
        return clv_fail(err, CLV_TOO_LARGE, "expected at most %zu bytes to encode, found %zu",
                        (size_t)CLV_BUF_LIMIT, bytes.n);
    /* libsodium counts and writes a NUL, for which clv_buf_reserve() keeps room. */
    size_t size = sodium_base64_ENCODED_LEN(bytes.n, sodium_base64_VARIANT_ORIGINAL);
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, size - 1, &to, err));
    sodium_bin2base64((char *)to, size, bytes.p, bytes.n, sodium_base64_VARIANT_ORIGINAL);
    buf->n += size - 1;
    return CLV_OK;
}

clv_status clv_base64_decode(clv_bytes text, clv_buf *out, clv_error *err)
{
    size_t most = text.n / 4 * 3 + 3;
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(out, most, &to, err));
    size_t n = 0;
    const char *end = NULL;
    if (sodium_base642bin(to, most, (const char *)text.p, text.n, NULL, &n, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return clv_fail(err, CLV_BAD_ENCODING, "expected base64, found something else");
    if (end != (const char *)text.p + text.n)
        return clv_fail(err, CLV_BAD_ENCODING, "expected base64, found another byte at offset %zu",
                        (size_t)(end - (const char *)text.p));
    out->n += n;
    return CLV_OK;
}

/* How many bytes the sequence at p takes, 0 when it is not well-formed (RFC 3629 section 4). */
static size_t utf8_sequence(const uint8_t *p, size_t n)
{
    static const struct {
        uint8_t first_min, first_max, second_min, second_max, length;
    } form[] = {
        {0x01, 0x7f, 0x00, 0x00, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    for (size_t i = 0; i < sizeof form / sizeof form[0]; i++) {
        if (p[0] < form[i].first_min || p[0] > form[i].first_max)
            continue;
        if (n < form[i].length)
            return 0;
        if (form[i].length > 1 && (p[1] < form[i].second_min || p[1] > form[i].second_max))
            return 0;
        for (size_t k = 2; k < form[i].length; k++) {
            if ((p[k] & 0xc0) != 0x80)
                return 0;
        }
        return form[i].length;
    }
    return 0;
}

bool clv_utf8_valid(clv_bytes text)
{
    for (size_t i = 0; i < text.n;) {
        size_t length = utf8_sequence(text.p + i, text.n - i);
        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

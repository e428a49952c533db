#include <cli/input.h>

#include <base/file.h>
#include <claviger/attestation.h>

/* Hex doubles, line breaks and a little more on top. */
#define INPUT_MAX ((size_t)CLV_DOCUMENT_MAX * 3)

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_hex_digit(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* A COSE_Sign1 begins with 0x84 or 0xd2: no text does. */
static bool is_text(clv_bytes b)
{
    for (size_t i = 0; i < b.n; i++) {
        if ((b.p[i] < 0x20 || b.p[i] > 0x7e) && !is_space(b.p[i]))
            return false;
    }
    return b.n > 0;
}

/* Without white space; `-` and `_` (RFC 4648 section 5) become `+` and `/`. */
static clv_status compact(clv_bytes text, clv_buf *out, bool *hex, clv_error *err)
{
    *hex = true;
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (is_space(c))
            continue;
        *hex = *hex && is_hex_digit(c);
        CLV_TRY(clv_buf_u8(out, c == '-' ? '+' : c == '_' ? '/' : c, err));
    }
    return CLV_OK;
}

static clv_status decode_base64(clv_buf *text, clv_buf *out, clv_error *err)
{
    while (text->n % 4 != 0)
        CLV_TRY(clv_buf_u8(text, '=', err));
    return clv_base64_decode(clv_buf_bytes(text), out, err);
}

clv_status clv_input_read(const char *path, clv_buf *out, const char **form, clv_error *err)
{
    clv_auto(clv_buf) read = CLV_BUF_INIT;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, INPUT_MAX, &read, err));
    if (!is_text(clv_buf_bytes(&read))) {
        *form = "raw";
        return clv_buf_append(out, clv_buf_bytes(&read), err);
    }
    bool hex;
    CLV_TRY(compact(clv_buf_bytes(&read), &text, &hex, err));
    *form = hex ? "hex" : "base64";
    clv_status status =
        hex ? clv_hex_decode(clv_buf_bytes(&text), out, err) : decode_base64(&text, out, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

clv_status clv_input_value(const char *text, size_t max, clv_buf *out, clv_error *err)
{
    if (text[0] == '@')
        return clv_file_read(text + 1, max, out, err);
    CLV_TRY(clv_hex_decode(clv_bytes_of(text), out, err));
    if (out->n > max)
        return clv_fail(err, CLV_TOO_LARGE, "expected at most %zu bytes, found %zu", max, out->n);
    return CLV_OK;
}

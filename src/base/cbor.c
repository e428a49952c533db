#include <base/cbor.h>

#include <cbor.h>

/* What the streaming decoder's callbacks leave behind: exactly one of them runs for each item. */
typedef struct decoding {
    clv_cbor_item item;
} decoding;

static void set(void *context, clv_cbor_type type, uint64_t value)
{
    decoding *d = context;
    d->item.type = type;
    d->item.value = value;
}

static void set_string(void *context, clv_cbor_type type, cbor_data p, uint64_t n)
{
    decoding *d = context;
    d->item.type = type;
    d->item.value = n;
    d->item.bytes = CLV_BYTES(p, (size_t)n);
}

static void set_indefinite(void *context, clv_cbor_type type)
{
    decoding *d = context;
    d->item.type = type;
    d->item.indefinite = true;
}

static void on_uint8(void *c, uint8_t v)
{
    set(c, CLV_CBOR_UINT, v);
}
static void on_uint16(void *c, uint16_t v)
{
    set(c, CLV_CBOR_UINT, v);
}
static void on_uint32(void *c, uint32_t v)
{
    set(c, CLV_CBOR_UINT, v);
}
static void on_uint64(void *c, uint64_t v)
{
    set(c, CLV_CBOR_UINT, v);
}
static void on_negint8(void *c, uint8_t v)
{
    set(c, CLV_CBOR_NEGINT, v);
}
static void on_negint16(void *c, uint16_t v)
{
    set(c, CLV_CBOR_NEGINT, v);
}
static void on_negint32(void *c, uint32_t v)
{
    set(c, CLV_CBOR_NEGINT, v);
}
static void on_negint64(void *c, uint64_t v)
{
    set(c, CLV_CBOR_NEGINT, v);
}
static void on_bytes(void *c, cbor_data p, size_t n)
{
    set_string(c, CLV_CBOR_BYTES, p, n);
}
static void on_bytes_start(void *c)
{
    set_indefinite(c, CLV_CBOR_BYTES);
}
static void on_text(void *c, cbor_data p, size_t n)
{
    set_string(c, CLV_CBOR_TEXT, p, n);
}
static void on_text_start(void *c)
{
    set_indefinite(c, CLV_CBOR_TEXT);
}
static void on_array(void *c, size_t n)
{
    set(c, CLV_CBOR_ARRAY, n);
}
static void on_array_start(void *c)
{
    set_indefinite(c, CLV_CBOR_ARRAY);
}
static void on_map(void *c, size_t n)
{
    set(c, CLV_CBOR_MAP, n);
}
static void on_map_start(void *c)
{
    set_indefinite(c, CLV_CBOR_MAP);
}
static void on_tag(void *c, uint64_t v)
{
    set(c, CLV_CBOR_TAG, v);
}
static void on_float(void *c, float v)
{
    (void)v;
    set(c, CLV_CBOR_OTHER, 0);
}
static void on_double(void *c, double v)
{
    (void)v;
    set(c, CLV_CBOR_OTHER, 0);
}
static void on_undefined(void *c)
{
    set(c, CLV_CBOR_OTHER, 0);
}
static void on_null(void *c)
{
    set(c, CLV_CBOR_NULL, 0);
}
static void on_bool(void *c, bool v)
{
    set(c, CLV_CBOR_BOOL, v);
}
static void on_break(void *c)
{
    set(c, CLV_CBOR_BREAK, 0);
}

static const struct cbor_callbacks callbacks = {
    .uint8 = on_uint8,
    .uint16 = on_uint16,
    .uint32 = on_uint32,
    .uint64 = on_uint64,
    .negint8 = on_negint8,
    .negint16 = on_negint16,
    .negint32 = on_negint32,
    .negint64 = on_negint64,
    .byte_string = on_bytes,
    .byte_string_start = on_bytes_start,
    .string = on_text,
    .string_start = on_text_start,
    .array_start = on_array,
    .indef_array_start = on_array_start,
    .map_start = on_map,
    .indef_map_start = on_map_start,
    .tag = on_tag,
    .float2 = on_float,
    .float4 = on_float,
    .float8 = on_double,
    .undefined = on_undefined,
    .null = on_null,
    .boolean = on_bool,
    .indef_break = on_break,
};

/* Bytes of the shortest head that carries this argument (RFC 8949 section 3). */
static size_t shortest_head(uint64_t value)
{
    if (value < 24)
        return 1;
    if (value <= UINT8_MAX)
        return 2;
    if (value <= UINT16_MAX)
        return 3;
    return value <= UINT32_MAX ? 5 : 9;
}

/* libcbor 0.8 takes the tags 6 to 20, which are one byte long, for malformed: 18 is COSE_Sign1's.
 */
static bool take_short_tag(clv_cursor *c, clv_cbor_item *out)
{
    if (c->rest.n == 0 || c->rest.p[0] < 0xc6 || c->rest.p[0] > 0xd4)
        return false;
    *out = (clv_cbor_item){.type = CLV_CBOR_TAG, .minimal = true, .value = c->rest.p[0] & 0x1f};
    c->rest = CLV_BYTES(c->rest.p + 1, c->rest.n - 1);
    return true;
}

clv_status clv_cbor_next(clv_cursor *c, clv_cbor_item *out, clv_error *err)
{
    if (take_short_tag(c, out))
        return CLV_OK;

    decoding d = {0};
    struct cbor_decoder_result result = cbor_stream_decode(c->rest.p, c->rest.n, &callbacks, &d);
    if (result.status == CBOR_DECODER_NEDATA)
        return clv_fail(err, CLV_CBOR_MALFORMED,
                        "expected a whole CBOR item, found %zu bytes of it", c->rest.n);
    if (result.status != CBOR_DECODER_FINISHED || result.read == 0 || result.read > c->rest.n)
        return clv_fail(err, CLV_CBOR_MALFORMED, "expected a CBOR item, found 0x%02x",
                        c->rest.n > 0 ? c->rest.p[0] : 0);

    bool has_argument = d.item.type <= CLV_CBOR_TAG && !d.item.indefinite;
    d.item.minimal = !has_argument || result.read - d.item.bytes.n == shortest_head(d.item.value);
    c->rest = CLV_BYTES(c->rest.p + result.read, c->rest.n - result.read);
    *out = d.item;
    return CLV_OK;
}

clv_status clv_cbor_expect(clv_cursor *c, clv_cbor_type type, clv_cbor_item *out, clv_error *err)
{
    clv_cursor at = *c;
    clv_cbor_item item;
    CLV_TRY(clv_cbor_next(&at, &item, err));
    if (item.type != type)
        return clv_fail(err, CLV_CBOR_TYPE, "expected %s, found %s", clv_cbor_type_name(type),
                        clv_cbor_type_name(item.type));
    if (item.indefinite)
        return clv_fail(err, CLV_CBOR_TYPE, "expected %s of definite length, found indefinite",
                        clv_cbor_type_name(type));
    *c = at;
    *out = item;
    return CLV_OK;
}

const char *clv_cbor_type_name(clv_cbor_type type)
{
    static const char *const name[] = {
        [CLV_CBOR_UINT] = "an unsigned integer",
        [CLV_CBOR_NEGINT] = "a negative integer",
        [CLV_CBOR_BYTES] = "a byte string",
        [CLV_CBOR_TEXT] = "a text string",
        [CLV_CBOR_ARRAY] = "an array",
        [CLV_CBOR_MAP] = "a map",
        [CLV_CBOR_TAG] = "a tag",
        [CLV_CBOR_BOOL] = "a boolean",
        [CLV_CBOR_NULL] = "null",
        [CLV_CBOR_BREAK] = "a break",
        [CLV_CBOR_OTHER] = "a float or simple value",
    };
    return name[type];
}

/* The longest head: one byte and a 64 bit argument. */
#define HEAD_MAX 9

typedef size_t (*size_encoder)(size_t value, unsigned char *to, size_t room);

static clv_status put_sized(clv_buf *buf, size_encoder encode, size_t value, clv_error *err)
{
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, HEAD_MAX, &to, err));
    buf->n += encode(value, to, HEAD_MAX);
    return CLV_OK;
}

clv_status clv_cbor_put_uint(clv_buf *buf, uint64_t value, clv_error *err)
{
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, HEAD_MAX, &to, err));
    buf->n += cbor_encode_uint(value, to, HEAD_MAX);
    return CLV_OK;
}

clv_status clv_cbor_put_negint(clv_buf *buf, uint64_t value, clv_error *err)
{
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, HEAD_MAX, &to, err));
    buf->n += cbor_encode_negint(value, to, HEAD_MAX);
    return CLV_OK;
}

clv_status clv_cbor_put_bytes(clv_buf *buf, clv_bytes bytes, clv_error *err)
{
    CLV_TRY(put_sized(buf, cbor_encode_bytestring_start, bytes.n, err));
    return clv_buf_append(buf, bytes, err);
}

clv_status clv_cbor_put_text(clv_buf *buf, const char *text, clv_error *err)
{
    clv_bytes bytes = clv_bytes_of(text);
    CLV_TRY(put_sized(buf, cbor_encode_string_start, bytes.n, err));
    return clv_buf_append(buf, bytes, err);
}

clv_status clv_cbor_put_array(clv_buf *buf, size_t items, clv_error *err)
{
    return put_sized(buf, cbor_encode_array_start, items, err);
}

clv_status clv_cbor_put_map(clv_buf *buf, size_t pairs, clv_error *err)
{
    return put_sized(buf, cbor_encode_map_start, pairs, err);
}

clv_status clv_cbor_put_tag(clv_buf *buf, uint64_t tag, clv_error *err)
{
    uint8_t *to;
    CLV_TRY(clv_buf_reserve(buf, HEAD_MAX, &to, err));
    buf->n += cbor_encode_tag(tag, to, HEAD_MAX);
    return CLV_OK;
}

clv_status clv_cbor_put_bool(clv_buf *buf, bool value, clv_error *err)
{
    return clv_buf_u8(buf, value ? 0xf5 : 0xf4, err);
}

clv_status clv_cbor_put_null(clv_buf *buf, clv_error *err)
{
    return clv_buf_u8(buf, 0xf6, err);
}

#include <kms/ber.h>

#define CONSTRUCTED       0x20
#define HIGH_TAG          0x1f
#define LENGTH_LONG       0x80
#define LENGTH_OCTETS_MAX 4

static clv_status cut_short(clv_error *err)
{
    return clv_fail(err, CLV_CMS_FORMAT, "expected more BER, found the end");
}

static clv_status read_length(clv_cursor *c, bool *indefinite, size_t *length, clv_error *err)
{
    uint8_t octet;
    if (clv_cursor_u8(c, &octet, NULL) != CLV_OK)
        return cut_short(err);
    *indefinite = octet == LENGTH_LONG;
    *length = octet;
    if (octet <= LENGTH_LONG)
        return CLV_OK;

    size_t octets = octet & 0x7f;
    if (octets > LENGTH_OCTETS_MAX)
        return clv_fail(err, CLV_CMS_FORMAT,
                        "expected a BER length of at most %d octets, found %zu", LENGTH_OCTETS_MAX,
                        octets);
    *length = 0;
    for (size_t i = 0; i < octets; i++) {
        if (clv_cursor_u8(c, &octet, NULL) != CLV_OK)
            return cut_short(err);
        *length = *length << 8 | octet;
    }
    return CLV_OK;
}

/* X.690 section 8.1.5. */
static bool at_end_of_contents(const clv_cursor *c)
{
    return c->rest.n >= 2 && c->rest.p[0] == 0 && c->rest.p[1] == 0;
}

static clv_status next(clv_cursor *c, int depth, uint8_t *tag, clv_bytes *content, clv_error *err)
{
    clv_cursor at = *c;
    bool indefinite;
    size_t length;
    if (clv_cursor_u8(&at, tag, NULL) != CLV_OK)
        return cut_short(err);
    if ((*tag & HIGH_TAG) == HIGH_TAG)
        return clv_fail(err, CLV_CMS_FORMAT, "expected a BER tag below 31, found a higher one");
    CLV_TRY(read_length(&at, &indefinite, &length, err));

    if (!indefinite) {
        if (clv_cursor_take(&at, length, content, NULL) != CLV_OK)
            return clv_fail(err, CLV_CMS_FORMAT, "expected %zu bytes of BER content, found %zu",
                            length, at.rest.n);
        *c = at;
        return CLV_OK;
    }
    if ((*tag & CONSTRUCTED) == 0)
        return clv_fail(err, CLV_CMS_FORMAT,
                        "expected a definite length on a primitive BER encoding, found none");
    if (depth >= CLV_BER_DEPTH)
        return clv_fail(err, CLV_CMS_FORMAT, "expected at most %d BER levels, found more",
                        CLV_BER_DEPTH);

    const clv_bytes inside = at.rest;
    while (!at_end_of_contents(&at)) {
        uint8_t inner_tag;
        clv_bytes inner;
        CLV_TRY(next(&at, depth + 1, &inner_tag, &inner, err));
    }
    *content = CLV_BYTES(inside.p, inside.n - at.rest.n);
    clv_bytes end;
    CLV_TRY(clv_cursor_take(&at, 2, &end, err));
    *c = at;
    return CLV_OK;
}

clv_status clv_ber_next(clv_cursor *c, uint8_t *tag, clv_bytes *content, clv_error *err)
{
    return next(c, 0, tag, content, err);
}

clv_status clv_ber_expect(clv_cursor *c, uint8_t tag, const char *what, clv_bytes *content,
                          clv_error *err)
{
    if (clv_ber_peek(c) != tag)
        return clv_fail(err, CLV_CMS_FORMAT, "%s: expected BER tag %02x, found %02x", what, tag,
                        clv_ber_peek(c));
    uint8_t found;
    clv_status status = clv_ber_next(c, &found, content, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", what);
}

uint8_t clv_ber_peek(const clv_cursor *c)
{
    return c->rest.n > 0 ? c->rest.p[0] : 0;
}

clv_status clv_ber_end(const clv_cursor *c, const char *what, clv_error *err)
{
    if (c->rest.n > 0)
        return clv_fail(err, CLV_CMS_FORMAT, "%s: expected its end, found %zu more bytes", what,
                        c->rest.n);
    return CLV_OK;
}

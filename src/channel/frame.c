#include <channel/frame.h>

#define FRAME_VERSION 1

clv_status clv_frame_write(int fd, clv_frame_type type, clv_bytes payload, clv_error *err)
{
    if (payload.n > CLV_FRAME_MAX)
        return clv_fail(err, CLV_TOO_LARGE,
                        "frame: expected a payload of at most %zu bytes, found "
                        "%zu",
                        CLV_FRAME_MAX, payload.n);
    const uint8_t header[CLV_FRAME_HEADER] = {
        FRAME_VERSION,
        (uint8_t)type,
        0,
        0,
        (uint8_t)(payload.n >> 24),
        (uint8_t)(payload.n >> 16),
        (uint8_t)(payload.n >> 8),
        (uint8_t)payload.n,
    };
    return clv_write_both(fd, CLV_BYTES(header, sizeof header), payload, err);
}

/* The header, checked before a byte of payload is waited for. */
static clv_status read_header(clv_bytes bytes, clv_frame_type *type, uint32_t *length,
                              clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    uint8_t version, kind;
    uint16_t reserved;
    CLV_TRY(clv_cursor_u8(&c, &version, err));
    CLV_TRY(clv_cursor_u8(&c, &kind, err));
    CLV_TRY(clv_cursor_u16(&c, &reserved, err));
    CLV_TRY(clv_cursor_u32(&c, length, err));
    if (version != FRAME_VERSION)
        return clv_fail(err, CLV_FRAME_FORMAT, "frame: expected version %d, found %u",
                        FRAME_VERSION, version);
    if (kind < CLV_FRAME_CALL || kind > CLV_FRAME_FAULT)
        return clv_fail(err, CLV_FRAME_FORMAT, "frame: expected type 1 to 5, found %u", kind);
    if (reserved != 0)
        return clv_fail(err, CLV_FRAME_FORMAT, "frame: expected zeros in the header, found %u",
                        reserved);
    if (*length > CLV_FRAME_MAX)
        return clv_fail(err, CLV_TOO_LARGE,
                        "frame: expected a payload of at most %zu bytes, found "
                        "%u",
                        CLV_FRAME_MAX, *length);
    *type = (clv_frame_type)kind;
    return CLV_OK;
}

clv_status clv_frame_read(int fd, clv_frame_type *type, clv_buf *payload, clv_error *err)
{
    uint8_t header[CLV_FRAME_HEADER], *room;
    uint32_t length;
    CLV_TRY(clv_read_full(fd, header, sizeof header, err));
    CLV_TRY(read_header(CLV_BYTES(header, sizeof header), type, &length, err));
    CLV_TRY(clv_buf_reserve(payload, length, &room, err));
    CLV_TRY(clv_read_full(fd, room, length, err));
    payload->n += length;
    return CLV_OK;
}

#include <nsm/transport.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <base/net.h>

#define DEVICE_PREFIX "device:"
#define SOCKET_PREFIX "unix:"

/* A socket that stands for the device answers in milliseconds; a device never needs this. */
#define SOCKET_TIMEOUT_MS 30000

/* linux/nsm.h: struct nsm_iovec, struct nsm_raw, NSM_IOCTL_RAW. */
struct nsm_iovec {
    uint64_t addr;
    uint64_t len;
};

struct nsm_raw {
    struct nsm_iovec request;
    struct nsm_iovec response;
};

#define NSM_IOCTL_RAW _IOWR(0x0A, 0, struct nsm_raw)

static clv_status connect_device(const char *path, clv_nsm_transport *out, clv_error *err)
{
    out->fd = open(path, O_RDWR | O_CLOEXEC);
    if (out->fd < 0)
        return clv_fail(err, CLV_NSM_OPEN, "%s cannot be opened: %m", path);
    out->device = true;
    return CLV_OK;
}

static clv_status connect_socket(const char *text, clv_nsm_transport *out, clv_error *err)
{
    clv_address address;
    CLV_TRY(clv_address_parse(text, &address, err));
    clv_error detail = {.code = CLV_OK};
    if (clv_dial(&address, SOCKET_TIMEOUT_MS, &out->fd, &detail) != CLV_OK)
        return clv_fail(err, CLV_NSM_OPEN, "%s", detail.text);
    out->device = false;
    return CLV_OK;
}

clv_status clv_nsm_connect(const char *address, clv_nsm_transport *out, clv_error *err)
{
    out->fd = -1;
    if (strncmp(address, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) == 0)
        return connect_device(address + strlen(DEVICE_PREFIX), out, err);
    if (strncmp(address, SOCKET_PREFIX, strlen(SOCKET_PREFIX)) == 0)
        return connect_socket(address, out, err);
    return clv_fail(err, CLV_BAD_ADDRESS, "expected device:/path or unix:/path, found \"%.80s\"",
                    address);
}

void clv_nsm_disconnect(clv_nsm_transport *transport)
{
    clv_fd_drop(&transport->fd);
}

/*
 * The driver truncates to the room it is given and says nothing: always give all that a response
 * can take (linux/nsm.h NSM_RESPONSE_MAX_SIZE).
 */
static clv_status exchange_device(int fd, clv_bytes request, clv_buf *response, clv_error *err)
{
    uint8_t *room;
    CLV_TRY(clv_buf_reserve(response, CLV_NSM_RESPONSE_MAX, &room, err));
    struct nsm_raw raw = {
        .request = {(uint64_t)(uintptr_t)request.p, request.n},
        .response = {(uint64_t)(uintptr_t)room, CLV_NSM_RESPONSE_MAX},
    };
    int result;
    do
        result = ioctl(fd, NSM_IOCTL_RAW, &raw);
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return clv_fail(err, CLV_NSM_TRANSPORT, "the NSM device refused a request: %m");
    if (raw.response.len > CLV_NSM_RESPONSE_MAX)
        return clv_fail(err, CLV_NSM_RESPONSE,
                        "expected a response of at most %d bytes, found %llu", CLV_NSM_RESPONSE_MAX,
                        (unsigned long long)raw.response.len);
    response->n += (size_t)raw.response.len;
    return CLV_OK;
}

static clv_status receive(int fd, clv_buf *response, clv_error *err)
{
    uint8_t head[4], *room;
    uint32_t length;
    CLV_TRY(clv_read_full(fd, head, sizeof head, err));
    clv_cursor c = clv_cursor_of(CLV_BYTES(head, sizeof head));
    CLV_TRY(clv_cursor_u32(&c, &length, err));
    if (length > CLV_NSM_RESPONSE_MAX)
        return clv_fail(err, CLV_NSM_RESPONSE, "expected a response of at most %d bytes, found %u",
                        CLV_NSM_RESPONSE_MAX, length);
    CLV_TRY(clv_buf_reserve(response, length, &room, err));
    CLV_TRY(clv_read_full(fd, room, length, err));
    response->n += length;
    return CLV_OK;
}

static clv_status exchange_socket(int fd, clv_bytes request, clv_buf *response, clv_error *err)
{
    clv_auto(clv_buf) frame = CLV_BUF_INIT;
    CLV_TRY(clv_buf_u32(&frame, (uint32_t)request.n, err));
    CLV_TRY(clv_buf_append(&frame, request, err));
    clv_error detail = {.code = CLV_OK};
    clv_status status = clv_write_full(fd, clv_buf_bytes(&frame), &detail);
    if (status == CLV_OK)
        status = receive(fd, response, &detail);
    if (status == CLV_OK)
        return CLV_OK;
    return clv_fail(err, status == CLV_NSM_RESPONSE ? CLV_NSM_RESPONSE : CLV_NSM_TRANSPORT, "%s",
                    detail.text);
}

clv_status clv_nsm_exchange(const clv_nsm_transport *transport, clv_bytes request,
                            clv_buf *response, clv_error *err)
{
    if (request.n == 0 || request.n > CLV_NSM_REQUEST_MAX)
        return clv_fail(err, CLV_NSM_REQUEST, "expected a request of 1 to %d bytes, found %zu",
                        CLV_NSM_REQUEST_MAX, request.n);
    return transport->device ? exchange_device(transport->fd, request, response, err)
                             : exchange_socket(transport->fd, request, response, err);
}

/*
 * Addresses and sockets. One form for every place that names a peer:
 *
 *     vsock:CID:PORT      AF_VSOCK; CID a number, or "any" to listen (VMADDR_CID_ANY)
 *     unix:/path          AF_UNIX
 *     tcp:127.0.0.1:PORT  AF_INET or AF_INET6 ([::1]) loopback or any literal address; port 0
 *                         listens on a free port
 */
#ifndef CLV_BASE_NET_H
#define CLV_BASE_NET_H

#include <sys/socket.h>

#include <claviger/bytes.h>

typedef struct clv_address {
    struct sockaddr_storage sa;
    socklen_t length;
    char text[160];
} clv_address;

/* CLV_BAD_ADDRESS names the forms. */
CLV_NODISCARD clv_status clv_address_parse(const char *text, clv_address *out, clv_error *err);

/*
 * A connected, close-on-exec, blocking socket with send and receive timeouts of timeout_ms;
 * connecting itself takes at most that long. CLV_UNREACHABLE, CLV_DEADLINE.
 */
CLV_NODISCARD clv_status clv_dial(const clv_address *address, int timeout_ms, int *fd,
                                  clv_error *err);

/*
 * A listening socket: the one that a service manager passed for this address (supervisor.h), or
 * a new one. A stale Unix socket file is then replaced, one in use is not; `mode` is the file's
 * mode. *bound (may be NULL) gets the address with the port that was chosen.
 */
CLV_NODISCARD clv_status clv_listen(const clv_address *address, mode_t mode, int *fd,
                                    clv_address *bound, clv_error *err);

/* Exactly n bytes, or CLV_CLOSED, CLV_DEADLINE, CLV_SYSTEM. */
CLV_NODISCARD clv_status clv_read_full(int fd, void *p, size_t n, clv_error *err);
CLV_NODISCARD clv_status clv_write_full(int fd, clv_bytes bytes, clv_error *err);
/* One after the other, without putting them together first. */
CLV_NODISCARD clv_status clv_write_both(int fd, clv_bytes head, clv_bytes body, clv_error *err);

/* Set send and receive timeouts. */
CLV_NODISCARD clv_status clv_socket_timeout(int fd, int timeout_ms, clv_error *err);

/* As many descriptors as the system lets this process have: connections take them. */
void clv_descriptors_raise(void);

/* For clv_auto: a file descriptor, -1 when there is none. */
typedef int clv_fd;
void clv_fd_drop(clv_fd *fd);

#endif

#include <base/net.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <base/log.h>
#include <base/supervisor.h>

static clv_status bad_address(const char *text, clv_error *err)
{
    return clv_fail(err, CLV_BAD_ADDRESS,
                    "expected vsock:CID:PORT, unix:/path or tcp:IP:PORT, found \"%.100s\"", text);
}

/* A decimal number that fills the whole text. */
static bool parse_number(const char *text, uint64_t max, uint64_t *out)
{
    if (*text < '0' || *text > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0 || value > max)
        return false;
    *out = value;
    return true;
}

static bool parse_unix(const char *path, clv_address *out)
{
    struct sockaddr_un *sa = (struct sockaddr_un *)&out->sa;
    size_t n = strlen(path);
    if (path[0] != '/' || n >= sizeof sa->sun_path)
        return false;
    sa->sun_family = AF_UNIX;
    memcpy(sa->sun_path, path, n + 1);
    out->length = sizeof *sa;
    return true;
}

static bool parse_vsock(const char *host, const char *port, clv_address *out)
{
    struct sockaddr_vm *sa = (struct sockaddr_vm *)&out->sa;
    uint64_t cid = VMADDR_CID_ANY, number;
    if (strcmp(host, "any") != 0 && !parse_number(host, UINT32_MAX - 1, &cid))
        return false;
    if (!parse_number(port, UINT32_MAX - 1, &number))
        return false;
    sa->svm_family = AF_VSOCK;
    sa->svm_cid = (unsigned)cid;
    sa->svm_port = (unsigned)number;
    out->length = sizeof *sa;
    return true;
}

static bool parse_tcp(char *host, const char *port, clv_address *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)&out->sa;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->sa;
    uint64_t number;
    if (!parse_number(port, UINT16_MAX, &number))
        return false;

    size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = '\0';
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)number);
        out->length = sizeof *v6;
        return inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1;
    }
    v4->sin_family = AF_INET;
    v4->sin_port = htons((uint16_t)number);
    out->length = sizeof *v4;
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1;
}

clv_status clv_address_parse(const char *text, clv_address *out, clv_error *err)
{
    *out = (clv_address){.length = 0};
    if (strlen(text) >= sizeof out->text)
        return bad_address(text, err);
    memcpy(out->text, text, strlen(text) + 1);
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(text + 5, out) ? CLV_OK : bad_address(text, err);

    char copy[sizeof out->text];
    memcpy(copy, text, strlen(text) + 1);
    char *host = strchr(copy, ':');
    char *port = strrchr(copy, ':');
    if (host == NULL || port == host)
        return bad_address(text, err);
    *host++ = '\0';
    *port++ = '\0';
    bool known = (strcmp(copy, "vsock") == 0 && parse_vsock(host, port, out)) ||
                 (strcmp(copy, "tcp") == 0 && parse_tcp(host, port, out));
    return known ? CLV_OK : bad_address(text, err);
}

void clv_fd_drop(clv_fd *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

clv_status clv_socket_timeout(int fd, int timeout_ms, clv_error *err)
{
    struct timeval t = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) != 0)
        return clv_fail(err, CLV_SYSTEM, "a socket's timeout cannot be set: %m");
    return CLV_OK;
}

static bool timed_out(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINPROGRESS || error == ETIMEDOUT;
}

clv_status clv_dial(const clv_address *address, int timeout_ms, int *fd, clv_error *err)
{
    clv_auto(clv_fd) s = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return clv_fail(err, CLV_SYSTEM, "%s: no socket: %m", address->text);
    /* Linux bounds connect() by the send timeout, for every family but vsock, which has its own
     * of two seconds. */
    CLV_TRY(clv_socket_timeout(s, timeout_ms, err));
    int result;
    do
        result = connect(s, (const struct sockaddr *)&address->sa, address->length);
    while (result != 0 && errno == EINTR);
    if (result != 0)
        return clv_fail(err, timed_out(errno) ? CLV_DEADLINE : CLV_UNREACHABLE,
                        "%s cannot be reached: %m", address->text);
    *fd = s;
    s = -1;
    return CLV_OK;
}

/* A socket file that nobody listens on is left from a process that was killed. */
static clv_status remove_stale(const clv_address *address, clv_error *err)
{
    const char *path = ((const struct sockaddr_un *)&address->sa)->sun_path;
    struct stat st;
    if (lstat(path, &st) != 0)
        return CLV_OK;
    if (!S_ISSOCK(st.st_mode))
        return clv_fail(err, CLV_SYSTEM, "%s: expected a socket or nothing, found another file",
                        path);
    clv_auto(clv_fd) probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return clv_fail(err, CLV_SYSTEM, "%s: no socket: %m", path);
    if (connect(probe, (const struct sockaddr *)&address->sa, address->length) == 0 ||
        errno != ECONNREFUSED)
        return clv_fail(err, CLV_SYSTEM, "%s is in use by another process", path);
    if (unlink(path) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s: a stale socket cannot be removed: %m", path);
    return CLV_OK;
}

/* The address as it was bound: with the port that the system chose for port 0. */
static clv_status bound_address(int fd, const clv_address *asked, clv_address *bound,
                                clv_error *err)
{
    *bound = *asked;
    char host[INET6_ADDRSTRLEN];
    socklen_t length = sizeof bound->sa;
    if (asked->sa.ss_family == AF_UNIX)
        return CLV_OK;
    if (getsockname(fd, (struct sockaddr *)&bound->sa, &length) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s: no bound address: %m", asked->text);
    bound->length = length;

    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&bound->sa;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&bound->sa;
    if (asked->sa.ss_family == AF_INET)
        snprintf(bound->text, sizeof bound->text, "tcp:%s:%u",
                 inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host), ntohs(v4->sin_port));
    else if (asked->sa.ss_family == AF_INET6)
        snprintf(bound->text, sizeof bound->text, "tcp:[%s]:%u",
                 inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host), ntohs(v6->sin6_port));
    return CLV_OK;
}

static clv_status bind_and_listen(const clv_address *address, mode_t mode, int *fd, clv_error *err)
{
    bool is_unix = address->sa.ss_family == AF_UNIX;
    if (is_unix)
        CLV_TRY(remove_stale(address, err));
    clv_auto(clv_fd) s = socket(address->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return clv_fail(err, CLV_SYSTEM, "%s: no socket: %m", address->text);
    int on = 1;
    if (!is_unix && address->sa.ss_family != AF_VSOCK)
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* The socket's own mode becomes the file's when it is bound: it is never wider than asked. */
    if (is_unix)
        fchmod(s, mode);
    if (bind(s, (const struct sockaddr *)&address->sa, address->length) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be bound: %m", address->text);
    if (is_unix && chmod(((const struct sockaddr_un *)&address->sa)->sun_path, mode) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s: the mode cannot be set: %m", address->text);
    if (listen(s, SOMAXCONN) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be listened on: %m", address->text);
    *fd = s;
    s = -1;
    return CLV_OK;
}

clv_status clv_listen(const clv_address *address, mode_t mode, int *fd, clv_address *bound,
                      clv_error *err)
{
    clv_auto(clv_fd) s = -1;
    CLV_TRY(clv_inherited_take(address, &s, err));
    if (s < 0)
        CLV_TRY(bind_and_listen(address, mode, &s, err));
    if (bound != NULL)
        CLV_TRY(bound_address(s, address, bound, err));
    *fd = s;
    s = -1;
    return CLV_OK;
}
clv_status clv_read_full(int fd, void *p, size_t n, clv_error *err)
{
    uint8_t *to = p;
    for (size_t done = 0; done < n;) {
        ssize_t got = read(fd, to + done, n - done);
        if (got > 0)
            done += (size_t)got;
        else if (got == 0)
            return clv_fail(err, CLV_CLOSED, "the peer closed after %zu of %zu bytes", done, n);
        else if (timed_out(errno))
            return clv_fail(err, CLV_DEADLINE, "the peer was silent after %zu of %zu bytes", done,
                            n);
        else if (errno == ECONNRESET)
            return clv_fail(err, CLV_CLOSED, "the peer reset the connection");
        else if (errno != EINTR)
            return clv_fail(err, CLV_SYSTEM, "a connection cannot be read: %m");
    }
    return CLV_OK;
}

static struct iovec rest_of(clv_bytes bytes, size_t done)
{
    size_t skipped = done < bytes.n ? done : bytes.n;
    return (struct iovec){bytes.n > 0 ? (void *)(uintptr_t)(bytes.p + skipped) : NULL,
                          bytes.n - skipped};
}

clv_status clv_write_both(int fd, clv_bytes head, clv_bytes body, clv_error *err)
{
    size_t n = head.n + body.n;
    for (size_t done = 0; done < n;) {
        struct iovec parts[] = {rest_of(head, done),
                                rest_of(body, done > head.n ? done - head.n : 0)};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t put = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (put >= 0)
            done += (size_t)put;
        else if (timed_out(errno))
            return clv_fail(err, CLV_DEADLINE, "the peer took only %zu of %zu bytes", done, n);
        else if (errno == EPIPE || errno == ECONNRESET)
            return clv_fail(err, CLV_CLOSED, "the peer closed the connection");
        else if (errno != EINTR)
            return clv_fail(err, CLV_SYSTEM, "a connection cannot be written: %m");
    }
    return CLV_OK;
}

clv_status clv_write_full(int fd, clv_bytes bytes, clv_error *err)
{
    return clv_write_both(fd, bytes, CLV_BYTES(NULL, 0), err);
}

void clv_descriptors_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        clv_log(CLV_LOG_WARNING, "descriptors", NULL, "their number cannot be raised: %m");
}

#include <base/supervisor.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define FIRST_FD  3 /* sd_listen_fds(3): SD_LISTEN_FDS_START */
#define FDS_MAX   64
#define STATE_MAX 1024

/* A whole decimal number of the environment, or -1. */
static long number_of(const char *variable)
{
    const char *text = getenv(variable);
    if (text == NULL || *text < '0' || *text > '9')
        return -1;
    char *end;
    long value = strtol(text, &end, 10);
    return *end == '\0' ? value : -1;
}

static int passed_count(void)
{
    long count = number_of("LISTEN_FDS");
    if (number_of("LISTEN_PID") != (long)getpid() || count < 0)
        return 0;
    return count < FDS_MAX ? (int)count : FDS_MAX;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    const void *x = a, *y = b;
    switch (a->ss_family) {
    case AF_UNIX:
        return strncmp(((const struct sockaddr_un *)x)->sun_path,
                       ((const struct sockaddr_un *)y)->sun_path,
                       sizeof((const struct sockaddr_un *)x)->sun_path) == 0;
    case AF_VSOCK:
        return ((const struct sockaddr_vm *)x)->svm_port ==
                   ((const struct sockaddr_vm *)y)->svm_port &&
               ((const struct sockaddr_vm *)x)->svm_cid == ((const struct sockaddr_vm *)y)->svm_cid;
    case AF_INET:
        return ((const struct sockaddr_in *)x)->sin_port ==
                   ((const struct sockaddr_in *)y)->sin_port &&
               ((const struct sockaddr_in *)x)->sin_addr.s_addr ==
                   ((const struct sockaddr_in *)y)->sin_addr.s_addr;
    case AF_INET6:
        return ((const struct sockaddr_in6 *)x)->sin6_port ==
                   ((const struct sockaddr_in6 *)y)->sin6_port &&
               memcmp(&((const struct sockaddr_in6 *)x)->sin6_addr,
                      &((const struct sockaddr_in6 *)y)->sin6_addr, sizeof(struct in6_addr)) == 0;
    default:
        return false;
    }
}

/* Where a stream socket listens; false for any other descriptor. */
static bool listens_at(int fd, struct sockaddr_storage *out)
{
    int type = 0, listening = 0;
    socklen_t size = sizeof type, length = sizeof *out;
    memset(out, 0, sizeof *out);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM)
        return false;
    size = sizeof listening;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0 &&
           getsockname(fd, (struct sockaddr *)out, &length) == 0;
}

/* The descriptor that was passed for the address, or -1. */
static int find_passed(const clv_address *address)
{
    struct sockaddr_storage at;
    int end = FIRST_FD + passed_count();
    for (int fd = FIRST_FD; fd < end; fd++) {
        if (listens_at(fd, &at) && same_address(&at, &address->sa))
            return fd;
    }
    return -1;
}

bool clv_inherited(const clv_address *address)
{
    return find_passed(address) >= 0;
}

/* A descriptor arrives without FD_CLOEXEC; that it has it says that it was taken. */
clv_status clv_inherited_take(const clv_address *address, int *fd, clv_error *err)
{
    int passed = find_passed(address);
    *fd = -1;
    if (passed < 0)
        return CLV_OK;
    *fd = fcntl(passed, F_DUPFD_CLOEXEC, 0);
    if (*fd < 0 || fcntl(passed, F_SETFD, FD_CLOEXEC) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s: the socket that was passed cannot be used: %m",
                        address->text);
    return CLV_OK;
}

clv_status clv_inherited_all_taken(clv_error *err)
{
    int end = FIRST_FD + passed_count();
    for (int fd = FIRST_FD; fd < end; fd++) {
        if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0)
            return clv_fail(err, CLV_USAGE,
                            "LISTEN_FDS: expected sockets at addresses of the command line, found "
                            "descriptor %d at another",
                            fd);
    }
    return CLV_OK;
}

void clv_notify(const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path != NULL ? strlen(path) : 0;
    if (n < 2 || n >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, n);
    if (path[0] == '@')
        to.sun_path[0] = '\0';
    clv_auto(clv_fd) fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (fd < 0)
        return;
    ssize_t sent = sendto(fd, state, strnlen(state, STATE_MAX), MSG_NOSIGNAL,
                          (const struct sockaddr *)&to, length);
    (void)sent; /* a manager that does not listen changes nothing here */
}

void clv_notify_ready(void)
{
    clv_notify("READY=1\nSTATUS=serving");
}

/* The time tells this reload's READY from an earlier one's: systemd.service(5), notify-reload. */
void clv_notify_reloading(void)
{
    struct timespec now;
    char state[80];
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%lld",
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    clv_notify(state);
}

bool clv_journal_listens(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

#include <enclave/opener.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>
#include <seccomp.h>

#include <base/net.h>

/* include/uapi/asm-generic/socket.h of Linux 6.5; Debian 12's headers are older. */
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define ANSWER_MS 2000

/* A question carries the agent's socket, its answer the executable or an errno. */
typedef struct letter {
    uint32_t
        number; /* of the question: an answer that comes late is not taken for the next one's */
    int32_t error;
} letter;

/* One letter with at most one descriptor; fd -1: none. */
static bool send_letter(int to, const letter *text, int fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec piece = {(void *)text, sizeof *text};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        control.head = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
    }
    return sendmsg(to, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *text;
}

static bool receive_letter(int from, letter *text, int *fd)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec piece = {text, sizeof *text};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    *fd = -1;
    ssize_t got = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (got > 0 && head != NULL && head->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(head), sizeof *fd);
    return got == (ssize_t)sizeof *text;
}

/* ---- the process ---- */

/* -errno, or the open executable. The number belongs to the process all along when the pidfd says
 * at the end that the process still lives. */
static int open_executable(int socket)
{
    struct ucred peer;
    char path[32];
    clv_auto(clv_fd) pidfd = -1;
    socklen_t size = sizeof peer, pidfd_size = sizeof pidfd;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return -errno;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &pidfd_size) != 0) {
        if (errno != ENOPROTOOPT)
            return -errno;
        pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    }
    if (pidfd < 0)
        return -errno;
    snprintf(path, sizeof path, "/proc/%d/exe", peer.pid);
    clv_auto(clv_fd) exe = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (exe < 0)
        return -errno;
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    const struct timespec now = {0};
    if (ppoll(&ended, 1, &now, NULL) != 0) /* poll() is no system call on every processor */
        return -ESRCH;
    int given = exe;
    exe = -1;
    return given;
}

static void answer_for_ever(int fd)
{
    for (;;) {
        letter question;
        clv_auto(clv_fd) socket = -1;
        if (!receive_letter(fd, &question, &socket))
            return;
        clv_auto(clv_fd) exe = open_executable(socket);
        letter answer = {question.number, exe < 0 ? -exe : 0};
        if (!send_letter(fd, &answer, exe))
            return;
    }
}

static int allow_ten_calls(void)
{
    static const int calls[] = {
        SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),    SCMP_SYS(getsockopt),
        SCMP_SYS(ppoll),   SCMP_SYS(pidfd_open), SCMP_SYS(close),
        SCMP_SYS(exit),    SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
    };
    if (!clv_sandbox_filters())
        return 0;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int failed = filter == NULL ? -ENOMEM : 0;
    for (size_t i = 0; failed == 0 && i < sizeof calls / sizeof calls[0]; i++)
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    if (failed == 0) /* files are opened for reading, and none is made */
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, 0));
    if (failed == 0)
        failed = seccomp_load(filter);
    seccomp_release(filter);
    return failed;
}

/* Of what this process has, the two capabilities that it needs, across the change of user. */
static bool give_up_the_rest(const clv_sandbox_user *user)
{
    const uint32_t kept = UINT32_C(1) << CAP_SYS_PTRACE | UINT32_C(1) << CAP_DAC_READ_SEARCH;
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct set[2];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_capget, &head, set) != 0)
        return false;
    if (user->given &&
        (setgroups(0, NULL) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
         setresuid(user->uid, user->uid, user->uid) != 0))
        return false;
    set[0].permitted = set[0].effective = set[0].permitted & kept;
    set[0].inheritable = 0;
    set[1] = (struct __user_cap_data_struct){0};
    return syscall(SYS_capset, &head, set) == 0;
}

static _Noreturn void be_the_opener(int fd, const clv_sandbox_user *user)
{
    struct rlimit none = {0, 0};
    /* Its socket becomes descriptor 0, and nothing else stays open. */
    bool barred = dup2(fd, 0) == 0 && syscall(SYS_close_range, 1U, ~0U, 0) == 0 &&
                  setrlimit(RLIMIT_CORE, &none) == 0 && give_up_the_rest(user) &&
                  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && allow_ten_calls() == 0;
    if (barred)
        answer_for_ever(0);
    _exit(barred ? 0 : 1);
}

/* ---- the daemon's side ---- */

clv_status clv_opener_start(const clv_sandbox_user *user, clv_opener *out, clv_error *err)
{
    int pair[2];
    *out = (clv_opener){.fd = -1, .pid = -1};
    pthread_mutex_init(&out->lock, NULL);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return clv_fail(err, CLV_SYSTEM, "no sockets for the opener of executables: %m");
    clv_auto(clv_fd) theirs = pair[1];
    out->fd = pair[0];
    out->pid = fork();
    if (out->pid == 0)
        be_the_opener(theirs, user);
    if (out->pid < 0)
        return clv_fail(err, CLV_SYSTEM, "the opener of executables cannot start: %m");
    return clv_socket_timeout(out->fd, ANSWER_MS, err);
}

void clv_opener_drop(clv_opener *opener)
{
    if (opener->fd >= 0)
        close(opener->fd);
    opener->fd = -1;
    pthread_mutex_destroy(&opener->lock);
}

void clv_opener_stop(clv_opener *opener)
{
    if (opener->fd < 0)
        return;
    close(opener->fd);
    opener->fd = -1;
    waitpid(opener->pid, NULL, 0);
}

static clv_status ask(clv_opener *opener, int socket, int *exe, clv_error *err)
{
    letter question = {.number = ++opener->asked}, answer;
    if (opener->fd < 0 || !send_letter(opener->fd, &question, socket))
        return clv_fail(err, CLV_SYSTEM, "the opener of executables is gone");
    for (;;) {
        clv_auto(clv_fd) fd = -1;
        if (!receive_letter(opener->fd, &answer, &fd))
            return clv_fail(err, CLV_SYSTEM, "the opener of executables does not answer: %m");
        if (answer.number != question.number)
            continue;
        if (fd < 0)
            return clv_fail(err, CLV_SYSTEM, "the caller's executable cannot be opened: %s",
                            strerror(answer.error));
        *exe = fd;
        fd = -1;
        return CLV_OK;
    }
}

clv_status clv_opener_open(clv_opener *opener, int socket, int *exe, clv_error *err)
{
    pthread_mutex_lock(&opener->lock);
    clv_status status = ask(opener, socket, exe, err);
    pthread_mutex_unlock(&opener->lock);
    return status;
}

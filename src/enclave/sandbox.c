#include <enclave/sandbox.h>

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>
#include <seccomp.h>

/* linux/nsm.h: NSM_IOCTL_RAW. */
#define NSM_IOCTL_RAW 0xC0200A00u

/* Calls that pass whatever their arguments: what the daemon and its libraries were seen to need
 * once it serves, and what a thread, a signal, a clock or an allocator may need at any time. */
static const int plain_calls[] = {
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(bind),
    SCMP_SYS(brk),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(close),
    SCMP_SYS(connect),
    SCMP_SYS(dup),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(fcntl),
    SCMP_SYS(fstat),
    SCMP_SYS(futex),
    SCMP_SYS(getpeername),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(listen),
    SCMP_SYS(lseek),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(mremap),
    SCMP_SYS(munlock),
    SCMP_SYS(munmap),
    SCMP_SYS(nanosleep),
    SCMP_SYS(newfstatat),
    SCMP_SYS(pipe2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(pread64),
    SCMP_SYS(pselect6), /* select() where, as on aarch64, there is no call of that name */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(select),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(socketpair),
    SCMP_SYS(stat),
    SCMP_SYS(sysinfo),
    SCMP_SYS(tgkill),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(uname),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(write),
    SCMP_SYS(writev),
};

/* Calls that fail softly: a library tries them and goes on without. */
static const struct {
    int call;
    int error;
} soft_calls[] = {
    {SCMP_SYS(clone3), ENOSYS}, /* glibc falls back to clone() */
    {SCMP_SYS(access), EACCES},
    {SCMP_SYS(open), EACCES},
    {SCMP_SYS(readlink), EACCES},
    /* The same where, as on aarch64, these are all there is. */
    {SCMP_SYS(faccessat), EACCES},
    {SCMP_SYS(faccessat2), EACCES},
    {SCMP_SYS(openat), EACCES},
    {SCMP_SYS(readlinkat), EACCES},
};

/* Calls that pass for some values of one argument: all of `mask` must equal `value`. */
static const struct {
    int call;
    unsigned argument;
    enum scmp_compare compare;
    scmp_datum_t a, b;
} argument_calls[] = {
    /* New threads, never new processes. */
    {SCMP_SYS(clone), 0, SCMP_CMP_MASKED_EQ, 0x00010000, 0x00010000}, /* CLONE_THREAD */
    /* Memory is never executable, so that no code can be brought in. */
    {SCMP_SYS(mmap), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0},
    {SCMP_SYS(mprotect), 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0},
    {SCMP_SYS(ioctl), 1, SCMP_CMP_EQ, NSM_IOCTL_RAW, 0},
    {SCMP_SYS(ioctl), 1, SCMP_CMP_EQ, 0x5421, 0}, /* FIONBIO */
    {SCMP_SYS(ioctl), 1, SCMP_CMP_EQ, 0x541b, 0}, /* FIONREAD */
    {SCMP_SYS(prctl), 0, SCMP_CMP_EQ, PR_SET_NAME, 0},
    {SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_UNIX, 0},
    {SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_VSOCK, 0},
    {SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_INET, 0},
    {SCMP_SYS(socket), 0, SCMP_CMP_EQ, AF_INET6, 0},
};

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

static int fill_filter(scmp_filter_ctx filter)
{
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; failed == 0 && i < ROWS(plain_calls); i++)
        failed = seccomp_rule_add(filter, SCMP_ACT_ALLOW, plain_calls[i], 0);
    for (size_t i = 0; failed == 0 && i < ROWS(soft_calls); i++)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)soft_calls[i].error),
                                  soft_calls[i].call, 0);
    for (size_t i = 0; failed == 0 && i < ROWS(argument_calls); i++) {
        struct scmp_arg_cmp condition = {argument_calls[i].argument, argument_calls[i].compare,
                                         argument_calls[i].a, argument_calls[i].b};
        failed =
            seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, argument_calls[i].call, 1, &condition);
    }
    return failed;
}

static clv_status allow_calls(clv_error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the system call filter");
    int failed = fill_filter(filter);
    if (failed == 0)
        failed = seccomp_load(filter);
    seccomp_release(filter);
    if (failed != 0)
        return clv_fail(err, CLV_SYSTEM, "the system call filter cannot be loaded: %s",
                        strerror(-failed));
    return CLV_OK;
}

static bool parse_id(const char *text, const char *end, unsigned *out)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long value = strtoul(text, &stop, 10);
    *out = (unsigned)value;
    return stop == end && value > 0 && value < UINT32_MAX;
}

clv_status clv_sandbox_user_parse(const char *text, clv_sandbox_user *out, clv_error *err)
{
    const char *colon = strchr(text, ':'), *end = text + strlen(text);
    unsigned uid = 0, gid = 0;
    bool sound = parse_id(text, colon != NULL ? colon : end, &uid) &&
                 (colon == NULL || parse_id(colon + 1, end, &gid));
    if (!sound)
        return clv_fail(err, CLV_USAGE,
                        "--user: expected UID or UID:GID, numbers other than 0, found \"%.40s\"",
                        text);
    *out = (clv_sandbox_user){true, uid, colon != NULL ? gid : uid};
    return CLV_OK;
}

/* Secrets are locked in memory afterwards too, when root's right to lock without limit is gone; a
 * container may hold the limit where it is, and clv_secret_new() says when it does not suffice. */
static void raise_lock_limit(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_MEMLOCK, &limit);
}

static clv_status become(const clv_sandbox_user *user, clv_error *err)
{
    raise_lock_limit();
    if (setgroups(0, NULL) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
        setresuid(user->uid, user->uid, user->uid) != 0)
        return clv_fail(err, CLV_SYSTEM, "--user: cannot become %u:%u: %m", user->uid, user->gid);
    /* The change of user made the process traceable and dumpable again. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return clv_fail(err, CLV_SYSTEM, "PR_SET_DUMPABLE: %m");
    return CLV_OK;
}

bool clv_sandbox_filters(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return false;
#elif defined(__has_feature)
    return !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
    return true;
#endif
}

clv_status clv_sandbox_enter(const clv_sandbox_user *user, clv_error *err)
{
    if (user->given)
        CLV_TRY(become(user, err));
    return clv_sandbox_filters() ? allow_calls(err) : CLV_OK;
}

/* The daemon's bars, each tried in a child of its own: what is forbidden kills that child alone. */
#include "../check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <enclave/sandbox.h>

static const clv_sandbox_user nobody_else = {.given = false};

/* Runs a deed behind the bars: its exit status, or minus the signal that ended it. */
static int run_behind_bars(int (*deed)(void), bool prepare)
{
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        bool landlocked;
        clv_sandbox_paths paths = {.nsm = "unix:/none"};
        if (prepare && clv_sandbox_prepare(&paths, &landlocked, NULL) != CLV_OK)
            _exit(100);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            clv_sandbox_enter(&nobody_else, NULL) != CLV_OK)
            _exit(101);
        _exit(deed());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int try_exec(void)
{
    char name[] = "/bin/true";
    char *argv[] = {name, NULL};
    return execve(name, argv, NULL);
}
static int try_fork(void)
{
    return (int)syscall(SYS_fork);
}
static int try_clone_process(void)
{
    return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}
static int try_ptrace(void)
{
    return (int)ptrace(PTRACE_TRACEME, 0, 0, 0);
}
static int try_read_another(void)
{
    return (int)syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0);
}
static int try_executable_memory(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == NULL;
}
static int try_make_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}
static int try_netlink(void)
{
    return socket(AF_NETLINK, SOCK_RAW, 0);
}
static int try_packet(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0);
}
static int try_terminal_input(void)
{
    char c = 'x';
    return (int)syscall(SYS_ioctl, 0, 0x5412 /* TIOCSTI */, &c);
}
static int try_mount(void)
{
    return (int)syscall(SYS_mount, "a", "b", "c", 0, NULL);
}
static int try_module(void)
{
    return (int)syscall(SYS_init_module, NULL, 0, "");
}
static int try_bpf(void)
{
    return (int)syscall(SYS_bpf, 0, NULL, 0);
}
static int try_keyring(void)
{
    return (int)syscall(SYS_keyctl, 0, 0);
}
static int try_dumpable(void)
{
    return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
static int try_user(void)
{
    return setuid(0);
}
static int try_kill(void)
{
    return (int)syscall(SYS_kill, getpid(), 0);
}

static void a_forbidden_call_kills_only_the_offender(void **state)
{
    (void)state;
    if (!clv_sandbox_filters())
        skip();
    static const struct {
        const char *name;
        int (*deed)(void);
    } row[] = {
        {"execve", try_exec},
        {"fork", try_fork},
        {"clone of a process", try_clone_process},
        {"ptrace", try_ptrace},
        {"process_vm_readv", try_read_another},
        {"mmap PROT_EXEC", try_executable_memory},
        {"mprotect PROT_EXEC", try_make_executable},
        {"socket AF_NETLINK", try_netlink},
        {"socket AF_PACKET", try_packet},
        {"ioctl TIOCSTI", try_terminal_input},
        {"mount", try_mount},
        {"init_module", try_module},
        {"bpf", try_bpf},
        {"keyctl", try_keyring},
        {"prctl PR_SET_DUMPABLE", try_dumpable},
        {"setuid", try_user},
        {"kill", try_kill},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        int ended = run_behind_bars(row[i].deed, false);
        if (ended != -SIGSYS)
            fail_msg("%s: expected SIGSYS, found %d", row[i].name, ended);
    }
}

static int open_a_file(void)
{
    return open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES ? 0 : 1;
}

static void files_can_no_longer_be_opened(void **state)
{
    (void)state;
    if (!clv_sandbox_filters())
        skip();
    assert_int_equal(run_behind_bars(open_a_file, false), 0);
}

static void *do_nothing(void *argument)
{
    return argument;
}

static int do_honest_work(void)
{
    pthread_t thread;
    int pair[2], marker = 7;
    void *back = NULL;
    char byte = 'x';
    if (pthread_create(&thread, NULL, do_nothing, &marker) != 0 ||
        pthread_join(thread, &back) != 0 || back != &marker)
        return 1;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || write(pair[0], &byte, 1) != 1 ||
        read(pair[1], &byte, 1) != 1)
        return 2;
    uint8_t *p = malloc(3 << 20);
    if (p == NULL || mlock(p, 4096) != 0)
        return 3;
    memset(p, 1, 3 << 20);
    free(p);
    return 0;
}

static void honest_work_goes_on(void **state)
{
    (void)state;
    assert_int_equal(run_behind_bars(do_honest_work, true), 0);
}

/* Runs a deed after the first step alone. */
static int run_prepared(int (*deed)(bool landlocked))
{
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        bool landlocked;
        clv_sandbox_paths paths = {.nsm = "unix:/none"};
        if (clv_sandbox_prepare(&paths, &landlocked, NULL) != CLV_OK)
            _exit(100);
        _exit(deed(landlocked));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int look_at_limits(bool landlocked)
{
    (void)landlocked;
    struct rlimit core;
    return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 &&
                   prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
                   prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1
               ? 0
               : 1;
}

static void preparing_turns_dumps_and_privileges_off(void **state)
{
    (void)state;
    assert_int_equal(run_prepared(look_at_limits), 0);
}

#define NO_LANDLOCK 77

static int write_and_execute(bool landlocked)
{
    if (!landlocked)
        return NO_LANDLOCK;
    bool held = open("/tmp/claviger-forbidden", O_CREAT | O_WRONLY, 0600) < 0 &&
                open("/etc/passwd", O_RDONLY) >= 0 && try_exec() == -1;
    return held ? 0 : 1;
}

static void no_file_can_be_written_or_executed_under_landlock(void **state)
{
    (void)state;
    int ended = run_prepared(write_and_execute);
    if (ended == NO_LANDLOCK)
        skip();
    assert_int_equal(ended, 0);
}

static void a_user_is_a_number_other_than_root(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "0", "0:5", "5:0", "root", "5:", ":5", "5:x", "-1", "4294967295", "5 ", " 5"};
    clv_sandbox_user user = {.given = false};
    for (size_t i = 0; i < ROWS(bad); i++)
        assert_code(clv_sandbox_user_parse(bad[i], &user, err), CLV_USAGE);
    assert_ok(clv_sandbox_user_parse("1000:2000", &user, err));
    assert_int_equal(user.uid, 1000);
    assert_int_equal(user.gid, 2000);
    assert_ok(clv_sandbox_user_parse("1000", &user, err));
    assert_int_equal(user.gid, 1000);
}

static void root_is_left_for_good(void **state)
{
    (void)state;
    if (getuid() != 0)
        skip();
    static const clv_sandbox_user user = {true, 12345, 12346};
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
            _exit(100);
        if (clv_sandbox_enter(&user, NULL) != CLV_OK)
            _exit(101);
        _exit(geteuid() == 12345 && getuid() == 12345 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_forbidden_call_kills_only_the_offender),
        cmocka_unit_test(files_can_no_longer_be_opened),
        cmocka_unit_test(honest_work_goes_on),
        cmocka_unit_test(preparing_turns_dumps_and_privileges_off),
        cmocka_unit_test(no_file_can_be_written_or_executed_under_landlock),
        cmocka_unit_test(a_user_is_a_number_other_than_root),
        cmocka_unit_test(root_is_left_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

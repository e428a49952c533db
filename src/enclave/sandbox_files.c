/* The first step: privileges, dumps, and files (Linux Documentation/userspace-api/landlock.rst). */
#include <enclave/sandbox.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/landlock.h>

#include <base/net.h>

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* Everything that version 1 of the interface can forbid: each later kernel knows it too. */
#define EVERYTHING                                                                                 \
    (READ | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |                           \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                              \
     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |    \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
     LANDLOCK_ACCESS_FS_MAKE_SYM)

static clv_status allow(int rules, const char *path, uint64_t rights, clv_error *err)
{
    clv_auto(clv_fd) fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return CLV_OK; /* what is not there needs no right; using it says so */
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
    if (fd < 0 || syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0)
        return clv_fail(err, CLV_SYSTEM, "landlock: no rule for %s: %m", path);
    return CLV_OK;
}

static clv_status allow_directory_of(int rules, const char *path, uint64_t rights, clv_error *err)
{
    char copy[PATH_MAX];
    size_t n = strlen(path);
    if (n >= sizeof copy)
        return clv_fail(err, CLV_TOO_LARGE, "the path %.60s… is too long", path);
    memcpy(copy, path, n + 1);
    return allow(rules, dirname(copy), rights, err);
}

static clv_status allow_start(int rules, const clv_sandbox_paths *paths, clv_error *err)
{
    CLV_TRY(allow(rules, "/", READ, err));
    CLV_TRY(allow(rules, "/dev/urandom", LANDLOCK_ACCESS_FS_WRITE_FILE, err));
    if (strncmp(paths->nsm, "device:", 7) == 0)
        CLV_TRY(allow(rules, paths->nsm + 7,
                      LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE, err));
    for (size_t i = 0; i < paths->socket_count; i++) {
        if (paths->sockets[i] != NULL && strncmp(paths->sockets[i], "unix:", 5) == 0)
            CLV_TRY(allow_directory_of(
                rules, paths->sockets[i] + 5,
                LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE, err));
    }
    if (paths->ready_file == NULL)
        return CLV_OK;
    return allow_directory_of(rules, paths->ready_file,
                              LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                  LANDLOCK_ACCESS_FS_REMOVE_FILE,
                              err);
}

static clv_status restrict_files(const clv_sandbox_paths *paths, bool *landlocked, clv_error *err)
{
    struct landlock_ruleset_attr handled = {.handled_access_fs = EVERYTHING};
    clv_auto(clv_fd) rules = (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
    *landlocked = rules >= 0;
    if (rules < 0)
        return CLV_OK; /* the kernel has none: seccomp still keeps files from being opened later */
    CLV_TRY(allow_start(rules, paths, err));
    if (syscall(SYS_landlock_restrict_self, rules, 0) != 0)
        return clv_fail(err, CLV_SYSTEM, "landlock cannot be entered: %m");
    return CLV_OK;
}

clv_status clv_sandbox_prepare(const clv_sandbox_paths *paths, bool *landlocked, clv_error *err)
{
    struct rlimit none = {0, 0};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return clv_fail(err, CLV_SYSTEM, "PR_SET_NO_NEW_PRIVS: %m");
    /* Neither a core file nor another process of the same user may show this memory. */
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return clv_fail(err, CLV_SYSTEM, "core dumps cannot be turned off: %m");
    return restrict_files(paths, landlocked, err);
}

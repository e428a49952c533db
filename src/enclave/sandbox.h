/*
 * The daemon's own bars (R23): what a fault in it could still do.
 *
 * Two steps, because the second must not be in the way of starting:
 *
 *   clv_sandbox_prepare()  before any thread: no new privileges, no core dumps, not traceable by
 *                          others, and with Landlock (Linux 5.13 or later) no file can be written,
 *                          created or executed but what starting needs.
 *   clv_sandbox_enter()    once everything is open: another user if one is named, and a seccomp
 *                          allow-list for every thread. Files can no longer be opened (EACCES); any
 *                          call that is not on the list kills the process with SIGSYS.
 */
#ifndef CLV_ENCLAVE_SANDBOX_H
#define CLV_ENCLAVE_SANDBOX_H

#include <sys/types.h>

#include <claviger/bytes.h>

typedef struct clv_sandbox_paths {
    const char *ready_file; /* NULL: none */
    const char *nsm;        /* the NSM's address: a device is opened for reading and writing */
    const char *sockets[8]; /* addresses; of Unix sockets the directory is open for them */
    size_t socket_count;
} clv_sandbox_paths;

/* *landlocked says whether the kernel had Landlock. CLV_SYSTEM: a bar that must hold does not. */
CLV_NODISCARD clv_status clv_sandbox_prepare(const clv_sandbox_paths *paths, bool *landlocked,
                                             clv_error *err);

/* A user to become: "UID" or "UID:GID", numbers. CLV_USAGE. */
typedef struct clv_sandbox_user {
    bool given;
    uid_t uid;
    gid_t gid;
} clv_sandbox_user;
CLV_NODISCARD clv_status clv_sandbox_user_parse(const char *text, clv_sandbox_user *out,
                                                clv_error *err);

/* Whether this build loads the filter: one with AddressSanitizer does not, whose runtime opens
 * files and traces itself. */
bool clv_sandbox_filters(void);

CLV_NODISCARD clv_status clv_sandbox_enter(const clv_sandbox_user *user, clv_error *err);

#endif

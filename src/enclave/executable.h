/*
 * What a caller runs: the SHA-256 of the file behind /proc/PID/exe of the process that connected,
 * looked at anew for each request (R22, "exe_sha256" of a policy's agents).
 *
 * It says which program file that process is executing at that moment, after an exec() too. It does
 * not say what the process does with it: an environment, a script, a debugger of the same user or a
 * descriptor that was passed on are beyond it (docs/agent-api.md). The uid stays the boundary.
 *
 * A file that was hashed is known again by device, inode, size and both times, unless it was
 * changed only just before; the kernel lets nobody write to a file that is being executed
 * (execve(2), ETXTBSY).
 */
#ifndef CLV_ENCLAVE_EXECUTABLE_H
#define CLV_ENCLAVE_EXECUTABLE_H

#include <time.h>

#include <claviger/policy.h>
#include <enclave/opener.h>

#define CLV_EXECUTABLE_MAX ((off_t)512 * 1024 * 1024)
#define CLV_EXECUTABLES    4 /* kept for each row of the policy's table */

typedef struct clv_executables {
    clv_opener *opener;
    /* By row of the policy's table, so that one agent's many programs cost no other its place, and
     * its large ones hold up no other. */
    struct clv_executable_row {
        pthread_mutex_t turn; /* held while a file is hashed; protects the rest */
        size_t next;
        struct clv_executable {
            bool used;
            dev_t device;
            ino_t inode;
            off_t size;
            struct timespec written, changed;
            uint8_t sha256[CLV_EXE_DIGEST_SIZE];
        } known[CLV_EXECUTABLES];
    } row[CLV_POLICY_AGENTS_MAX];
} clv_executables;

/* The opener, already started, must outlive it. */
void clv_executables_init(clv_executables *executables, clv_opener *opener);
void clv_executables_drop(clv_executables *executables);

/* row: of the policy's table. CLV_SYSTEM as the opener has it, CLV_TOO_LARGE. */
CLV_NODISCARD clv_status clv_executables_measure(clv_executables *executables, size_t row,
                                                 int socket, uint8_t sha256[CLV_EXE_DIGEST_SIZE],
                                                 clv_error *err);

#endif

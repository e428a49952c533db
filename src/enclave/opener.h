/*
 * A process of its own that opens the executable of whoever is at the other end of a socket.
 *
 * The daemon cannot: it has no root and may open no file once it serves (sandbox.h), and the kernel
 * shows /proc/PID/exe of another user to CAP_SYS_PTRACE alone (ptrace(2), "Ptrace access mode
 * checking"). So this process is forked before the daemon's bars come down, keeps that capability
 * and CAP_DAC_READ_SEARCH, loses every other, and can do nothing but this: it has no file but its
 * socket to the daemon, and a system call filter of ten calls. It reads no byte of an agent's.
 *
 * Which process: the one that connected, by its pidfd (SO_PEERPIDFD, Linux 6.5). On an older kernel
 * the pidfd is opened by number when the question is asked, so a process that ended in between and
 * whose number was given to another is mistaken for that other one.
 */
#ifndef CLV_ENCLAVE_OPENER_H
#define CLV_ENCLAVE_OPENER_H

#include <pthread.h>

#include <enclave/sandbox.h>

typedef struct clv_opener {
    pthread_mutex_t lock; /* one question at a time; protects asked */
    uint32_t asked;
    int fd; /* to the process; -1: there is none */
    pid_t pid;
} clv_opener;

/* Before the first thread, and before clv_sandbox_prepare(): a process under Landlock cannot look
 * at processes that are not. user: whom the process becomes. CLV_SYSTEM. */
CLV_NODISCARD clv_status clv_opener_start(const clv_sandbox_user *user, clv_opener *out,
                                          clv_error *err);

/* End the process and wait for it: where nothing needs it, and before the filter forbids to wait.
 */
void clv_opener_stop(clv_opener *opener);
/* The process ends by itself when its socket closes. */
void clv_opener_drop(clv_opener *opener);

/* The executable of the process that connected `socket`, open for reading; the caller closes it.
 * CLV_SYSTEM: the process has ended, or the kernel does not let us see it. Thread-safe. */
CLV_NODISCARD clv_status clv_opener_open(clv_opener *opener, int socket, int *exe, clv_error *err);

#endif

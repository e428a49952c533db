/*
 * What a service manager hands to a program and hears from it, by systemd's protocols, which are
 * environment variables and datagrams: sd_listen_fds(3), sd_notify(3), and JOURNAL_STREAM of
 * systemd.exec(5). Without the variables every function here does nothing.
 */
#ifndef CLV_BASE_SUPERVISOR_H
#define CLV_BASE_SUPERVISOR_H

#include <base/net.h>

/*
 * The listening socket that was passed for this address, duplicated: *fd is -1 where there is none.
 * Sockets are told apart by what they are bound to, not by their names. The one that was passed
 * stays open, so that the address can be given up and taken again.
 */
CLV_NODISCARD clv_status clv_inherited_take(const clv_address *address, int *fd, clv_error *err);

/* Whether a socket was passed for this address: its file is then not ours to remove. */
bool clv_inherited(const clv_address *address);

/* CLV_USAGE names a socket that was passed and that no address of the program took: whoever
 * connects to it would wait for ever. */
CLV_NODISCARD clv_status clv_inherited_all_taken(clv_error *err);

/* Tell the service manager, in assignments that lines separate: "READY=1\nSTATUS=serving". */
void clv_notify(const char *state);

/* What a manager waits for after a start or a reload, and what a reload begins with. */
void clv_notify_ready(void);
void clv_notify_reloading(void);

/* Whether standard error is a stream to the journal. */
bool clv_journal_listens(void);

#endif

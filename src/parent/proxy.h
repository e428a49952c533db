/*
 * The relay alone, in the place of AWS's vsock-proxy: the same command line
 * (aws-nitro-enclaves-cli, vsock_proxy/README.md), the same allowlist file.
 *
 *     vsock-proxy [-4|-6] [-w N] [--config FILE] LOCAL_PORT HOST PORT
 *
 * LOCAL_PORT is a vsock port of this machine, or any address of base/net.h. -w is accepted and
 * bounds nothing: connections do not need a worker each. Without --config the list is
 * /etc/nitro_enclaves/vsock-proxy.yaml, as there.
 */
#ifndef CLV_PARENT_PROXY_H
#define CLV_PARENT_PROXY_H

#include <claviger/error.h>

CLV_NODISCARD clv_status clv_proxy_run(int argc, char **argv, clv_error *err);

/* What every serving form of the program does: SIGTERM, SIGINT and SIGHUP wait to be asked for, in
 * this thread and those it starts. */
void clv_signals_block(void);
int clv_signals_wait(void);

#endif

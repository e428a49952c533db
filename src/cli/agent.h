/* The daemon's agent API as `claviger seal` and `unseal` use it: one stream (enclave/stream.h). */
#ifndef CLV_CLI_AGENT_H
#define CLV_CLI_AGENT_H

#include <claviger/bytes.h>

#define CLV_AGENT_ADDRESS    "unix:/run/claviger/agent.sock"
#define CLV_AGENT_TIMEOUT_MS 60000

/*
 * Dial and upgrade: *fd then carries frames. verb: "seal" or "unseal"; key may be NULL for the
 * policy's only one. A problem document becomes this function's error, with the code it names.
 */
CLV_NODISCARD clv_status clv_agent_stream(const char *address, const char *verb, const char *key,
                                          const char *name, int *fd, clv_error *err);

#endif

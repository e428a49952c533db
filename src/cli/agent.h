/* The daemon's agent API as `claviger` uses it: streams (enclave/stream.h) and small JSON calls. */
#ifndef CLV_CLI_AGENT_H
#define CLV_CLI_AGENT_H

#include <base/json.h>

#define CLV_AGENT_ADDRESS    "unix:/run/claviger/agent.sock"
#define CLV_AGENT_TIMEOUT_MS 60000

/*
 * Dial and upgrade: *fd then carries frames. verb: "seal" or "unseal"; key may be NULL for the
 * policy's only one. A problem document becomes this function's error, with the code it names.
 */
CLV_NODISCARD clv_status clv_agent_stream(const char *address, const char *verb, const char *key,
                                          const char *name, int *fd, clv_error *err);

/* One call, answered with JSON: a path of docs/openapi.yaml, then the query. */
CLV_NODISCARD clv_status clv_agent_send(const char *address, const char *method, const char *path,
                                        clv_bytes body, json_t **out, clv_error *err);
/* The same without a body. */
CLV_NODISCARD clv_status clv_agent_call(const char *address, const char *method, const char *path,
                                        json_t **out, clv_error *err);

/* name=text, percent-encoded, appended to a path with what separates it; nothing for NULL. */
CLV_NODISCARD clv_status clv_agent_query(clv_buf *path, const char *name, const char *text,
                                         clv_error *err);

#endif

/*
 * Streams: sealing and unsealing of any size in constant memory.
 *
 * HTTP carries a request's body to its end before an answer begins, so a stream is an upgraded
 * connection (RFC 9110 section 7.8): POST /v1/stream/seal or /v1/stream/unseal with "Connection:
 * Upgrade" and "Upgrade: claviger-stream". A refusal is a problem document, as on other routes.
 * After 101 both sides send frames of channel/frame.h: the agent DATA* END, the daemon DATA* and
 * then END, or FAULT with the failure. Only END makes what came before it the whole; after a FAULT
 * or a lost connection everything that came must be thrown away. What is unsealed comes frame by
 * frame, each after its tag verified. The agent must read while it writes.
 */
#ifndef CLV_ENCLAVE_STREAM_H
#define CLV_ENCLAVE_STREAM_H

#include <enclave/request.h>

#define CLV_STREAM_PROTOCOL "claviger-stream"
/* An agent that neither sends nor takes a byte for so long is dropped (R21). */
#define CLV_STREAM_IDLE_MS 30000
/* What a stream holds against its agent's share: a frame each way and the output's buffer. */
#define CLV_STREAM_MEMORY ((size_t)4 * 1024 * 1024)

typedef struct clv_stream clv_stream;

clv_status clv_route_stream_seal(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_stream_unseal(clv_request *request, clv_response *response, clv_error *err);

/* Serve the upgraded socket until the stream ends, on the caller's thread; fd stays open. */
void clv_stream_run(clv_stream *stream, int fd);
void clv_stream_free(clv_stream **stream);

/* End every stream that runs, and each that would begin: its agent sees the connection close, and
 * so no END. A stream has no time by which it must be over. */
void clv_streams_end(clv_streams *streams);

#endif

/* POST /v1/seal and /v1/unseal: bytes in, bytes out; the agent keeps the message itself. */
#include <enclave/routes.h>

/*
 * States of the store count from 1. A message that an agent keeps is of generation 0, so that the
 * parent cannot put it in the place of a stored state.
 */
#define KEPT_BY_AGENT 0

clv_status clv_route_seal(clv_request *request, clv_response *response, clv_error *err)
{
    response->media_type = "application/octet-stream";
    response->body.limit = CLV_SEALED_MAX;
    return clv_state_seal(request->enclave->vault, request->key, request->full_name, KEPT_BY_AGENT,
                          clv_buf_bytes(&request->body), &response->body, err);
}

clv_status clv_route_unseal(clv_request *request, clv_response *response, clv_error *err)
{
    response->media_type = "application/octet-stream";
    return clv_state_unseal(request->enclave->vault, request->key, request->full_name,
                            KEPT_BY_AGENT, clv_buf_bytes(&request->body), &response->body, NULL,
                            err);
}

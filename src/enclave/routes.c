#include <enclave/routes.h>

/* What sealing adds: per frame of CLV_SEAL_FRAME a sequence number, an IV and a tag (32 bytes),
 * and the header. */
#define SEALED_MAX (CLV_STATE_SIZE_MAX + CLV_STATE_SIZE_MAX / 64 + CLV_SEAL_HEADER_MAX)

#define KEY    CLV_TAKES(CLV_PARAMETER_KEY)
#define NAME   CLV_TAKES(CLV_PARAMETER_NAME)
#define PREFIX CLV_TAKES(CLV_PARAMETER_PREFIX)

const clv_route clv_routes[] = {
    {.method = "PUT",
     .path = "/v1/state/{name}",
     .verb = "seal",
     .takes = KEY,
     .body_max = CLV_STATE_SIZE_MAX,
     .audit = true,
     .serve = clv_route_state_put},
    {.method = "GET",
     .path = "/v1/state/{name}",
     .verb = "unseal",
     .takes = KEY,
     .audit = true,
     .serve = clv_route_state_get},
    {.method = "DELETE",
     .path = "/v1/state/{name}",
     .verb = "delete",
     .takes = KEY,
     .audit = true,
     .serve = clv_route_state_delete},
    {.method = "GET",
     .path = "/v1/state",
     .verb = "unseal",
     .takes = KEY | PREFIX,
     .serve = clv_route_state_list},
    {.method = "POST",
     .path = "/v1/seal",
     .verb = "seal",
     .takes = KEY | NAME,
     .needs = NAME,
     .body_max = CLV_STATE_SIZE_MAX,
     .audit = true,
     .serve = clv_route_seal},
    {.method = "POST",
     .path = "/v1/unseal",
     .verb = "unseal",
     .takes = KEY | NAME,
     .needs = NAME,
     .body_max = SEALED_MAX,
     .audit = true,
     .serve = clv_route_unseal},
    {.method = "GET", .path = "/v1/identity", .serve = clv_route_identity},
    {.method = "GET", .path = "/healthz", .serve = clv_route_healthz},
    {.method = "GET", .path = "/readyz", .serve = clv_route_readyz},
    {.method = "GET", .path = "/metrics", .serve = clv_route_metrics_text},
    {.method = NULL},
};

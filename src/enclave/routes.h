/* What each route does; routes.c has the table, docs/openapi.yaml the contract. */
#ifndef CLV_ENCLAVE_ROUTES_H
#define CLV_ENCLAVE_ROUTES_H

#include <enclave/request.h>

clv_status clv_route_state_put(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_state_get(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_state_delete(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_state_list(clv_request *request, clv_response *response, clv_error *err);

clv_status clv_route_reseal(clv_request *request, clv_response *response, clv_error *err);

clv_status clv_route_seal(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_unseal(clv_request *request, clv_response *response, clv_error *err);

/* What a caller may have said in a document: dstack's report_data has this size. */
#define CLV_REPORT_DATA_MAX 64

/* derive, public, sign, hmac: which one is the route's verb_in_body. */
clv_status clv_route_keys(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_attestation(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_evidence(clv_request *request, clv_response *response, clv_error *err);

clv_status clv_route_kms_decrypt(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_kms_generate(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_random(clv_request *request, clv_response *response, clv_error *err);

clv_status clv_route_dstack_key(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_dstack_quote(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_dstack_info(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_dstack_version(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_rofl_key(clv_request *request, clv_response *response, clv_error *err);

clv_status clv_route_status(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_witness(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_witness_init(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_witness_csr(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_witness_certificate(clv_request *request, clv_response *response,
                                         clv_error *err);
clv_status clv_route_witness_adopt(clv_request *request, clv_response *response, clv_error *err);

clv_status clv_route_identity(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_healthz(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_readyz(clv_request *request, clv_response *response, clv_error *err);
clv_status clv_route_metrics_text(clv_request *request, clv_response *response, clv_error *err);

#endif

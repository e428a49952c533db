/* /v1/state: seal and keep with the parent, fetch and unseal (R17, R18). */
#include <enclave/routes.h>

#define WATCH_SLACK_MS 100

/* The generation that the parent says it holds, 0 for none: a write that is not true to it fails.
 */
static clv_status held_generation(clv_request *request, uint64_t *out, clv_error *err)
{
    return clv_services_state_watch(&request->enclave->services, request->full_name, 0, 0, out,
                                    err);
}

/* The generation that the request wants to replace: as it says, or what there is. */
static clv_status replaced_generation(clv_request *request, uint64_t *out, clv_error *err)
{
    if (request->if_match)
        *out = request->match_generation;
    else if (request->create_only)
        *out = 0;
    else
        return held_generation(request, out, err);
    return CLV_OK;
}

/* A conflict is a failed precondition when the request made one. */
static clv_status conflict(const clv_request *request, clv_status status, clv_error *err)
{
    bool demanded = request->if_match || request->create_only;
    if (!demanded || (status != CLV_STATE_CONFLICT && status != CLV_STATE_NOT_FOUND))
        return status;
    if (request->create_only)
        return clv_fail(err, CLV_API_PRECONDITION,
                        "expected no state \"%s\", found that there is one", request->name);
    return clv_fail(err, CLV_API_PRECONDITION,
                    "expected state \"%s\" at generation %llu, found another", request->name,
                    (unsigned long long)request->match_generation);
}

clv_status clv_route_state_put(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_buf) sealed = CLV_BUF_LIMITED(CLV_SEALED_MAX);
    uint64_t replaced = 0;
    CLV_TRY(replaced_generation(request, &replaced, err));
    if (replaced >= CLV_GENERATION_MAX)
        return clv_fail(err, CLV_STATE_CONFLICT, "expected a generation below 2^53, found %llu",
                        (unsigned long long)replaced);
    uint64_t generation = replaced + 1;
    CLV_TRY(clv_state_seal(request->enclave->vault, request->key, request->full_name, generation,
                           clv_buf_bytes(&request->body), &sealed, err));
    clv_status status = clv_services_state_put(&request->enclave->services, request->full_name,
                                               generation, clv_buf_bytes(&sealed), err);
    if (status != CLV_OK)
        return conflict(request, status, err);
    response->status = generation == 1 ? 201 : 200;
    response->generation = generation;
    return clv_response_json(response,
                             json_pack("{s:s, s:I, s:I}", "name", request->name, "generation",
                                       (json_int_t)generation, "size", (json_int_t)request->body.n),
                             err);
}

/*
 * Asked for piece by piece, so that the daemon can end. A parent that says "unchanged" before the
 * time is over is not asked again: it could keep a thread busy.
 */
static clv_status watch(clv_request *request, uint64_t held, uint64_t *found, clv_error *err)
{
    clv_services *services = &request->enclave->services;
    uint64_t now = clv_monotonic_ms(), until = now + (uint64_t)request->wait_ms;
    for (;;) {
        int left = now < until ? (int)(until - now) : 0;
        int piece = left < CLV_SERVICES_WAIT_MS ? left : CLV_SERVICES_WAIT_MS;
        CLV_TRY(clv_services_state_watch(services, request->full_name, held, piece, found, err));
        uint64_t after = clv_monotonic_ms();
        bool early = after + WATCH_SLACK_MS < now + (uint64_t)piece;
        now = after;
        if (*found != held || now >= until || early || atomic_load(&services->stopping))
            return CLV_OK;
    }
}

/* *unchanged: the parent says that it still holds what the agent knows. */
static clv_status await_change(clv_request *request, bool *unchanged, clv_error *err)
{
    uint64_t held = request->if_none_match ? request->match_generation : 0, found = 0;
    *unchanged = false;
    if (!request->if_none_match && request->wait_ms == 0)
        return CLV_OK;
    clv_agents *agents = &request->enclave->agents;
    if (request->wait_ms > 0) {
        CLV_TRY(clv_agents_take_wait(agents, request->agent.uid, err));
        clv_request_end_turn(request); /* the agent's other requests go on */
    }
    clv_status status = watch(request, held, &found, err);
    if (request->wait_ms > 0)
        clv_agents_give_wait(agents, request->agent.uid);
    *unchanged = found == held && request->if_none_match;
    return status == CLV_OK ? clv_request_begin_turn(request, err) : status;
}

static clv_status not_modified(const clv_request *request, clv_response *response)
{
    response->status = 304;
    response->generation = request->match_generation;
    return CLV_OK;
}

clv_status clv_route_state_get(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_buf) sealed = CLV_BUF_LIMITED(CLV_SEALED_MAX);
    uint64_t generation = 0;
    bool unchanged;
    CLV_TRY(await_change(request, &unchanged, err));
    if (unchanged)
        return not_modified(request, response);
    CLV_TRY(clv_request_hold(request, CLV_SEALED_MAX + CLV_STATE_SIZE_MAX, err));
    clv_status status = clv_services_state_get(&request->enclave->services, request->full_name,
                                               &generation, &sealed, err);
    if (status == CLV_STATE_NOT_FOUND && !request->if_match)
        return clv_fail(err, status, "expected a state \"%s\", found none", request->name);
    if (status != CLV_OK)
        return conflict(request, status, err);
    if (request->if_match && generation != request->match_generation)
        return conflict(request, CLV_STATE_CONFLICT, err);
    if (request->if_none_match && generation == request->match_generation)
        return not_modified(request, response);
    CLV_TRY(clv_state_unseal(request->enclave->vault, request->key, request->full_name, generation,
                             clv_buf_bytes(&sealed), &response->body, NULL, err));
    response->media_type = "application/octet-stream";
    response->generation = generation;
    return CLV_OK;
}

/*
 * The plaintext stays here: who may replace a state may have it sealed anew. What says that it is
 * this release's is left alone without asking KMS, so that going on after a stop is cheap.
 */
clv_status clv_route_reseal(clv_request *request, clv_response *response, clv_error *err)
{
    clv_services *services = &request->enclave->services;
    clv_vault *vault = request->enclave->vault;
    clv_auto(clv_buf) old = CLV_BUF_LIMITED(CLV_SEALED_MAX);
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    clv_auto(clv_buf) sealed = CLV_BUF_LIMITED(CLV_SEALED_MAX);
    uint64_t generation = 0;
    bool predecessor = false;
    CLV_TRY(clv_request_hold(request, 2 * CLV_SEALED_MAX + CLV_STATE_SIZE_MAX, err));
    CLV_TRY(clv_services_state_get(services, request->full_name, &generation, &old, err));
    CLV_TRY(clv_state_release(vault, request->key, request->full_name, generation,
                              clv_buf_bytes(&old), &predecessor, err));
    if (predecessor && generation >= CLV_GENERATION_MAX)
        return clv_fail(err, CLV_STATE_CONFLICT, "expected a generation below 2^53, found %llu",
                        (unsigned long long)generation);
    if (predecessor) {
        CLV_TRY(clv_state_unseal(vault, request->key, request->full_name, generation,
                                 clv_buf_bytes(&old), &plaintext, NULL, err));
        generation++;
        CLV_TRY(clv_state_seal(vault, request->key, request->full_name, generation,
                               clv_buf_bytes(&plaintext), &sealed, err));
        CLV_TRY(clv_services_state_put(services, request->full_name, generation,
                                       clv_buf_bytes(&sealed), err));
    }
    response->generation = generation;
    return clv_response_json(response,
                             json_pack("{s:s, s:I, s:b}", "name", request->name, "generation",
                                       (json_int_t)generation, "resealed", predecessor),
                             err);
}

clv_status clv_route_state_delete(clv_request *request, clv_response *response, clv_error *err)
{
    uint64_t generation = 0;
    CLV_TRY(replaced_generation(request, &generation, err));
    if (generation == 0)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "expected a state \"%s\", found none",
                        request->name);
    clv_status status =
        clv_services_state_delete(&request->enclave->services, request->full_name, generation, err);
    if (status != CLV_OK)
        return conflict(request, status, err);
    response->status = 204;
    return CLV_OK;
}

clv_status clv_route_state_list(clv_request *request, clv_response *response, clv_error *err)
{
    char prefix[sizeof request->full_name];
    clv_auto(clv_json) found = NULL;
    clv_auto(clv_json) states = json_array();
    snprintf(prefix, sizeof prefix, "%s/%s", request->key->name, request->prefix);
    CLV_TRY(clv_services_state_list(&request->enclave->services, prefix, &found, err));

    size_t of_key = strlen(request->key->name) + 1;
    for (size_t i = 0; i < json_array_size(found); i++) {
        const json_t *entry = json_array_get(found, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        json_t *shown = json_pack("{s:s, s:O, s:O}", "name", name + of_key, "generation",
                                  json_object_get(entry, "generation"), "sealed_size",
                                  json_object_get(entry, "size"));
        if (shown == NULL || json_array_append_new(states, shown) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a list of states");
    }
    return clv_response_json(
        response, json_pack("{s:s, s:O}", "key", request->key->name, "states", states), err);
}

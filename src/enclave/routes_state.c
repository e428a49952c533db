/* /v1/state: seal and keep with the parent, fetch and unseal (R17, R18). */
#include <enclave/routes.h>
#include <enclave/states.h>

#define WATCH_SLACK_MS 100

clv_status clv_route_state_put(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_state_view) view = CLV_STATE_VIEW_INIT;
    CLV_TRY(clv_states_look_to_replace(request, &view, err));
    bool created = !view.exists;
    CLV_TRY(clv_states_put(request, &view, clv_buf_bytes(&request->body), err));
    response->status = created ? 201 : 200;
    response->generation = view.generation;
    return clv_response_json(response,
                             json_pack("{s:s, s:I, s:I}", "name", request->name, "generation",
                                       (json_int_t)view.generation, "size",
                                       (json_int_t)request->body.n),
                             err);
}

static clv_status not_found(const clv_request *request, clv_error *err)
{
    return clv_fail(err, CLV_STATE_NOT_FOUND, "expected a state \"%s\", found none", request->name);
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

/* What an agent that waits for a state to come knows: nothing, or that it was deleted. */
static clv_status known_absent(clv_request *request, uint64_t *held, clv_error *err)
{
    clv_auto(clv_state_view) view = CLV_STATE_VIEW_INIT;
    *held = 0;
    if (request->enclave->witness == NULL)
        return CLV_OK;
    CLV_TRY(clv_states_glance(request, &view, err));
    if (!view.exists && !view.newer)
        *held = view.generation;
    return CLV_OK;
}

/* *unchanged: the parent says that it still holds what the agent knows, and there is no witness to
 * ask whether that is the newest. */
static clv_status await_change(clv_request *request, bool *unchanged, clv_error *err)
{
    uint64_t held = request->match_generation, found = 0;
    *unchanged = false;
    if (!request->if_none_match && request->wait_ms == 0)
        return CLV_OK;
    if (!request->if_none_match)
        CLV_TRY(known_absent(request, &held, err));
    clv_agents *agents = &request->enclave->agents;
    if (request->wait_ms > 0) {
        CLV_TRY(clv_agents_take_wait(agents, request->agent.uid, err));
        clv_request_end_turn(request); /* the agent's other requests go on */
    }
    clv_status status = watch(request, held, &found, err);
    if (request->wait_ms > 0)
        clv_agents_give_wait(agents, request->agent.uid);
    *unchanged = found == held && request->if_none_match && request->enclave->witness == NULL;
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
    clv_auto(clv_state_view) view = CLV_STATE_VIEW_INIT;
    bool unchanged;
    CLV_TRY(await_change(request, &unchanged, err));
    if (unchanged)
        return not_modified(request, response);
    CLV_TRY(clv_request_hold(request, CLV_SEALED_MAX + CLV_STATE_SIZE_MAX, err));
    CLV_TRY(clv_states_look(request, &view, err));
    /* Its plaintext is shorter. The agent's other requests need not wait for KMS. */
    clv_request_hold_only(request, view.sealed.capacity + view.sealed.n);
    if (!view.exists && !request->if_match)
        return not_found(request, err);
    if (request->if_match && (!view.exists || view.generation != request->match_generation))
        return clv_fail(err, CLV_API_PRECONDITION,
                        "expected state \"%s\" at generation %llu, found another", request->name,
                        (unsigned long long)request->match_generation);
    if (request->if_none_match && view.generation == request->match_generation)
        return not_modified(request, response);
    CLV_TRY(clv_states_open(request, &view, err));
    response->body = view.plaintext;
    view.plaintext = (clv_buf)CLV_BUF_INIT;
    response->media_type = "application/octet-stream";
    response->generation = view.generation;
    return CLV_OK;
}

/*
 * The plaintext stays here: who may replace a state may have it sealed anew. What says that it is
 * this release's is left alone without asking KMS, so that going on after a stop is cheap.
 */
clv_status clv_route_reseal(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_state_view) view = CLV_STATE_VIEW_INIT;
    bool predecessor = false;
    CLV_TRY(clv_request_hold(request, 2 * CLV_SEALED_MAX + CLV_STATE_SIZE_MAX, err));
    CLV_TRY(clv_states_look(request, &view, err));
    if (!view.exists)
        return not_found(request, err);
    CLV_TRY(clv_state_release(request->enclave->vault, request->key, request->full_name,
                              view.generation, clv_buf_bytes(&view.sealed), &predecessor, err));
    if (predecessor) {
        CLV_TRY(clv_states_open(request, &view, err));
        CLV_TRY(clv_states_put(request, &view, clv_buf_bytes(&view.plaintext), err));
    }
    response->generation = view.generation;
    return clv_response_json(response,
                             json_pack("{s:s, s:I, s:b}", "name", request->name, "generation",
                                       (json_int_t)view.generation, "resealed", predecessor),
                             err);
}

clv_status clv_route_state_delete(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_state_view) view = CLV_STATE_VIEW_INIT;
    CLV_TRY(clv_states_look_to_replace(request, &view, err));
    CLV_TRY(clv_states_delete(request, &view, err));
    response->status = 204;
    return CLV_OK;
}

clv_status clv_route_state_list(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto(clv_json) states = NULL;
    CLV_TRY(clv_states_list(request, &states, err));
    return clv_response_json(
        response, json_pack("{s:s, s:O}", "key", request->key->name, "states", states), err);
}

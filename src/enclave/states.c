#include <enclave/states.h>

#include <stdio.h>

/* How often a look begins anew while other enclaves write the same name. */
#define LOOKS_MAX 16

void clv_state_view_drop(clv_state_view *view)
{
    clv_buf_drop(&view->sealed);
    clv_buf_drop(&view->plaintext);
}

static clv_witness *witness_of(const clv_request *request)
{
    return request->enclave->witness;
}

clv_status clv_states_presented(clv_request *request, clv_presented *out, clv_error *err)
{
    const char *text;
    out->count = 0;
    if (witness_of(request) == NULL || !clv_witness_by_receipts(witness_of(request)))
        return CLV_OK;
    CLV_TRY(clv_buf_text(&request->presented, &text, err));
    return clv_witness_present(witness_of(request), text, out, err);
}

clv_status clv_states_give_receipt(clv_request *request, const clv_buf *record, clv_error *err)
{
    request->receipt.n = 0;
    if (record->n == 0)
        return CLV_OK;
    return clv_base64_append(&request->receipt, clv_buf_bytes(record), err);
}

static void forget(clv_state_view *view)
{
    clv_state_view_drop(view);
    *view = (clv_state_view)CLV_STATE_VIEW_INIT;
}

/* What the store holds; generation 0 for nothing. */
static clv_status fetch(clv_request *request, clv_state_view *view, clv_error *err)
{
    clv_status status = clv_services_state_get(&request->enclave->services, request->full_name,
                                               &view->generation, &view->sealed, err);
    if (status != CLV_STATE_NOT_FOUND)
        return status;
    view->generation = 0;
    return CLV_OK;
}

clv_status clv_states_open(clv_request *request, clv_state_view *view, clv_error *err)
{
    if (view->opened)
        return CLV_OK;
    CLV_TRY(clv_state_unseal(request->enclave->vault, request->key, request->full_name,
                             view->generation, clv_buf_bytes(&view->sealed), &view->plaintext, NULL,
                             err));
    view->opened = true;
    return CLV_OK;
}

static clv_record record_of(const clv_request *request, clv_record_kind kind, uint64_t generation)
{
    clv_record record = {.kind = kind, .generation = generation};
    snprintf(record.name, sizeof record.name, "%s", request->full_name);
    return record;
}

static clv_status commit(clv_request *request, clv_state_view *view, clv_record *next,
                         clv_error *err)
{
    clv_auto(clv_buf) receipt = CLV_BUF_INIT;
    CLV_TRY(clv_witness_commit(witness_of(request), &view->seen, next, &receipt, err));
    return clv_states_give_receipt(request, &receipt, err);
}

/* The store is ahead, by what nobody was told of yet, or, for the holder of a receipt, by what
 * others were. It proves to be genuine, is committed, and only then taken. */
static clv_status take_over(clv_request *request, clv_state_view *view, const clv_held *held,
                            bool adopt, clv_error *err)
{
    clv_record next = record_of(request, CLV_RECORD_STATE, view->generation);
    if (clv_record_like(clv_buf_bytes(&view->sealed))) {
        next.kind = CLV_RECORD_DELETED;
        CLV_TRY(clv_witness_check_tombstone(witness_of(request), clv_buf_bytes(&view->sealed),
                                            request->full_name, view->generation, adopt, err));
    } else {
        CLV_TRY(clv_states_open(request, view, err));
        memcpy(next.digest, held->digest, sizeof next.digest);
    }
    CLV_TRY(commit(request, view, &next, err));
    view->newer = !view->seen.exact;
    if (view->seen.exact)
        atomic_fetch_add(&clv_witness_counters(witness_of(request))->advanced, 1);
    return CLV_OK;
}

/* A store and a witness are two places: what was read of one before the other moved on proves
 * nothing. Only where the witness still says the same afterwards is the store refused. */
static clv_status moved_on(clv_request *request, const clv_seen *before, bool *moved,
                           clv_error *err)
{
    clv_seen now;
    if (!before->exact)
        return CLV_OK;
    CLV_TRY(clv_witness_see(witness_of(request), NULL, false, request->full_name, &now, err));
    *moved = now.revision != before->revision;
    return CLV_OK;
}

/* What the store says it holds: the bytes, or its word of the generation alone, which then counts
 * as the very bytes that were seen. */
static clv_status ask_store(clv_request *request, bool bytes, clv_state_view *view, clv_held *held,
                            clv_error *err)
{
    if (bytes) {
        CLV_TRY(fetch(request, view, err));
        CLV_TRY(clv_sha384(clv_buf_bytes(&view->sealed), held->digest, err));
    } else {
        CLV_TRY(clv_services_state_watch(&request->enclave->services, request->full_name, 0, 0,
                                         &view->generation, err));
        memcpy(held->digest, view->seen.record.digest, sizeof held->digest);
    }
    held->generation = view->generation;
    return CLV_OK;
}

static clv_status look_once(clv_request *request, const clv_presented *presented, bool bytes,
                            clv_state_view *view, bool *moved, clv_error *err)
{
    clv_verdict verdict = CLV_VERDICT_ABSENT;
    clv_held held = {.generation = 0};
    CLV_TRY(clv_witness_see(witness_of(request), presented, false, request->full_name, &view->seen,
                            err));
    CLV_TRY(ask_store(request, bytes, view, &held, err));
    clv_status status = clv_judge(request->full_name, &view->seen, &held, &verdict, err);
    if (status != CLV_OK) {
        CLV_TRY(moved_on(request, &view->seen, moved, err));
        return status;
    }
    if (verdict == CLV_VERDICT_AHEAD && !bytes) {
        view->newer = !view->seen.exact;
        return CLV_OK;
    }
    if (verdict == CLV_VERDICT_AHEAD) {
        status = take_over(request, view, &held, false, err);
        /* CLV_STORE_UNAVAILABLE: others went on from what this would have taken over. */
        *moved = status == CLV_STATE_CONFLICT || status == CLV_STORE_UNAVAILABLE;
        CLV_TRY(status);
    }
    view->exists = view->generation > 0 && view->seen.record.kind != CLV_RECORD_DELETED;
    return CLV_OK;
}

static clv_status look(clv_request *request, bool bytes, clv_state_view *out, clv_error *err)
{
    clv_presented presented;
    clv_status status = CLV_OK;
    bool moved = true;
    CLV_TRY(clv_states_presented(request, &presented, err));
    for (int i = 0; i < LOOKS_MAX && moved; i++) {
        forget(out);
        moved = false;
        status = look_once(request, &presented, bytes, out, &moved, err);
    }
    if (moved)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "%.200s: expected to be let in between others' writes, found no gap",
                        request->full_name);
    if (status == CLV_WITNESS_ROLLBACK || status == CLV_WITNESS_FORK)
        atomic_fetch_add(&clv_witness_counters(witness_of(request))->refused, 1);
    return status;
}

clv_status clv_states_glance(clv_request *request, clv_state_view *out, clv_error *err)
{
    CLV_TRY(look(request, false, out, err));
    uint64_t last = out->seen.known ? out->seen.record.generation : 0;
    if (out->generation == last || out->newer)
        return CLV_OK;
    CLV_TRY(clv_request_hold(request, CLV_SEALED_MAX + CLV_STATE_SIZE_MAX, err));
    return look(request, true, out, err);
}

clv_status clv_states_look(clv_request *request, clv_state_view *out, clv_error *err)
{
    if (witness_of(request) != NULL)
        return look(request, true, out, err);
    CLV_TRY(fetch(request, out, err));
    out->exists = out->generation > 0;
    return CLV_OK;
}

clv_status clv_states_adopt(clv_request *request, clv_state_view *out, clv_error *err)
{
    clv_held held = {.generation = 0};
    CLV_TRY(clv_request_hold(request, CLV_SEALED_MAX + CLV_STATE_SIZE_MAX, err));
    CLV_TRY(clv_witness_see(witness_of(request), NULL, false, request->full_name, &out->seen, err));
    if (out->seen.known)
        return clv_fail(err, CLV_WITNESS_FORK,
                        "%.200s: expected a name that the witness does not know, found generation "
                        "%llu",
                        request->full_name, (unsigned long long)out->seen.record.generation);
    CLV_TRY(clv_services_state_get(&request->enclave->services, request->full_name,
                                   &out->generation, &out->sealed, err));
    CLV_TRY(clv_sha384(clv_buf_bytes(&out->sealed), held.digest, err));
    return take_over(request, out, &held, true, err);
}

static clv_status precondition(const clv_request *request, clv_error *err)
{
    if (request->create_only)
        return clv_fail(err, CLV_API_PRECONDITION,
                        "expected no state \"%s\", found that there is one", request->name);
    return clv_fail(err, CLV_API_PRECONDITION,
                    "expected state \"%s\" at generation %llu, found another", request->name,
                    (unsigned long long)request->match_generation);
}

/* A conflict at the store is a failed precondition when the request made one. */
static clv_status conflict(const clv_request *request, clv_status status, clv_error *err)
{
    bool demanded = request->if_match || request->create_only;
    if (demanded && (status == CLV_STATE_CONFLICT || status == CLV_STATE_NOT_FOUND))
        return precondition(request, err);
    return status;
}

/* The caller would overwrite what it has not seen. */
static clv_status check_newest(clv_request *request, const clv_state_view *view, clv_error *err)
{
    if (!view->newer)
        return CLV_OK;
    return clv_fail(err, CLV_STATE_CONFLICT,
                    "expected the receipt of the newest generation of \"%s\", found that the store "
                    "has generation %llu: read it first",
                    request->name, (unsigned long long)view->generation);
}

/* The generation that the parent says it holds: a write that is not true to it fails. */
static clv_status believe_generation(clv_request *request, clv_state_view *out, clv_error *err)
{
    out->generation = request->match_generation;
    if (!request->if_match && !request->create_only)
        CLV_TRY(clv_services_state_watch(&request->enclave->services, request->full_name, 0, 0,
                                         &out->generation, err));
    out->exists = out->generation > 0;
    return CLV_OK;
}

clv_status clv_states_look_to_replace(clv_request *request, clv_state_view *out, clv_error *err)
{
    if (witness_of(request) == NULL)
        return believe_generation(request, out, err);
    CLV_TRY(clv_states_glance(request, out, err));
    CLV_TRY(check_newest(request, out, err));
    if ((request->create_only && out->exists) ||
        (request->if_match && (!out->exists || out->generation != request->match_generation)))
        return precondition(request, err);
    return CLV_OK;
}

static clv_status next_generation(const clv_state_view *view, uint64_t *out, clv_error *err)
{
    if (view->generation >= CLV_GENERATION_MAX)
        return clv_fail(err, CLV_STATE_CONFLICT, "expected a generation below 2^53, found %llu",
                        (unsigned long long)view->generation);
    *out = view->generation + 1;
    return CLV_OK;
}

/* Store, then commit; what is acknowledged is in both. */
static clv_status store(clv_request *request, clv_state_view *view, clv_record *next,
                        clv_bytes bytes, clv_error *err)
{
    clv_status status = clv_services_state_put(&request->enclave->services, request->full_name,
                                               next->generation, bytes, err);
    if (status != CLV_OK)
        return conflict(request, status, err);
    if (witness_of(request) != NULL)
        CLV_TRY(conflict(request, commit(request, view, next, err), err));
    view->generation = next->generation;
    return CLV_OK;
}

clv_status clv_states_put(clv_request *request, clv_state_view *view, clv_bytes plaintext,
                          clv_error *err)
{
    clv_auto(clv_buf) sealed = CLV_BUF_LIMITED(CLV_SEALED_MAX);
    uint64_t generation = 0;
    CLV_TRY(next_generation(view, &generation, err));
    CLV_TRY(clv_state_seal(request->enclave->vault, request->key, request->full_name, generation,
                           plaintext, &sealed, err));
    clv_record next = record_of(request, CLV_RECORD_STATE, generation);
    CLV_TRY(clv_sha384(clv_buf_bytes(&sealed), next.digest, err));
    return store(request, view, &next, clv_buf_bytes(&sealed), err);
}

clv_status clv_states_delete(clv_request *request, clv_state_view *view, clv_error *err)
{
    clv_auto(clv_buf) tombstone = CLV_BUF_INIT;
    uint64_t generation = 0;
    if (!view->exists)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "expected a state \"%s\", found none",
                        request->name);
    if (witness_of(request) == NULL)
        return conflict(request,
                        clv_services_state_delete(&request->enclave->services, request->full_name,
                                                  view->generation, err),
                        err);
    CLV_TRY(next_generation(view, &generation, err));
    CLV_TRY(clv_witness_tombstone(witness_of(request), request->full_name, generation, &tombstone,
                                  err));
    clv_record next = record_of(request, CLV_RECORD_DELETED, generation);
    return store(request, view, &next, clv_buf_bytes(&tombstone), err);
}

/* Listing: the store's word, as far as the witness confirms it. */
#include <enclave/states.h>

#include <stdio.h>

/* The witness's word of one name, as it is kept while the store is asked. */
static clv_status note(void *with, const clv_record *record, clv_error *err)
{
    json_t *seen = with;
    uint64_t noted = (uint64_t)json_integer_value(
        json_object_get(json_object_get(seen, record->name), "generation"));
    if (noted >= record->generation)
        return CLV_OK;
    json_t *entry = json_pack("{s:I, s:b}", "generation", (json_int_t)record->generation, "deleted",
                              record->kind == CLV_RECORD_DELETED);
    if (entry == NULL || json_object_set_new(seen, record->name, entry) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a list of states");
    return CLV_OK;
}

static json_int_t generation_of(const json_t *entry)
{
    return json_integer_value(json_object_get(entry, "generation"));
}

static clv_status by_name(const json_t *list, json_t *out, clv_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *entry = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (json_object_set(out, name, entry) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a list of states");
    }
    return CLV_OK;
}

/* Each name that the witness saw must be there, and not be older. The store was asked later, so
 * that it may be newer. */
static clv_status check_seen(clv_request *request, json_t *seen, const json_t *stored,
                             clv_error *err)
{
    for (void *at = json_object_iter(seen); at != NULL; at = json_object_iter_next(seen, at)) {
        const char *name = json_object_iter_key(at);
        json_int_t last = generation_of(json_object_iter_value(at));
        json_int_t held = generation_of(json_object_get(stored, name));
        if (held >= last)
            continue;
        atomic_fetch_add(&clv_witness_counters(request->enclave->witness)->refused, 1);
        return clv_fail(err, CLV_WITNESS_ROLLBACK,
                        "%.200s: expected generation %lld in the store's list, found %lld", name,
                        (long long)last, (long long)held);
    }
    return CLV_OK;
}

/*
 * The generation to show, 0 for none. With a cluster: what it saw last, since nothing newer is
 * acknowledged. Without: what the store says, but not a state whose deletion the caller has shown.
 */
static json_int_t shown_generation(const clv_request *request, const json_t *seen,
                                   const json_t *entry)
{
    const clv_witness *witness = request->enclave->witness;
    const char *name = json_string_value(json_object_get(entry, "name"));
    const json_t *last = json_object_get(seen, name);
    bool deleted = json_is_true(json_object_get(last, "deleted"));
    if (witness != NULL && !clv_witness_by_receipts(witness))
        return deleted ? 0 : generation_of(last);
    return deleted && generation_of(last) == generation_of(entry) ? 0 : generation_of(entry);
}

static clv_status show(const clv_request *request, const json_t *seen, const json_t *found,
                       json_t *out, clv_error *err)
{
    size_t of_key = strlen(request->key->name) + 1;
    for (size_t i = 0; i < json_array_size(found); i++) {
        const json_t *entry = json_array_get(found, i);
        json_int_t generation = shown_generation(request, seen, entry);
        if (generation == 0)
            continue;
        const char *name = json_string_value(json_object_get(entry, "name"));
        json_t *shown = json_pack("{s:s, s:I, s:O}", "name", name + of_key, "generation",
                                  generation, "sealed_size", json_object_get(entry, "size"));
        if (shown == NULL || json_array_append_new(out, shown) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a list of states");
    }
    return CLV_OK;
}

static clv_status see_all(clv_request *request, const char *prefix, json_t *seen, clv_error *err)
{
    clv_presented presented;
    if (request->enclave->witness == NULL)
        return CLV_OK;
    CLV_TRY(clv_states_presented(request, &presented, err));
    return clv_witness_list(request->enclave->witness, &presented, prefix, note, seen, err);
}

clv_status clv_states_list(clv_request *request, json_t **out, clv_error *err)
{
    clv_auto(clv_json) seen = json_object();
    clv_auto(clv_json) stored = json_object();
    clv_auto(clv_json) shown = json_array();
    clv_auto(clv_json) found = NULL;
    char prefix[sizeof request->full_name];
    snprintf(prefix, sizeof prefix, "%s/%s", request->key->name, request->prefix);
    CLV_TRY(see_all(request, prefix, seen, err));
    CLV_TRY(clv_services_state_list(&request->enclave->services, prefix, &found, err));
    CLV_TRY(by_name(found, stored, err));
    CLV_TRY(check_seen(request, seen, stored, err));
    CLV_TRY(show(request, seen, found, shown, err));
    *out = json_incref(shown);
    return CLV_OK;
}

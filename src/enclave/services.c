#include <enclave/services.h>

#include <base/clock.h>
#include <seal/state.h>

clv_status clv_services_init(clv_services *services, const char *address, int timeout_ms,
                             clv_error *err)
{
    *services = (clv_services){.timeout_ms = timeout_ms};
    return clv_address_parse(address, &services->address, err);
}

/*
 * The parent may name any code in a fault. Only those that are about its store pass; any other
 * would let it speak in the name of the policy, of KMS or of a check of ours.
 */
static clv_status only_store_faults(clv_status status, const char *op, clv_error *err)
{
    switch (status) {
    case CLV_OK:
    case CLV_STATE_NOT_FOUND:
    case CLV_STATE_CONFLICT:
    case CLV_STORE_FAILED:
    case CLV_STORE_UNAVAILABLE:
    case CLV_STORE_BUSY:
    case CLV_UNREACHABLE:
    case CLV_DEADLINE:
    case CLV_CLOSED:
    case CLV_SYSTEM:
    case CLV_NO_MEMORY:
    case CLV_FRAME_FORMAT:
        return status;
    default:
        if (err != NULL)
            err->code = CLV_STORE_FAILED;
        return clv_blame(err, CLV_STORE_FAILED, "the parent's %s failed", op);
    }
}

/* One call: `call` is {"op": op, members}, and the reference is taken. The parent may take
 * longer_ms more than it usually may. */
static clv_status ask_longer(clv_services *services, const char *op, json_t *call, clv_bytes data,
                             int longer_ms, clv_message *answer, clv_error *err)
{
    clv_auto(clv_json) owned = call;
    atomic_fetch_add(&services->calls, 1);
    if (owned == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a call to the parent");
    clv_auto(clv_fd) fd = -1;
    clv_status status = clv_dial(&services->address, services->timeout_ms, &fd, err);
    if (status == CLV_OK && longer_ms > 0)
        status = clv_socket_timeout(fd, services->timeout_ms + longer_ms, err);
    if (status == CLV_OK)
        status = clv_call(fd, owned, data, answer, err);
    if (status != CLV_OK && status != CLV_STATE_NOT_FOUND && status != CLV_STATE_CONFLICT)
        atomic_fetch_add(&services->failures, 1);
    return only_store_faults(status, op, err);
}

static clv_status ask(clv_services *services, const char *op, json_t *call, clv_bytes data,
                      clv_message *answer, clv_error *err)
{
    return ask_longer(services, op, call, data, 0, answer, err);
}

static clv_status parent_said(clv_status status, const char *op, clv_error *err)
{
    if (status == CLV_OK)
        return CLV_OK;
    if (err != NULL)
        err->code = CLV_FRAME_FORMAT;
    return clv_blame(err, CLV_FRAME_FORMAT, "the parent's answer to %s", op);
}

static clv_status read_empty(const json_t *json, clv_error *err)
{
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, json, "", err));
    return clv_json_done(&r, err);
}

static clv_status read_generation(const json_t *json, int64_t min, uint64_t *generation,
                                  clv_error *err)
{
    clv_json_reader r;
    int64_t found = 0;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_integer(&r, "generation", min, (int64_t)CLV_GENERATION_MAX, &found, err));
    CLV_TRY(clv_json_done(&r, err));
    *generation = (uint64_t)found;
    return CLV_OK;
}

static clv_status read_signature(const json_t *json, clv_buf *signature, clv_error *err)
{
    clv_json_reader r;
    const char *text = NULL;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_text(&r, "signature", &text, err));
    CLV_TRY(clv_json_done(&r, err));
    return clv_buf_append_text(signature, text, err);
}

clv_status clv_services_baseline(clv_services *services, clv_buf *baseline, clv_buf *signature,
                                 clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    answer.data.limit = CLV_BASELINE_MAX;
    CLV_TRY(ask(services, "baseline", json_pack("{s:s}", "op", "baseline"), CLV_BYTES(NULL, 0),
                &answer, err));
    CLV_TRY(parent_said(read_signature(answer.json, signature, err), "baseline", err));
    return clv_buf_append(baseline, clv_buf_bytes(&answer.data), err);
}

/* IMDS gives about a kilobyte; a session token may grow. */
#define CREDENTIALS_MAX 16384

clv_status clv_services_credentials(clv_services *services, clv_credentials *out, clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    answer.data.limit = CREDENTIALS_MAX;
    CLV_TRY(ask(services, "credentials", json_pack("{s:s}", "op", "credentials"),
                CLV_BYTES(NULL, 0), &answer, err));
    CLV_TRY(parent_said(read_empty(answer.json, err), "credentials", err));
    return clv_credentials_parse(clv_buf_bytes(&answer.data), out, err);
}

clv_status clv_services_state_get(clv_services *services, const char *name, uint64_t *generation,
                                  clv_buf *sealed, clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    answer.data.limit = sealed->limit;
    CLV_TRY(ask(services, "state.get", json_pack("{s:s, s:s}", "op", "state.get", "name", name),
                CLV_BYTES(NULL, 0), &answer, err));
    CLV_TRY(parent_said(read_generation(answer.json, 1, generation, err), "state.get", err));
    clv_buf_drop(sealed);
    *sealed = answer.data;
    answer.data = (clv_buf)CLV_BUF_INIT;
    return CLV_OK;
}

clv_status clv_services_state_put(clv_services *services, const char *name, uint64_t generation,
                                  clv_bytes sealed, clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    uint64_t stored = 0;
    clv_status status = ask(services, "state.put",
                            json_pack("{s:s, s:s, s:I}", "op", "state.put", "name", name,
                                      "generation", (json_int_t)generation),
                            sealed, &answer, err);
    if (status == CLV_STATE_CONFLICT)
        atomic_fetch_add(&services->conflicts, 1);
    CLV_TRY(status);
    CLV_TRY(parent_said(read_generation(answer.json, 1, &stored, err), "state.put", err));
    if (stored != generation)
        return clv_fail(err, CLV_FRAME_FORMAT,
                        "the parent's answer to state.put: expected generation %llu, found %llu",
                        (unsigned long long)generation, (unsigned long long)stored);
    atomic_fetch_add(&services->stored, 1);
    services->stored_generation = generation;
    services->stored_at_ms = clv_monotonic_ms();
    return CLV_OK;
}

clv_status clv_services_state_delete(clv_services *services, const char *name, uint64_t generation,
                                     clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    CLV_TRY(ask(services, "state.delete",
                json_pack("{s:s, s:s, s:I}", "op", "state.delete", "name", name, "generation",
                          (json_int_t)generation),
                CLV_BYTES(NULL, 0), &answer, err));
    return parent_said(read_empty(answer.json, err), "state.delete", err);
}

clv_status clv_services_state_watch(clv_services *services, const char *name, uint64_t generation,
                                    int wait_ms, uint64_t *found, clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    answer.data.limit = 1;
    CLV_TRY(ask_longer(services, "state.watch",
                       json_pack("{s:s, s:s, s:I, s:i}", "op", "state.watch", "name", name,
                                 "generation", (json_int_t)generation, "wait_ms", wait_ms),
                       CLV_BYTES(NULL, 0), wait_ms, &answer, err));
    return parent_said(read_generation(answer.json, 0, found, err), "state.watch", err);
}

/* Pages of a list, as far as they have come. */
typedef struct listing {
    const char *prefix;
    json_t *states;
    const char *last; /* of the states; NULL: there is none yet */
    bool more;
} listing;

static void listing_drop(listing *l)
{
    clv_json_drop(&l->states);
}

/* Names grow from one to the next, so that a list has an end. */
static clv_status check_listed(listing *l, const json_t *entry, clv_error *err)
{
    clv_json_reader r;
    const char *name = NULL;
    int64_t generation = 0, size = 0;
    CLV_TRY(clv_json_open(&r, entry, "states[]", err));
    CLV_TRY(clv_json_need_text(&r, "name", &name, err));
    CLV_TRY(
        clv_json_need_integer(&r, "generation", 1, (int64_t)CLV_GENERATION_MAX, &generation, err));
    CLV_TRY(clv_json_need_integer(&r, "size", 0, INT64_MAX, &size, err));
    CLV_TRY(clv_json_done(&r, err));
    if (strncmp(name, l->prefix, strlen(l->prefix)) != 0)
        return clv_fail(err, CLV_JSON_VALUE,
                        "states[].name: expected names that begin with \"%.60s\", found another",
                        l->prefix);
    if (l->last != NULL && strcmp(name, l->last) <= 0)
        return clv_fail(err, CLV_JSON_VALUE,
                        "states[].name: expected names in order, found one that comes before");
    l->last = name;
    return clv_state_name_check(name, err);
}

static clv_status read_page(listing *l, const json_t *json, clv_error *err)
{
    clv_json_reader r;
    json_t *states = NULL;
    l->more = false;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_value(&r, "states", &states, err));
    CLV_TRY(clv_json_boolean(&r, "more", &l->more, err));
    CLV_TRY(clv_json_done(&r, err));
    if (!json_is_array(states))
        return clv_fail(err, CLV_JSON_TYPE, "states: expected an array, found %s",
                        clv_json_type_name(states));
    for (size_t i = 0; i < json_array_size(states); i++)
        CLV_TRY(check_listed(l, json_array_get(states, i), err));
    if (l->more && json_array_size(states) == 0)
        return clv_fail(err, CLV_JSON_VALUE, "states: expected some where there are more");
    if (json_array_size(l->states) + json_array_size(states) > CLV_SERVICES_LIST_MAX)
        return clv_fail(err, CLV_TOO_LARGE, "states: expected at most %d, found more",
                        CLV_SERVICES_LIST_MAX);
    if (json_array_extend(l->states, states) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a list of states");
    return CLV_OK;
}

clv_status clv_services_state_list(clv_services *services, const char *prefix, json_t **out,
                                   clv_error *err)
{
    clv_auto(listing) l = {prefix, json_array(), NULL, true};
    while (l.more) {
        clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
        answer.data.limit = 1;
        CLV_TRY(ask(
            services, "state.list",
            json_pack("{s:s, s:s, s:s*}", "op", "state.list", "prefix", prefix, "after", l.last),
            CLV_BYTES(NULL, 0), &answer, err));
        CLV_TRY(parent_said(read_page(&l, answer.json, err), "state.list", err));
    }
    *out = json_incref(l.states);
    return CLV_OK;
}

clv_status clv_services_key_get(clv_services *services, const char *key, clv_buf *blob,
                                clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    answer.data.limit = CLV_CIPHERTEXT_BLOB_MAX;
    CLV_TRY(ask(services, "key.get", json_pack("{s:s, s:s}", "op", "key.get", "name", key),
                CLV_BYTES(NULL, 0), &answer, err));
    CLV_TRY(parent_said(read_empty(answer.json, err), "key.get", err));
    return clv_buf_append(blob, clv_buf_bytes(&answer.data), err);
}

clv_status clv_services_key_put(clv_services *services, const char *key, clv_bytes blob,
                                clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    CLV_TRY(ask(services, "key.put", json_pack("{s:s, s:s}", "op", "key.put", "name", key), blob,
                &answer, err));
    return parent_said(read_empty(answer.json, err), "key.put", err);
}

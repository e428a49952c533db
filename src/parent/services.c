#include <parent/services.h>

#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>

#define BASELINE_MAX  65536
#define SIGNATURE_MAX 4096

/* A name's bytes in JSON, at worst all escaped, and the members around it. */
#define LISTED_MAX(name) (strlen(name) * 6 + 96)

typedef struct request {
    const char *name, *after;
    int64_t generation, wait_ms;
    clv_bytes data;
} request;

typedef clv_status (*service)(clv_parent *parent, const request *r, clv_message *answer,
                              clv_error *err);

static clv_status answer_json(clv_message *answer, json_t *json, clv_error *err)
{
    answer->json = json;
    return json != NULL ? CLV_OK : clv_fail(err, CLV_NO_MEMORY, "no memory for an answer");
}

void clv_parent_init(clv_parent *parent)
{
    *parent = (clv_parent){.store = NULL};
    pthread_mutex_init(&parent->lock, NULL);
}

void clv_parent_drop(clv_parent *parent)
{
    pthread_mutex_destroy(&parent->lock);
}

/* Text and signature, as the files are now. */
static clv_status read_baseline(const char *baseline, const char *signature, clv_buf *text,
                                clv_buf *minisig, clv_error *err)
{
    CLV_TRY(clv_file_read(baseline, BASELINE_MAX, text, err));
    return clv_file_read(signature, SIGNATURE_MAX, minisig, err);
}

clv_status clv_parent_check_baseline(const char *baseline, const char *signature, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT, minisig = CLV_BUF_INIT;
    if ((baseline == NULL) != (signature == NULL))
        return clv_fail(err, CLV_USAGE,
                        "expected --baseline and --baseline-signature together, found one");
    if (baseline == NULL)
        return CLV_OK;
    if (strlen(baseline) >= CLV_PARENT_PATH_MAX || strlen(signature) >= CLV_PARENT_PATH_MAX)
        return clv_fail(err, CLV_USAGE, "--baseline: expected paths of less than %d bytes",
                        CLV_PARENT_PATH_MAX);
    return read_baseline(baseline, signature, &text, &minisig, err);
}

void clv_parent_set_baseline(clv_parent *parent, const char *baseline, const char *signature)
{
    if (baseline == NULL)
        baseline = signature = "";
    pthread_mutex_lock(&parent->lock);
    memcpy(parent->baseline, baseline, strlen(baseline) + 1);
    memcpy(parent->baseline_sig, signature, strlen(signature) + 1);
    pthread_mutex_unlock(&parent->lock);
}

static clv_status baseline(clv_parent *parent, const request *r, clv_message *answer,
                           clv_error *err)
{
    (void)r;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    char path[CLV_PARENT_PATH_MAX], sig_path[CLV_PARENT_PATH_MAX];
    const char *text;
    pthread_mutex_lock(&parent->lock);
    memcpy(path, parent->baseline, sizeof path);
    memcpy(sig_path, parent->baseline_sig, sizeof sig_path);
    pthread_mutex_unlock(&parent->lock);
    if (path[0] == '\0')
        return clv_fail(err, CLV_STATE_NOT_FOUND, "this parent has no baseline");
    CLV_TRY(read_baseline(path, sig_path, &answer->data, &signature, err));
    CLV_TRY(clv_buf_text(&signature, &text, err));
    return answer_json(answer, json_pack("{s:s}", "signature", text), err);
}

static clv_status credentials(clv_parent *parent, const request *r, clv_message *answer,
                              clv_error *err)
{
    (void)r;
    CLV_TRY(clv_provider_get(parent->credentials, &answer->data, err));
    return answer_json(answer, json_object(), err);
}

static clv_status state_get(clv_parent *parent, const request *r, clv_message *answer,
                            clv_error *err)
{
    int64_t generation;
    CLV_TRY(clv_store_get(parent->store, r->name, &generation, &answer->data, err));
    return answer_json(answer, json_pack("{s:I}", "generation", (json_int_t)generation), err);
}

static clv_status state_put(clv_parent *parent, const request *r, clv_message *answer,
                            clv_error *err)
{
    CLV_TRY(clv_store_put(parent->store, r->name, r->generation, r->data, err));
    pthread_mutex_lock(&parent->lock);
    parent->stored_generation = r->generation;
    parent->stored_ms = clv_wall_ms();
    pthread_mutex_unlock(&parent->lock);
    return answer_json(answer, json_pack("{s:I}", "generation", (json_int_t)r->generation), err);
}

static clv_status state_delete(clv_parent *parent, const request *r, clv_message *answer,
                               clv_error *err)
{
    CLV_TRY(clv_store_delete(parent->store, r->name, r->generation, err));
    return answer_json(answer, json_object(), err);
}

static clv_status state_watch(clv_parent *parent, const request *r, clv_message *answer,
                              clv_error *err)
{
    int64_t found = 0;
    CLV_TRY(clv_store_wait(parent->store, r->name, r->generation, (int)r->wait_ms, &found, err));
    return answer_json(answer, json_pack("{s:I}", "generation", (json_int_t)found), err);
}

/* How many of the states fit one answer. */
static size_t fitting(const json_t *list)
{
    size_t room = CLV_CALL_MAX - 256, i = 0;
    for (; i < json_array_size(list); i++) {
        size_t n = LISTED_MAX(json_string_value(json_object_get(json_array_get(list, i), "name")));
        if (n > room)
            break;
        room -= n;
    }
    return i;
}

static clv_status state_list(clv_parent *parent, const request *r, clv_message *answer,
                             clv_error *err)
{
    clv_auto(clv_json) list = NULL;
    CLV_TRY(clv_store_list(parent->store, r->name, r->after != NULL ? r->after : "",
                           CLV_STORE_PAGE_MAX, &list, err));
    size_t n = fitting(list);
    bool more = n < json_array_size(list) || n == CLV_STORE_PAGE_MAX;
    while (json_array_size(list) > n)
        json_array_remove(list, json_array_size(list) - 1);
    return answer_json(answer, json_pack("{s:O, s:b}", "states", list, "more", more), err);
}

static clv_status key_get(clv_parent *parent, const request *r, clv_message *answer, clv_error *err)
{
    CLV_TRY(clv_store_key_get(parent->store, r->name, &answer->data, err));
    return answer_json(answer, json_object(), err);
}

static clv_status key_put(clv_parent *parent, const request *r, clv_message *answer, clv_error *err)
{
    CLV_TRY(clv_store_key_put(parent->store, r->name, r->data, err));
    return answer_json(answer, json_object(), err);
}

/* What each call takes beside its name; the rest is refused. */
enum { GENERATION = 1, OLD_GENERATION = 2, DATA = 4, PAGE = 8 };

static const struct service_form {
    const char *op;
    service answer;
    const char *name; /* the member that names something; NULL: none */
    unsigned takes;
} service_table[CLV_SERVICES] = {
    {"baseline", baseline, NULL, 0},
    {"credentials", credentials, NULL, 0},
    {"state.get", state_get, "name", 0},
    {"state.put", state_put, "name", GENERATION | DATA},
    {"state.delete", state_delete, "name", GENERATION},
    {"state.list", state_list, "prefix", PAGE},
    {"state.watch", state_watch, "name", OLD_GENERATION},
    {"key.get", key_get, "name", 0},
    {"key.put", key_put, "name", DATA},
};

const char *clv_service_name(size_t i)
{
    return service_table[i].op;
}

static const struct service_form *find_form(const char *op)
{
    for (size_t i = 0; i < CLV_SERVICES; i++) {
        if (strcmp(service_table[i].op, op) == 0)
            return &service_table[i];
    }
    return NULL;
}

static clv_status check_name(const char *member, const char *name, size_t min, clv_error *err)
{
    if (name != NULL && (strlen(name) > CLV_STORE_NAME_MAX || strlen(name) < min))
        return clv_fail(err, CLV_STATE_NAME, "%s: expected %zu to %d bytes, found %zu", member, min,
                        CLV_STORE_NAME_MAX, strlen(name));
    return CLV_OK;
}

static clv_status read_members(clv_json_reader *r, const struct service_form *form, request *out,
                               clv_error *err)
{
    if (form->name != NULL)
        CLV_TRY(clv_json_need_text(r, form->name, &out->name, err));
    if ((form->takes & GENERATION) != 0)
        CLV_TRY(
            clv_json_need_integer(r, "generation", 1, CLV_GENERATION_MAX, &out->generation, err));
    if ((form->takes & OLD_GENERATION) != 0) {
        CLV_TRY(
            clv_json_need_integer(r, "generation", 0, CLV_GENERATION_MAX, &out->generation, err));
        CLV_TRY(
            clv_json_need_integer(r, "wait_ms", 0, CLV_SERVICES_WAIT_MAX_MS, &out->wait_ms, err));
    }
    if ((form->takes & PAGE) != 0)
        CLV_TRY(clv_json_text(r, "after", &out->after, err));
    CLV_TRY(check_name("after", out->after, 0, err));
    return check_name(form->name, out->name, (form->takes & PAGE) != 0 ? 0 : 1, err);
}

/* The enclave's daemon is honest, but what speaks on this address may be something else. */
static clv_status read_request(const clv_message *call, const struct service_form **form,
                               request *out, clv_error *err)
{
    clv_json_reader r;
    const char *op;
    CLV_TRY(clv_json_open(&r, call->json, "", err));
    CLV_TRY(clv_json_need_text(&r, "op", &op, err));
    *form = find_form(op);
    if (*form == NULL)
        return clv_fail(err, CLV_REQUEST_FORMAT, "op: expected a known call, found \"%.40s\"", op);
    CLV_TRY(read_members(&r, *form, out, err));
    CLV_TRY(clv_json_done(&r, err));
    bool data = ((*form)->takes & DATA) != 0;
    if (!data && call->data.n > 0)
        return clv_fail(err, CLV_REQUEST_FORMAT, "%s: expected no data, found %zu bytes", op,
                        call->data.n);
    if (data && call->data.n == 0)
        return clv_fail(err, CLV_REQUEST_FORMAT, "%s: expected data, found none", op);
    out->data = clv_buf_bytes(&call->data);
    return CLV_OK;
}

/* A call that names something is one to the store. */
static clv_status serve(clv_parent *parent, const struct service_form *form, const request *r,
                        clv_message *answer, clv_error *err)
{
    clv_status status;
    if (form->name == NULL)
        return form->answer(parent, r, answer, err);
    if (atomic_fetch_add(&parent->storing, 1) < CLV_SERVICES_STORE_MAX)
        status = form->answer(parent, r, answer, err);
    else
        status = clv_fail(err, CLV_STORE_BUSY,
                          "expected at most %d calls to the store at a time, found more",
                          CLV_SERVICES_STORE_MAX);
    atomic_fetch_sub(&parent->storing, 1);
    return status;
}

clv_status clv_services_answer(void *context, const clv_message *call, clv_message *answer,
                               clv_error *err)
{
    clv_parent *parent = context;
    const struct service_form *form = NULL;
    request r = {.name = NULL};
    clv_error fault = {.code = CLV_OK};
    clv_status status = read_request(call, &form, &r, &fault);
    if (status == CLV_OK)
        status = serve(parent, form, &r, answer, &fault);
    clv_service_count *count =
        form != NULL ? &parent->count[form - service_table] : &parent->unknown;
    count->calls++;
    if (status == CLV_OK)
        return CLV_OK;
    count->faults++;
    clv_log_failure(status == CLV_STATE_NOT_FOUND ? CLV_LOG_DEBUG : CLV_LOG_WARNING,
                    form != NULL ? form->op : "call.refused", NULL, &fault);
    if (err != NULL)
        *err = fault;
    return status;
}

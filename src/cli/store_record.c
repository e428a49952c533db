#include <cli/store_record.h>

/* A page of a list, and where the next one begins. */
typedef struct walk {
    clv_store *store;
    bool keys;
    clv_buf after;
} walk;

static void walk_drop(walk *w)
{
    clv_buf_drop(&w->after);
}

static clv_status next_page(walk *w, json_t **page, clv_error *err)
{
    const char *after;
    CLV_TRY(clv_buf_text(&w->after, &after, err));
    if (w->keys)
        CLV_TRY(clv_store_key_list(w->store, after, CLV_STORE_PAGE_MAX, page, err));
    else
        CLV_TRY(clv_store_list(w->store, "", after, CLV_STORE_PAGE_MAX, page, err));
    size_t n = json_array_size(*page);
    if (n == 0)
        return CLV_OK;
    w->after.n = 0;
    return clv_buf_append_text(
        &w->after, json_string_value(json_object_get(json_array_get(*page, n - 1), "name")), err);
}

typedef clv_status (*visit)(const walk *w, const json_t *entry, void *with, clv_error *err);

static clv_status walk_all(clv_store *store, bool keys, visit each, void *with, clv_error *err)
{
    clv_auto(walk) w = {store, keys, CLV_BUF_INIT};
    for (;;) {
        clv_auto(clv_json) page = NULL;
        CLV_TRY(next_page(&w, &page, err));
        size_t n = json_array_size(page);
        for (size_t i = 0; i < n; i++)
            CLV_TRY(each(&w, json_array_get(page, i), with, err));
        if (n < CLV_STORE_PAGE_MAX)
            return CLV_OK;
    }
}

static clv_status count(const walk *w, const json_t *entry, void *with, clv_error *err)
{
    clv_store_counts *counts = with;
    (void)err;
    *(w->keys ? &counts->keys : &counts->states) += 1;
    counts->bytes += (uint64_t)json_integer_value(json_object_get(entry, "size"));
    return CLV_OK;
}

clv_status clv_store_count(clv_store *store, clv_store_counts *out, clv_error *err)
{
    *out = (clv_store_counts){0, 0, 0};
    CLV_TRY(walk_all(store, true, count, out, err));
    return walk_all(store, false, count, out, err);
}

typedef struct taking {
    clv_record_take take;
    clv_record_unreadable unreadable;
    void *with;
} taking;

static clv_status take_one(const walk *w, const json_t *entry, void *with, clv_error *err)
{
    const taking *t = with;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    const char *name = json_string_value(json_object_get(entry, "name"));
    clv_store_record record = {.is_key = w->keys, .name = name};
    clv_status status = w->keys ? clv_store_key_get(w->store, name, &blob, err)
                                : clv_store_get(w->store, name, &record.generation, &blob, err);
    if (status == CLV_STATE_NOT_FOUND)
        return CLV_OK;
    if (status == CLV_STORE_FAILED && t->unreadable != NULL) {
        t->unreadable(t->with, w->keys, name, err);
        return CLV_OK;
    }
    CLV_TRY(status);
    record.blob = clv_buf_bytes(&blob);
    return t->take(t->with, &record, err);
}

clv_status clv_store_each(clv_store *store, clv_record_take take, clv_record_unreadable unreadable,
                          void *with, clv_error *err)
{
    taking t = {take, unreadable, with};
    CLV_TRY(walk_all(store, true, take_one, &t, err));
    return walk_all(store, false, take_one, &t, err);
}

#include <base/json.h>

#include <stdio.h>
#include <stdlib.h>

void clv_json_drop(clv_json *json)
{
    json_decref(*json);
    *json = NULL;
}

/* Bytes of a path in an error sentence, with its NUL. */
#define PATH_TEXT_MAX 200

static bool deeper_than(const json_t *json, int levels)
{
    if (levels < 0)
        return true;
    if (json_is_array(json)) {
        for (size_t i = 0; i < json_array_size(json); i++) {
            if (deeper_than(json_array_get(json, i), levels - 1))
                return true;
        }
        return false;
    }
    for (void *i = json_object_iter((json_t *)json); i != NULL;
         i = json_object_iter_next((json_t *)json, i)) {
        if (deeper_than(json_object_iter_value(i), levels - 1))
            return true;
    }
    return false;
}

/* What jansson found wrong, in words of ours: its own quote the text, which may hold a secret. */
static const char *fault_text(clv_bytes text, const json_error_t *where)
{
    size_t at = where->position > 0 ? (size_t)where->position - 1 : 0;
    switch (json_error_code(where)) {
    case json_error_duplicate_key:
        return "a member occurs twice";
    case json_error_numeric_overflow:
        return "expected a number of at most 64 bits, found a larger one";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "expected no NUL in a text, found one";
    case json_error_invalid_utf8:
        return "expected UTF-8, found other bytes";
    case json_error_end_of_input_expected:
        return "expected nothing behind the JSON, found more";
    case json_error_premature_end_of_input:
        return "expected the whole of the JSON, found its beginning";
    default:
        return at < text.n && (text.p[at] == '/' || text.p[at] == '#')
                   ? "expected strict JSON, found a comment"
                   : "the text is not strict JSON";
    }
}

static clv_status malformed(clv_bytes text, const json_error_t *where, clv_error *err)
{
    char path[PATH_TEXT_MAX];
    clv_json_place(text, where->position > 0 ? (size_t)where->position : 0, path, sizeof path);
    return clv_fail(err, CLV_JSON_MALFORMED, "%s%sline %d, column %d: %s", path,
                    path[0] != '\0' ? ", " : "", where->line, where->column,
                    fault_text(text, where));
}

static clv_status too_deep(clv_bytes text, clv_error *err)
{
    char path[PATH_TEXT_MAX];
    clv_json_place(text, text.n, path, sizeof path);
    return clv_fail(err, CLV_JSON_MALFORMED, "%s: expected at most %d levels, found more", path,
                    CLV_JSON_DEPTH);
}

clv_status clv_json_parse(clv_bytes text, size_t max, json_t **out, clv_error *err)
{
    if (text.n > max)
        return clv_fail(err, CLV_TOO_LARGE, "expected at most %zu bytes of JSON, found %zu", max,
                        text.n);
    json_error_t where;
    clv_auto(clv_json) json =
        json_loadb(text.n > 0 ? (const char *)text.p : "", text.n, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL && json_error_code(&where) == json_error_stack_overflow)
        return too_deep(text, err);
    if (json == NULL)
        return malformed(text, &where, err);
    if (deeper_than(json, CLV_JSON_DEPTH))
        return too_deep(text, err);
    *out = json;
    json = NULL;
    return CLV_OK;
}

static int append_piece(const char *piece, size_t n, void *to)
{
    return clv_buf_append(to, CLV_BYTES(piece, n), NULL) == CLV_OK ? 0 : -1;
}

clv_status clv_json_append(clv_buf *buf, const json_t *json, clv_error *err)
{
    if (json_dump_callback(json, append_piece, buf,
                           JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) != 0)
        return clv_fail(err, CLV_TOO_LARGE, "the JSON does not fit its buffer");
    return CLV_OK;
}

typedef clv_status (*text_encoder)(clv_buf *buf, clv_bytes bytes, clv_error *err);

static json_t *encoded(text_encoder encode, clv_bytes bytes)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (encode(&text, bytes, NULL) != CLV_OK)
        return NULL;
    return json_stringn((const char *)text.p, text.n);
}

json_t *clv_json_base64(clv_bytes bytes)
{
    return encoded(clv_base64_append, bytes);
}

json_t *clv_json_hex(clv_bytes bytes)
{
    return encoded(clv_hex_append, bytes);
}

const char *clv_json_type_name(const json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "nothing";
}

/* "path.name", or what there is of the two. */
static const char *member(const clv_json_reader *r, const char *name, char *to, size_t size)
{
    snprintf(to, size, "%s%s%s", r->path, r->path[0] != '\0' && name[0] != '\0' ? "." : "", name);
    return to;
}

#define MEMBER_TEXT_MAX 256

static clv_status wrong_type(const clv_json_reader *r, const char *name, const char *expected,
                             const json_t *found, clv_error *err)
{
    char at[MEMBER_TEXT_MAX];
    return clv_fail(err, CLV_JSON_TYPE, "%s: expected %s, found %s", member(r, name, at, sizeof at),
                    expected, clv_json_type_name(found));
}

clv_status clv_json_open(clv_json_reader *r, const json_t *json, const char *path, clv_error *err)
{
    *r = (clv_json_reader){.object = json};
    snprintf(r->path, sizeof r->path, "%s", path);
    if (!json_is_object(json))
        return clv_fail(err, CLV_JSON_TYPE, "%s%sexpected an object, found %s", path,
                        path[0] != '\0' ? ": " : "", clv_json_type_name(json));
    if (json_object_size(json) > CLV_JSON_MEMBERS_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "%s%sexpected at most %d members, found %zu", path,
                        path[0] != '\0' ? ": " : "", CLV_JSON_MEMBERS_MAX, json_object_size(json));
    return CLV_OK;
}

static json_t *find(clv_json_reader *r, const char *name)
{
    unsigned index = 0;
    json_t *object = (json_t *)r->object;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if (strcmp(json_object_iter_key(i), name) == 0) {
            r->seen |= (uint64_t)1 << index;
            return json_object_iter_value(i);
        }
        index++;
    }
    return NULL;
}

static clv_status missing(const clv_json_reader *r, const char *name, const char *expected,
                          clv_error *err)
{
    char at[MEMBER_TEXT_MAX];
    return clv_fail(err, CLV_JSON_MISSING, "%s: expected %s, found nothing",
                    member(r, name, at, sizeof at), expected);
}

clv_status clv_json_value(clv_json_reader *r, const char *name, json_t **out, clv_error *err)
{
    (void)err;
    *out = find(r, name);
    return CLV_OK;
}

clv_status clv_json_text(clv_json_reader *r, const char *name, const char **out, clv_error *err)
{
    const json_t *value = find(r, name);
    if (value != NULL && !json_is_string(value))
        return wrong_type(r, name, "a string", value, err);
    *out = value != NULL ? json_string_value(value) : NULL;
    return CLV_OK;
}

static clv_status integer(clv_json_reader *r, const char *name, const json_t *value, int64_t min,
                          int64_t max, int64_t *out, clv_error *err)
{
    if (!json_is_integer(value))
        return wrong_type(r, name, "an integer", value, err);
    int64_t found = json_integer_value(value);
    if (found < min || found > max) {
        char at[MEMBER_TEXT_MAX];
        return clv_fail(err, CLV_JSON_VALUE, "%s: expected %lld to %lld, found %lld",
                        member(r, name, at, sizeof at), (long long)min, (long long)max,
                        (long long)found);
    }
    *out = found;
    return CLV_OK;
}

clv_status clv_json_integer(clv_json_reader *r, const char *name, int64_t min, int64_t max,
                            int64_t *out, clv_error *err)
{
    const json_t *value = find(r, name);
    return value == NULL ? CLV_OK : integer(r, name, value, min, max, out, err);
}

clv_status clv_json_boolean(clv_json_reader *r, const char *name, bool *out, clv_error *err)
{
    const json_t *value = find(r, name);
    if (value == NULL)
        return CLV_OK;
    if (!json_is_boolean(value))
        return wrong_type(r, name, "a boolean", value, err);
    *out = json_is_true(value);
    return CLV_OK;
}

clv_status clv_json_need_value(clv_json_reader *r, const char *name, json_t **out, clv_error *err)
{
    *out = find(r, name);
    return *out == NULL ? missing(r, name, "a value", err) : CLV_OK;
}

clv_status clv_json_need_text(clv_json_reader *r, const char *name, const char **out,
                              clv_error *err)
{
    CLV_TRY(clv_json_text(r, name, out, err));
    return *out == NULL ? missing(r, name, "a string", err) : CLV_OK;
}

clv_status clv_json_need_integer(clv_json_reader *r, const char *name, int64_t min, int64_t max,
                                 int64_t *out, clv_error *err)
{
    const json_t *value = find(r, name);
    if (value == NULL)
        return missing(r, name, "an integer", err);
    return integer(r, name, value, min, max, out, err);
}

clv_status clv_json_done(const clv_json_reader *r, clv_error *err)
{
    unsigned index = 0;
    json_t *object = (json_t *)r->object;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if ((r->seen & (uint64_t)1 << index++) == 0) {
            char at[MEMBER_TEXT_MAX];
            return clv_fail(err, CLV_JSON_UNKNOWN, "%s: no such member is known",
                            member(r, json_object_iter_key(i), at, sizeof at));
        }
    }
    return CLV_OK;
}

void clv_json_path(char *out, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(out, size, format, args);
    va_end(args);
}

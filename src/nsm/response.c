#include <nsm/response.h>

static const struct {
    const char *name;
    clv_status code;
} error_table[] = {
    {"InvalidArgument", CLV_NSM_INVALID_ARGUMENT},   {"InvalidIndex", CLV_NSM_INVALID_INDEX},
    {"InvalidResponse", CLV_NSM_INVALID_RESPONSE},   {"ReadOnlyIndex", CLV_NSM_READ_ONLY_INDEX},
    {"InvalidOperation", CLV_NSM_INVALID_OPERATION}, {"BufferTooSmall", CLV_NSM_BUFFER_TOO_SMALL},
    {"InputTooLarge", CLV_NSM_INPUT_TOO_LARGE},      {"InternalError", CLV_NSM_INTERNAL_ERROR},
};

static clv_status malformed(const char *name, clv_error *err)
{
    return clv_fail(err, CLV_NSM_RESPONSE, "%s: expected the NSM's answer to it, found other bytes",
                    name);
}

static clv_status fail_as_named(const char *request, clv_bytes name, clv_error *err)
{
    for (size_t i = 0; i < sizeof error_table / sizeof error_table[0]; i++) {
        if (clv_bytes_equal(name, clv_bytes_of(error_table[i].name)))
            return clv_fail(err, error_table[i].code, "%s: the NSM answered %s", request,
                            error_table[i].name);
    }
    return clv_fail(err, CLV_NSM_RESPONSE, "%s: the NSM answered an error of no known name",
                    request);
}

clv_status clv_nsm_open_answer(clv_bytes answer, const char *name, clv_cursor *fields,
                               uint64_t *count, clv_error *err)
{
    clv_cursor c = clv_cursor_of(answer);
    clv_cbor_item head, key;
    if (clv_cbor_next(&c, &head, NULL) != CLV_OK)
        return malformed(name, err);
    *count = 0;
    if (head.type == CLV_CBOR_TEXT && !head.indefinite) {
        *fields = c;
        return clv_bytes_equal(head.bytes, clv_bytes_of(name)) ? CLV_OK : malformed(name, err);
    }
    if (head.type != CLV_CBOR_MAP || head.indefinite || head.value != 1 ||
        clv_cbor_expect(&c, CLV_CBOR_TEXT, &key, NULL) != CLV_OK)
        return malformed(name, err);
    if (clv_bytes_equal(key.bytes, clv_bytes_of("Error"))) {
        if (clv_cbor_expect(&c, CLV_CBOR_TEXT, &head, NULL) != CLV_OK || c.rest.n != 0)
            return malformed(name, err);
        return fail_as_named(name, head.bytes, err);
    }
    if (!clv_bytes_equal(key.bytes, clv_bytes_of(name)) ||
        clv_cbor_expect(&c, CLV_CBOR_MAP, &head, NULL) != CLV_OK)
        return malformed(name, err);
    *count = head.value;
    *fields = c;
    return CLV_OK;
}

static clv_nsm_field *find(clv_nsm_field *field, size_t count, clv_bytes name)
{
    for (size_t i = 0; i < count; i++) {
        if (clv_bytes_equal(name, clv_bytes_of(field[i].name)))
            return &field[i];
    }
    return NULL;
}

/* The items of an array are left to the field's reader: they are skipped here, all integers. */
static clv_status skip_items(clv_cursor *c, uint64_t count, clv_error *err)
{
    if (count > CLV_PCR_COUNT)
        return clv_fail(err, CLV_NSM_RESPONSE, "expected at most %d items, found %llu",
                        CLV_PCR_COUNT, (unsigned long long)count);
    clv_cbor_item item;
    for (uint64_t i = 0; i < count; i++) {
        if (clv_cbor_expect(c, CLV_CBOR_UINT, &item, NULL) != CLV_OK)
            return clv_fail(err, CLV_NSM_RESPONSE,
                            "expected unsigned integers, found another item");
    }
    return CLV_OK;
}

static clv_status read_field(clv_cursor *c, clv_nsm_field *field, size_t field_count,
                             clv_error *err)
{
    clv_cbor_item key;
    if (clv_cbor_expect(c, CLV_CBOR_TEXT, &key, NULL) != CLV_OK)
        return clv_fail(err, CLV_NSM_RESPONSE, "expected a field's name, found another item");
    clv_nsm_field *known = find(field, field_count, key.bytes);
    if (known == NULL || known->seen)
        return clv_fail(err, CLV_NSM_RESPONSE, "expected each known field once, found another");
    known->seen = true;
    if (clv_cbor_expect(c, known->type, &known->item, NULL) != CLV_OK)
        return clv_fail(err, CLV_NSM_RESPONSE, "%s: expected %s, found another item", known->name,
                        clv_cbor_type_name(known->type));
    known->items = *c;
    return known->type == CLV_CBOR_ARRAY ? skip_items(c, known->item.value, err) : CLV_OK;
}

clv_status clv_nsm_read_fields(clv_cursor fields, uint64_t count, clv_nsm_field *field,
                               size_t field_count, clv_error *err)
{
    if (count != field_count)
        return clv_fail(err, CLV_NSM_RESPONSE,
                        "expected %zu fields in the NSM's answer, found %llu", field_count,
                        (unsigned long long)count);
    for (size_t i = 0; i < field_count; i++)
        CLV_TRY(read_field(&fields, field, field_count, err));
    if (fields.rest.n != 0)
        return clv_fail(err, CLV_NSM_RESPONSE,
                        "expected nothing after the NSM's answer, found %zu bytes", fields.rest.n);
    return CLV_OK;
}

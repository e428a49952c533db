/*
 * Requests to answers, with the module's own limits and errors (aws-nitro-enclaves-nsm-api,
 * src/api). The module answers an error instead of failing: what fails here is the simulator.
 */
#include <sodium.h>

#include <base/cbor.h>
#include <sim/nsm/nsm.h>

#define FIELDS_MAX     3
#define USER_DATA_MAX  512
#define NONCE_MAX      512
#define PUBLIC_KEY_MAX 1024

/* The fields of a request, as far as they were there: CLV_CBOR_OTHER stands for absent. */
typedef struct request_field {
    const char *name;
    clv_cbor_item item;
} request_field;

typedef clv_status (*request_handler)(nsm_module *module, const request_field *field,
                                      clv_buf *answer, clv_error *err);

static clv_status answer_error(clv_buf *answer, const char *name, clv_error *err)
{
    CLV_TRY(clv_cbor_put_map(answer, 1, err));
    CLV_TRY(clv_cbor_put_text(answer, "Error", err));
    return clv_cbor_put_text(answer, name, err);
}

static clv_status begin_answer(clv_buf *answer, const char *name, size_t pairs, clv_error *err)
{
    CLV_TRY(clv_cbor_put_map(answer, 1, err));
    CLV_TRY(clv_cbor_put_text(answer, name, err));
    return clv_cbor_put_map(answer, pairs, err);
}

static clv_status put_bytes_member(clv_buf *answer, const char *name, clv_bytes bytes,
                                   clv_error *err)
{
    CLV_TRY(clv_cbor_put_text(answer, name, err));
    return clv_cbor_put_bytes(answer, bytes, err);
}

static bool is_type(const request_field *field, clv_cbor_type type)
{
    return field->item.type == type && !field->item.indefinite;
}

static clv_status describe_pcr(nsm_module *module, const request_field *field, clv_buf *answer,
                               clv_error *err)
{
    if (!is_type(&field[0], CLV_CBOR_UINT))
        return answer_error(answer, "InvalidArgument", err);
    if (field[0].item.value >= NSM_PCR_COUNT)
        return answer_error(answer, "InvalidIndex", err);
    const struct nsm_register *pcr = &module->bank.pcr[field[0].item.value];
    CLV_TRY(begin_answer(answer, "DescribePCR", 2, err));
    CLV_TRY(clv_cbor_put_text(answer, "lock", err));
    CLV_TRY(clv_cbor_put_bool(answer, pcr->locked, err));
    return put_bytes_member(answer, "data", CLV_BYTES(pcr->value, NSM_PCR_SIZE), err);
}

static clv_status extend_pcr(nsm_module *module, const request_field *field, clv_buf *answer,
                             clv_error *err)
{
    if (!is_type(&field[0], CLV_CBOR_UINT) || !is_type(&field[1], CLV_CBOR_BYTES))
        return answer_error(answer, "InvalidArgument", err);
    if (field[0].item.value >= NSM_PCR_COUNT)
        return answer_error(answer, "InvalidIndex", err);
    unsigned index = (unsigned)field[0].item.value;
    if (module->bank.pcr[index].locked)
        return answer_error(answer, "ReadOnlyIndex", err);
    CLV_TRY(nsm_bank_extend(&module->bank, index, field[1].item.bytes, err));
    CLV_TRY(begin_answer(answer, "ExtendPCR", 1, err));
    return put_bytes_member(answer, "data", CLV_BYTES(module->bank.pcr[index].value, NSM_PCR_SIZE),
                            err);
}

static clv_status lock_pcr(nsm_module *module, const request_field *field, clv_buf *answer,
                           clv_error *err)
{
    if (!is_type(&field[0], CLV_CBOR_UINT))
        return answer_error(answer, "InvalidArgument", err);
    if (field[0].item.value >= NSM_PCR_COUNT)
        return answer_error(answer, "InvalidIndex", err);
    struct nsm_register *pcr = &module->bank.pcr[field[0].item.value];
    if (pcr->locked)
        return answer_error(answer, "ReadOnlyIndex", err);
    pcr->locked = true;
    return clv_cbor_put_text(answer, "LockPCR", err);
}

static clv_status lock_pcrs(nsm_module *module, const request_field *field, clv_buf *answer,
                            clv_error *err)
{
    if (!is_type(&field[0], CLV_CBOR_UINT))
        return answer_error(answer, "InvalidArgument", err);
    if (field[0].item.value > NSM_PCR_COUNT)
        return answer_error(answer, "InvalidIndex", err);
    for (uint64_t i = 0; i < field[0].item.value; i++)
        module->bank.pcr[i].locked = true;
    return clv_cbor_put_text(answer, "LockPCRs", err);
}

static clv_status put_number(clv_buf *answer, const char *name, uint64_t value, clv_error *err)
{
    CLV_TRY(clv_cbor_put_text(answer, name, err));
    return clv_cbor_put_uint(answer, value, err);
}

static clv_status put_locked(clv_buf *answer, const nsm_bank *bank, clv_error *err)
{
    size_t locked = 0;
    for (unsigned i = 0; i < NSM_PCR_COUNT; i++)
        locked += bank->pcr[i].locked;
    CLV_TRY(clv_cbor_put_text(answer, "locked_pcrs", err));
    CLV_TRY(clv_cbor_put_array(answer, locked, err));
    for (unsigned i = 0; i < NSM_PCR_COUNT; i++) {
        if (bank->pcr[i].locked)
            CLV_TRY(clv_cbor_put_uint(answer, i, err));
    }
    return CLV_OK;
}

static clv_status describe_nsm(nsm_module *module, const request_field *field, clv_buf *answer,
                               clv_error *err)
{
    (void)field;
    CLV_TRY(begin_answer(answer, "DescribeNSM", 7, err));
    CLV_TRY(put_number(answer, "version_major", 1, err));
    CLV_TRY(put_number(answer, "version_minor", 0, err));
    CLV_TRY(put_number(answer, "version_patch", 0, err));
    CLV_TRY(clv_cbor_put_text(answer, "module_id", err));
    CLV_TRY(clv_cbor_put_text(answer, module->chain.module_id, err));
    CLV_TRY(put_number(answer, "max_pcrs", NSM_PCR_COUNT, err));
    CLV_TRY(put_locked(answer, &module->bank, err));
    CLV_TRY(clv_cbor_put_text(answer, "digest", err));
    return clv_cbor_put_text(answer, "SHA384", err);
}

/* The name of the error, or NULL when the field is null, absent or a string within its limit. */
static const char *read_optional(const request_field *field, size_t max, nsm_optional *out)
{
    out->present = is_type(field, CLV_CBOR_BYTES);
    if (out->present) {
        out->bytes = field->item.bytes;
        return out->bytes.n > max ? "InputTooLarge" : NULL;
    }
    bool absent = field->item.type == CLV_CBOR_NULL || field->item.type == CLV_CBOR_OTHER;
    return absent ? NULL : "InvalidArgument";
}

static clv_status attestation(nsm_module *module, const request_field *field, clv_buf *answer,
                              clv_error *err)
{
    nsm_ask ask = {{false, {NULL, 0}}, {false, {NULL, 0}}, {false, {NULL, 0}}};
    const char *fault = read_optional(&field[0], USER_DATA_MAX, &ask.user_data);
    if (fault == NULL)
        fault = read_optional(&field[1], NONCE_MAX, &ask.nonce);
    if (fault == NULL)
        fault = read_optional(&field[2], PUBLIC_KEY_MAX, &ask.public_key);
    if (fault != NULL)
        return answer_error(answer, fault, err);
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    CLV_TRY(
        nsm_document_make(&module->chain, &module->bank, &ask, module->indefinite, &document, err));
    CLV_TRY(begin_answer(answer, "Attestation", 1, err));
    return put_bytes_member(answer, "document", clv_buf_bytes(&document), err);
}

static clv_status get_random(nsm_module *module, const request_field *field, clv_buf *answer,
                             clv_error *err)
{
    (void)module;
    (void)field;
    uint8_t random[NSM_RANDOM_SIZE];
    randombytes_buf(random, sizeof random);
    CLV_TRY(begin_answer(answer, "GetRandom", 1, err));
    return put_bytes_member(answer, "random", CLV_BYTES(random, sizeof random), err);
}

static const struct request_form {
    const char *name;
    request_handler handle;
    const char *field[FIELDS_MAX]; /* none: the request is a bare text */
} request_table[] = {
    {"DescribePCR", describe_pcr, {"index"}},
    {"ExtendPCR", extend_pcr, {"index", "data"}},
    {"LockPCR", lock_pcr, {"index"}},
    {"LockPCRs", lock_pcrs, {"range"}},
    {"DescribeNSM", describe_nsm, {NULL}},
    {"Attestation", attestation, {"user_data", "nonce", "public_key"}},
    {"GetRandom", get_random, {NULL}},
};

static const struct request_form *find_form(clv_bytes name)
{
    for (size_t i = 0; i < sizeof request_table / sizeof request_table[0]; i++) {
        if (clv_bytes_equal(name, clv_bytes_of(request_table[i].name)))
            return &request_table[i];
    }
    return NULL;
}

/* Whether the map at the cursor holds nothing but the form's fields; they are left in field. */
static bool read_fields(clv_cursor *c, const struct request_form *form, request_field *field)
{
    clv_cbor_item map, key;
    for (size_t i = 0; i < FIELDS_MAX; i++)
        field[i] = (request_field){form->field[i], {.type = CLV_CBOR_OTHER}};
    if (clv_cbor_expect(c, CLV_CBOR_MAP, &map, NULL) != CLV_OK || map.value > FIELDS_MAX)
        return false;
    for (uint64_t n = 0; n < map.value; n++) {
        if (clv_cbor_expect(c, CLV_CBOR_TEXT, &key, NULL) != CLV_OK)
            return false;
        size_t i = 0;
        while (i < FIELDS_MAX &&
               (field[i].name == NULL || !clv_bytes_equal(key.bytes, clv_bytes_of(field[i].name))))
            i++;
        if (i == FIELDS_MAX || field[i].item.type != CLV_CBOR_OTHER ||
            clv_cbor_next(c, &field[i].item, NULL) != CLV_OK)
            return false;
    }
    return true;
}

clv_status nsm_handle(nsm_module *module, clv_bytes request, clv_buf *answer, clv_error *err)
{
    request_field field[FIELDS_MAX];
    clv_cursor c = clv_cursor_of(request);
    clv_cbor_item head;
    if (request.n > NSM_REQUEST_MAX)
        return answer_error(answer, "InputTooLarge", err);
    if (clv_cbor_next(&c, &head, NULL) != CLV_OK)
        return answer_error(answer, "InvalidArgument", err);
    bool bare = head.type == CLV_CBOR_TEXT && !head.indefinite;
    if (!bare && (head.type != CLV_CBOR_MAP || head.indefinite || head.value != 1 ||
                  clv_cbor_expect(&c, CLV_CBOR_TEXT, &head, NULL) != CLV_OK))
        return answer_error(answer, "InvalidArgument", err);
    const struct request_form *form = find_form(head.bytes);
    if (form == NULL)
        return answer_error(answer, "InvalidOperation", err);
    if (bare != (form->field[0] == NULL) || (!bare && !read_fields(&c, form, field)) ||
        c.rest.n != 0)
        return answer_error(answer, "InvalidArgument", err);
    pthread_mutex_lock(&module->lock);
    clv_status status = form->handle(module, field, answer, err);
    pthread_mutex_unlock(&module->lock);
    return status;
}

#include <pthread.h>
#include <stdlib.h>

#include <nsm/response.h>
#include <nsm/transport.h>

struct clv_nsm {
    clv_nsm_transport transport;
    pthread_mutex_t lock; /* one request is under way at a time */
};

clv_status clv_nsm_open(const char *address, clv_nsm **out, clv_error *err)
{
    clv_nsm *nsm = calloc(1, sizeof *nsm);
    if (nsm == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an NSM handle");
    clv_status status = clv_nsm_connect(address, &nsm->transport, err);
    if (status != CLV_OK) {
        free(nsm);
        return status;
    }
    pthread_mutex_init(&nsm->lock, NULL);
    *out = nsm;
    return CLV_OK;
}

void clv_nsm_free(clv_nsm **nsm)
{
    if (*nsm == NULL)
        return;
    clv_nsm_disconnect(&(*nsm)->transport);
    pthread_mutex_destroy(&(*nsm)->lock);
    free(*nsm);
    *nsm = NULL;
}

static clv_status exchange(clv_nsm *nsm, const clv_buf *request, clv_buf *answer, clv_error *err)
{
    pthread_mutex_lock(&nsm->lock);
    clv_status status = clv_nsm_exchange(&nsm->transport, clv_buf_bytes(request), answer, err);
    pthread_mutex_unlock(&nsm->lock);
    return status;
}

/* Ask, and read exactly these fields of the answer to `name`. */
static clv_status ask(clv_nsm *nsm, const char *name, const clv_buf *request, clv_buf *answer,
                      clv_nsm_field *field, size_t field_count, clv_error *err)
{
    clv_cursor fields;
    uint64_t count;
    CLV_TRY(exchange(nsm, request, answer, err));
    CLV_TRY(clv_nsm_open_answer(clv_buf_bytes(answer), name, &fields, &count, err));
    clv_status status = clv_nsm_read_fields(fields, count, field, field_count, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", name);
}

/* {name: {…pairs}}, the pairs to follow. */
static clv_status begin(clv_buf *request, const char *name, size_t pairs, clv_error *err)
{
    CLV_TRY(clv_cbor_put_map(request, 1, err));
    CLV_TRY(clv_cbor_put_text(request, name, err));
    return clv_cbor_put_map(request, pairs, err);
}

static clv_status put_number(clv_buf *request, const char *name, uint16_t value, clv_error *err)
{
    CLV_TRY(clv_cbor_put_text(request, name, err));
    return clv_cbor_put_uint(request, value, err);
}

static clv_status bounded_number(const clv_nsm_field *field, uint64_t max, uint16_t *out,
                                 clv_error *err)
{
    if (field->item.value > max)
        return clv_fail(err, CLV_NSM_RESPONSE, "%s: expected at most %llu, found %llu", field->name,
                        (unsigned long long)max, (unsigned long long)field->item.value);
    *out = (uint16_t)field->item.value;
    return CLV_OK;
}

static clv_status bounded_text(const clv_nsm_field *field, char *out, size_t size, clv_error *err)
{
    if (field->item.bytes.n >= size || !clv_utf8_valid(field->item.bytes))
        return clv_fail(err, CLV_NSM_RESPONSE, "%s: expected at most %zu bytes of text, found %zu",
                        field->name, size - 1, field->item.bytes.n);
    memcpy(out, field->item.bytes.p, field->item.bytes.n);
    out[field->item.bytes.n] = '\0';
    return CLV_OK;
}

static clv_status read_locked(const clv_nsm_field *field, uint32_t *out, clv_error *err)
{
    clv_cursor c = field->items;
    clv_cbor_item item;
    *out = 0;
    for (uint64_t i = 0; i < field->item.value; i++) {
        CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_UINT, &item, err));
        if (item.value >= CLV_PCR_COUNT)
            return clv_fail(err, CLV_NSM_RESPONSE, "locked_pcrs: expected 0 to %d, found %llu",
                            CLV_PCR_COUNT - 1, (unsigned long long)item.value);
        *out |= UINT32_C(1) << item.value;
    }
    return CLV_OK;
}

clv_status clv_nsm_describe(clv_nsm *nsm, clv_nsm_description *out, clv_error *err)
{
    enum { MAJOR, MINOR, PATCH, MODULE, PCRS, LOCKED, DIGEST, FIELDS };
    clv_nsm_field field[FIELDS] = {
        [MAJOR] = {.name = "version_major", .type = CLV_CBOR_UINT},
        [MINOR] = {.name = "version_minor", .type = CLV_CBOR_UINT},
        [PATCH] = {.name = "version_patch", .type = CLV_CBOR_UINT},
        [MODULE] = {.name = "module_id", .type = CLV_CBOR_TEXT},
        [PCRS] = {.name = "max_pcrs", .type = CLV_CBOR_UINT},
        [LOCKED] = {.name = "locked_pcrs", .type = CLV_CBOR_ARRAY},
        [DIGEST] = {.name = "digest", .type = CLV_CBOR_TEXT},
    };
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    *out = (clv_nsm_description){0};
    CLV_TRY(clv_cbor_put_text(&request, "DescribeNSM", err));
    CLV_TRY(ask(nsm, "DescribeNSM", &request, &answer, field, FIELDS, err));
    CLV_TRY(bounded_number(&field[MAJOR], UINT16_MAX, &out->version_major, err));
    CLV_TRY(bounded_number(&field[MINOR], UINT16_MAX, &out->version_minor, err));
    CLV_TRY(bounded_number(&field[PATCH], UINT16_MAX, &out->version_patch, err));
    CLV_TRY(bounded_text(&field[MODULE], out->module_id, sizeof out->module_id, err));
    CLV_TRY(bounded_number(&field[PCRS], UINT16_MAX, &out->max_pcrs, err));
    CLV_TRY(read_locked(&field[LOCKED], &out->locked, err));
    return bounded_text(&field[DIGEST], out->digest, sizeof out->digest, err);
}

static clv_status read_pcr_value(const clv_nsm_field *field, uint8_t out[CLV_PCR_SIZE],
                                 clv_error *err)
{
    if (field->item.bytes.n != CLV_PCR_SIZE)
        return clv_fail(err, CLV_NSM_RESPONSE, "%s: expected %d bytes, found %zu", field->name,
                        CLV_PCR_SIZE, field->item.bytes.n);
    if (out != NULL)
        memcpy(out, field->item.bytes.p, CLV_PCR_SIZE);
    return CLV_OK;
}

clv_status clv_nsm_describe_pcr(clv_nsm *nsm, uint16_t index, clv_nsm_pcr *out, clv_error *err)
{
    enum { LOCK, DATA, FIELDS };
    clv_nsm_field field[FIELDS] = {
        [LOCK] = {.name = "lock", .type = CLV_CBOR_BOOL},
        [DATA] = {.name = "data", .type = CLV_CBOR_BYTES},
    };
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    CLV_TRY(begin(&request, "DescribePCR", 1, err));
    CLV_TRY(put_number(&request, "index", index, err));
    CLV_TRY(ask(nsm, "DescribePCR", &request, &answer, field, FIELDS, err));
    out->locked = field[LOCK].item.value != 0;
    return read_pcr_value(&field[DATA], out->value, err);
}

clv_status clv_nsm_extend_pcr(clv_nsm *nsm, uint16_t index, clv_bytes data,
                              uint8_t out[CLV_PCR_SIZE], clv_error *err)
{
    clv_nsm_field field[] = {{.name = "data", .type = CLV_CBOR_BYTES}};
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    CLV_TRY(begin(&request, "ExtendPCR", 2, err));
    CLV_TRY(put_number(&request, "index", index, err));
    CLV_TRY(clv_cbor_put_text(&request, "data", err));
    CLV_TRY(clv_cbor_put_bytes(&request, data, err));
    CLV_TRY(ask(nsm, "ExtendPCR", &request, &answer, field, 1, err));
    return read_pcr_value(&field[0], out, err);
}

/* The two locks: one number in, an answer that is the request's bare name. */
static clv_status lock(clv_nsm *nsm, const char *name, const char *member, uint16_t value,
                       clv_error *err)
{
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    CLV_TRY(begin(&request, name, 1, err));
    CLV_TRY(put_number(&request, member, value, err));
    return ask(nsm, name, &request, &answer, NULL, 0, err);
}

clv_status clv_nsm_lock_pcr(clv_nsm *nsm, uint16_t index, clv_error *err)
{
    return lock(nsm, "LockPCR", "index", index, err);
}

clv_status clv_nsm_lock_pcrs(clv_nsm *nsm, uint16_t range, clv_error *err)
{
    return lock(nsm, "LockPCRs", "range", range, err);
}

static clv_status put_optional(clv_buf *request, const char *name, clv_optional value, size_t max,
                               clv_error *err)
{
    CLV_TRY(clv_cbor_put_text(request, name, err));
    if (!value.present)
        return clv_cbor_put_null(request, err);
    if (value.bytes.n > max)
        return clv_fail(err, CLV_NSM_REQUEST, "%s: expected at most %zu bytes, found %zu", name,
                        max, value.bytes.n);
    return clv_cbor_put_bytes(request, value.bytes, err);
}

clv_status clv_nsm_attest(clv_nsm *nsm, const clv_binding *binding, clv_buf *document,
                          clv_error *err)
{
    clv_nsm_field field[] = {{.name = "document", .type = CLV_CBOR_BYTES}};
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    CLV_TRY(begin(&request, "Attestation", 3, err));
    CLV_TRY(put_optional(&request, "user_data", binding->user_data, CLV_OPTIONAL_ASK_MAX, err));
    CLV_TRY(put_optional(&request, "nonce", binding->nonce, CLV_OPTIONAL_ASK_MAX, err));
    CLV_TRY(put_optional(&request, "public_key", binding->public_key, CLV_OPTIONAL_MAX, err));
    CLV_TRY(ask(nsm, "Attestation", &request, &answer, field, 1, err));
    return clv_buf_append(document, field[0].item.bytes, err);
}

clv_status clv_nsm_random(clv_nsm *nsm, uint8_t *out, size_t n, clv_error *err)
{
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    CLV_TRY(clv_cbor_put_text(&request, "GetRandom", err));
    for (size_t done = 0; done < n;) {
        clv_nsm_field field[] = {{.name = "random", .type = CLV_CBOR_BYTES}};
        clv_auto(clv_buf) answer = CLV_BUF_INIT;
        CLV_TRY(ask(nsm, "GetRandom", &request, &answer, field, 1, err));
        clv_bytes random = field[0].item.bytes;
        if (random.n == 0 || random.n > CLV_NSM_RANDOM_MAX)
            return clv_fail(err, CLV_NSM_RESPONSE, "random: expected 1 to %d bytes, found %zu",
                            CLV_NSM_RANDOM_MAX, random.n);
        size_t take = random.n < n - done ? random.n : n - done;
        memcpy(out + done, random.p, take);
        done += take;
    }
    return CLV_OK;
}

#include <claviger/operation.h>

#include <stdlib.h>

void clv_context_drop(clv_context *context)
{
    for (size_t i = 0; i < context->count; i++) {
        free(context->pair[i].key);
        free(context->pair[i].value);
    }
    free(context->pair);
    *context = (clv_context)CLV_CONTEXT_INIT;
}

/* Where the key stands, or has to be put to keep the order: by bytes, as KMS and the AWS
 * Encryption SDK sort. */
static size_t place_of(const clv_context *context, const char *key, bool *there)
{
    size_t i = 0;
    int order = 1;
    while (i < context->count && (order = strcmp(context->pair[i].key, key)) < 0)
        i++;
    *there = i < context->count && order == 0;
    return i;
}

static size_t size_of(const clv_context *context)
{
    size_t n = 0;
    for (size_t i = 0; i < context->count; i++)
        n += strlen(context->pair[i].key) + strlen(context->pair[i].value);
    return n;
}

static clv_status check_pair(const clv_context *context, const char *key, const char *value,
                             clv_error *err)
{
    if (key[0] == '\0')
        return clv_fail(err, CLV_OPERATION_INVALID, "an encryption context key is empty");
    if (!clv_utf8_valid(clv_bytes_of(key)) || !clv_utf8_valid(clv_bytes_of(value)))
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "expected UTF-8 in the encryption context, found other bytes");
    if (context->count >= CLV_CONTEXT_PAIRS_MAX)
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "expected an encryption context of at most %d pairs, found more",
                        CLV_CONTEXT_PAIRS_MAX);
    size_t n = size_of(context) + strlen(key) + strlen(value);
    if (n > CLV_CONTEXT_BYTES_MAX)
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "expected an encryption context of at most %d bytes, found %zu",
                        CLV_CONTEXT_BYTES_MAX, n);
    return CLV_OK;
}

clv_status clv_context_add(clv_context *context, const char *key, const char *value, clv_error *err)
{
    CLV_TRY(check_pair(context, key, value, err));
    bool there;
    size_t at = place_of(context, key, &there);
    if (there)
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "the encryption context has the key \"%.64s\" twice", key);

    clv_auto(clv_text) key_copy = strdup(key);
    clv_auto(clv_text) value_copy = strdup(value);
    struct clv_context_pair *grown =
        reallocarray(context->pair, context->count + 1, sizeof *context->pair);
    if (grown != NULL)
        context->pair = grown;
    if (grown == NULL || key_copy == NULL || value_copy == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an encryption context");

    memmove(&grown[at + 1], &grown[at], (context->count - at) * sizeof *grown);
    grown[at] = (struct clv_context_pair){key_copy, value_copy};
    context->count++;
    key_copy = NULL;
    value_copy = NULL;
    return CLV_OK;
}

clv_status clv_context_copy(const clv_context *from, clv_context *out, clv_error *err)
{
    clv_auto(clv_context) copy = CLV_CONTEXT_INIT;
    for (size_t i = 0; i < from->count; i++)
        CLV_TRY(clv_context_add(&copy, from->pair[i].key, from->pair[i].value, err));
    *out = copy;
    copy = (clv_context)CLV_CONTEXT_INIT;
    return CLV_OK;
}

const char *clv_context_get(const clv_context *context, const char *key)
{
    bool there;
    size_t at = place_of(context, key, &there);
    return there ? context->pair[at].value : NULL;
}

bool clv_context_equal(const clv_context *a, const clv_context *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->pair[i].key, b->pair[i].key) != 0 ||
            strcmp(a->pair[i].value, b->pair[i].value) != 0)
            return false;
    return true;
}

#include <attestation/item.h>

clv_status clv_item_next(clv_cursor *c, const char *what, clv_cbor_item *out, clv_error *err)
{
    clv_error cause;
    if (clv_cbor_next(c, out, &cause) != CLV_OK)
        return clv_fail(err, CLV_ATT_CBOR, "%s: %s", what, cause.text);
    if (out->type == CLV_CBOR_BREAK)
        return clv_fail(err, CLV_ATT_CBOR, "%s: expected a CBOR item, found a break", what);
    if (out->type == CLV_CBOR_TAG)
        return clv_fail(err, CLV_ATT_TAG, "%s: expected no tag, found tag %llu", what,
                        (unsigned long long)out->value);
    if (out->indefinite)
        return clv_fail(err, CLV_ATT_INDEFINITE,
                        "%s: expected a definite length, found %s of indefinite length", what,
                        clv_cbor_type_name(out->type));
    return CLV_OK;
}

static bool is_container(clv_cbor_type type)
{
    return type == CLV_CBOR_ARRAY || type == CLV_CBOR_MAP;
}

/* Items that stand inside this one. */
static uint64_t children(const clv_cbor_item *item)
{
    if (item->type == CLV_CBOR_TAG)
        return 1;
    if (!is_container(item->type))
        return 0;
    return item->type == CLV_CBOR_MAP && item->value <= UINT64_MAX / 2 ? 2 * item->value
                                                                       : item->value;
}

/* Whether what the head announces is all there. A document that was cut shows itself as an array
 * in a string's place more often than not. */
static bool is_whole(clv_cursor after_head, const clv_cbor_item *head)
{
    clv_cbor_item item;
    for (uint64_t left = children(head); left > 0; left--) {
        if (left > after_head.rest.n || clv_cbor_next(&after_head, &item, NULL) != CLV_OK)
            return false;
        uint64_t inside = children(&item);
        if (inside > after_head.rest.n)
            return false;
        left += inside;
    }
    return true;
}

static clv_status refuse(clv_cursor after_head, const clv_cbor_item *head, clv_cbor_type wanted,
                         clv_status otherwise, const char *what, clv_error *err)
{
    bool nested = is_container(head->type) && !is_container(wanted);
    if (nested && !is_whole(after_head, head))
        return clv_fail(err, CLV_ATT_CBOR, "%s: expected %s, found %s that is cut short", what,
                        clv_cbor_type_name(wanted), clv_cbor_type_name(head->type));
    return clv_fail(err, nested ? CLV_ATT_DEPTH : otherwise, "%s: expected %s, found %s", what,
                    clv_cbor_type_name(wanted), clv_cbor_type_name(head->type));
}

clv_status clv_item_expect(clv_cursor *c, clv_cbor_type type, clv_status otherwise,
                           const char *what, clv_cbor_item *out, clv_error *err)
{
    CLV_TRY(clv_item_next(c, what, out, err));
    if (out->type != type)
        return refuse(*c, out, type, otherwise, what, err);
    return CLV_OK;
}

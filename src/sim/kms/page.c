/* Lists that come in pages: Limit and Marker in, Truncated and NextMarker out. */
#include <sim/kms/ops.h>

#include <stdio.h>

#define MARKER_MAX 1024

static clv_status read_marker(clv_call *call, clv_page *page, clv_error *err)
{
    const char *marker;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_param_text(call, "Marker", MARKER_MAX, &marker, err));
    if (marker == NULL)
        return CLV_OK;
    if (clv_base64_decode(clv_bytes_of(marker), &text, NULL) != CLV_OK ||
        text.n >= sizeof page->after || !clv_utf8_valid(clv_buf_bytes(&text)))
        return clv_fail(err, CLV_KMS_INVALID_MARKER, "Could not deserialize marker '%.64s'",
                        marker);
    memcpy(page->after, text.p, text.n);
    page->after[text.n] = '\0';
    return CLV_OK;
}

clv_status clv_page_start(clv_call *call, int64_t max, int64_t usual, const char *member,
                          clv_page *out, clv_error *err)
{
    *out = (clv_page){.call = call, .limit = usual};
    CLV_TRY(clv_param_integer(call, "Limit", 1, max, &out->limit, err));
    CLV_TRY(read_marker(call, out, err));
    out->list = json_array();
    return clv_answer_json(call, member, out->list, err);
}

bool clv_page_has_room(const clv_page *page)
{
    return json_array_size(page->list) < (size_t)page->limit;
}

clv_status clv_page_add(clv_page *page, json_t *row, const char *order, clv_error *err)
{
    snprintf(page->last, sizeof page->last, "%s", order);
    if (row == NULL || json_array_append_new(page->list, row) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a list, found none");
    return CLV_OK;
}

clv_status clv_page_end(clv_page *page, bool truncated, clv_error *err)
{
    CLV_TRY(clv_answer_json(page->call, "Truncated", json_boolean(truncated), err));
    return truncated ? clv_answer_blob(page->call, "NextMarker", clv_bytes_of(page->last), err)
                     : CLV_OK;
}

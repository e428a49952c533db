/* Whether a genuine document is the one wanted. */
#include <claviger/attestation.h>

static clv_status match_optional(const clv_optional *found, const clv_optional *expected,
                                 clv_status code, const char *name, clv_error *err)
{
    if (found->present != expected->present)
        return clv_fail(err, code, "%s: expected %s, found %s", name,
                        expected->present ? "a value" : "none",
                        found->present ? "a value" : "none");
    if (found->present && !clv_bytes_equal_secret(found->bytes, expected->bytes))
        return clv_fail(err, code, "%s: expected the %zu bytes asked for, found %zu other bytes",
                        name, expected->bytes.n, found->bytes.n);
    return CLV_OK;
}

clv_status clv_document_match_binding(const clv_document *document, const clv_binding *expected,
                                      clv_error *err)
{
    CLV_TRY(match_optional(&document->nonce, &expected->nonce, CLV_ATT_NONCE, "nonce", err));
    CLV_TRY(match_optional(&document->user_data, &expected->user_data, CLV_ATT_USER_DATA,
                           "user_data", err));
    return match_optional(&document->public_key, &expected->public_key, CLV_ATT_PUBLIC_KEY,
                          "public_key", err);
}

static bool has_pcr(const clv_pcrs *pcrs, unsigned index)
{
    return (pcrs->present & UINT32_C(1) << index) != 0;
}

static clv_bytes pcr_value(const clv_pcrs *pcrs, unsigned index)
{
    return CLV_BYTES(pcrs->value[index], CLV_PCR_SIZE);
}

static clv_status match_pcr(const clv_pcrs *found, const clv_pcrs *expected, unsigned index,
                            clv_error *err)
{
    if (!has_pcr(found, index))
        return clv_fail(err, CLV_ATT_PCR_MISSING, "PCR%u: expected a value, found none", index);
    if (clv_bytes_all_zero(pcr_value(found, index)) ||
        clv_bytes_all_zero(pcr_value(expected, index)))
        return clv_fail(err, CLV_ATT_PCR_ZERO, "PCR%u: expected a measurement, found zeros%s",
                        index, clv_bytes_all_zero(pcr_value(found, index)) ? "" : " as the pin");
    if (clv_bytes_equal(pcr_value(found, index), pcr_value(expected, index)))
        return CLV_OK;

    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_hex_append(&text, pcr_value(expected, index), err));
    CLV_TRY(clv_buf_append_text(&text, ", found ", err));
    CLV_TRY(clv_hex_append(&text, pcr_value(found, index), err));
    return clv_fail(err, CLV_ATT_PCR_MISMATCH, "PCR%u: expected %.*s", index, (int)text.n,
                    (const char *)text.p);
}

clv_status clv_pcrs_match(const clv_pcrs *found, const clv_pcrs *expected, clv_error *err)
{
    if (expected->present == 0)
        return clv_fail(err, CLV_ATT_PCR_MISSING,
                        "expected at least one PCR to compare, found none");
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        if (has_pcr(expected, i))
            CLV_TRY(match_pcr(found, expected, i, err));
    }
    return CLV_OK;
}

bool clv_pcrs_debug(const clv_pcrs *pcrs)
{
    return !has_pcr(pcrs, 0) || clv_bytes_all_zero(pcr_value(pcrs, 0));
}

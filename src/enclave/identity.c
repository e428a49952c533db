#include <enclave/enclave.h>

static void set_hex(json_t *object, const char *name, clv_bytes bytes)
{
    json_object_set_new(object, name, clv_json_hex(bytes));
}

static json_t *pcrs_json(const clv_pcrs *pcrs)
{
    json_t *object = json_object();
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        char index[4];
        snprintf(index, sizeof index, "%u", i);
        if ((pcrs->present & (UINT32_C(1) << i)) != 0)
            set_hex(object, index, CLV_BYTES(pcrs->value[i], CLV_PCR_SIZE));
    }
    return object;
}

json_t *clv_identity_json(const clv_enclave *enclave)
{
    const clv_identity *identity = clv_gate_identity(enclave->gate);
    json_t *object = json_pack("{s:s, s:s, s:s, s:b, s:o}", "enclave", enclave->policy->enclave,
                               "module_id", identity->module_id, "release", identity->release,
                               "debug", identity->debug, "pcrs", pcrs_json(&identity->pcrs));
    if (object != NULL)
        set_hex(object, "policy_sha384", CLV_BYTES(enclave->policy->digest, CLV_PCR_SIZE));
    return object;
}

json_t *clv_context_json(const clv_context *context)
{
    json_t *object = json_object();
    for (size_t i = 0; i < context->count; i++)
        json_object_set_new(object, context->pair[i].key, json_string(context->pair[i].value));
    return object;
}

clv_status clv_enclave_ready(const clv_enclave *enclave, clv_error *err)
{
    uint64_t now = 0, expire = clv_kms_credentials_expire_ms(enclave->kms);
    CLV_TRY(clv_clock_now((clv_clock *)&enclave->clock, &now, err));
    if (expire > now)
        return CLV_OK;
    char text[CLV_TIME_TEXT_SIZE] = "never";
    if (expire != 0)
        clv_time_text(expire, text);
    return clv_fail(err, CLV_NOT_READY,
                    "expected credentials from the parent that are valid, found ones valid until "
                    "%s",
                    text);
}

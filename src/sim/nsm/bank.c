#include <sim/nsm/nsm.h>

#include <stdlib.h>

#include <base/file.h>

#define PCR_FILE_MAX 65536
#define PCR_ROLE     3
#define PCR_INSTANCE 4
#define PCR_IMAGE    3 /* the first that debug mode leaves alone */

static clv_status read_register(nsm_bank *bank, uint32_t *given, const char *index,
                                const json_t *value, clv_error *err)
{
    char *end;
    unsigned long i = strtoul(index, &end, 10);
    const char *text = json_string_value(value);
    if (*index < '0' || *index > '9' || *end != '\0' || i >= NSM_BOOT_PCRS)
        return clv_fail(err, CLV_JSON_VALUE,
                        "expected indices 0 to %d (a boot measures no others), found \"%.20s\"",
                        NSM_BOOT_PCRS - 1, index);
    if (text == NULL)
        return clv_fail(err, CLV_JSON_TYPE, "%s: expected a string of hex, found %s", index,
                        clv_json_type_name(value));
    *given |= UINT32_C(1) << i;
    clv_status status =
        clv_hex_decode_exact(clv_bytes_of(text), bank->pcr[i].value, NSM_PCR_SIZE, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", index);
}

static clv_status read_file(nsm_bank *bank, uint32_t *given, const char *path, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = NULL;
    clv_json_reader r;
    CLV_TRY(clv_file_read(path, PCR_FILE_MAX, &text, err));
    CLV_TRY(clv_json_parse(clv_buf_bytes(&text), PCR_FILE_MAX, &json, err));
    CLV_TRY(clv_json_open(&r, json, "", err));
    for (void *i = json_object_iter(json); i != NULL; i = json_object_iter_next(json, i))
        CLV_TRY(
            read_register(bank, given, json_object_iter_key(i), json_object_iter_value(i), err));
    return CLV_OK;
}

clv_status nsm_bank_extend(nsm_bank *bank, unsigned index, clv_bytes data, clv_error *err)
{
    clv_auto(clv_buf) both = CLV_BUF_INIT;
    uint8_t *value = bank->pcr[index].value;
    CLV_TRY(clv_buf_append(&both, CLV_BYTES(value, NSM_PCR_SIZE), err));
    CLV_TRY(clv_buf_append(&both, data, err));
    return clv_sha384(clv_buf_bytes(&both), value, err);
}

/* PCR4 is the instance's id, which is the module's up to "-enc"; no inner hash (AWS user guide,
 * "Where to get an enclave's measurements"). */
static clv_bytes instance_id(const char *module_id)
{
    const char *end = strstr(module_id, "-enc");
    return CLV_BYTES(module_id, end != NULL ? (size_t)(end - module_id) : strlen(module_id));
}

clv_status nsm_bank_boot(nsm_bank *bank, const nsm_boot *boot, clv_error *err)
{
    uint32_t given = 0;
    *bank = (nsm_bank){0};
    if (boot->pcr_file != NULL) {
        clv_status status = read_file(bank, &given, boot->pcr_file, err);
        if (status != CLV_OK)
            return clv_blame(err, status, "%s", boot->pcr_file);
    }
    for (unsigned i = 0; boot->debug && i < PCR_IMAGE; i++)
        memset(bank->pcr[i].value, 0, NSM_PCR_SIZE);
    if (boot->role_arn != NULL && (given >> PCR_ROLE & 1) == 0)
        CLV_TRY(nsm_bank_extend(bank, PCR_ROLE, clv_bytes_of(boot->role_arn), err));
    if ((given >> PCR_INSTANCE & 1) == 0)
        CLV_TRY(nsm_bank_extend(bank, PCR_INSTANCE, instance_id(boot->module_id), err));
    for (unsigned i = 0; i < NSM_BOOT_PCRS; i++)
        bank->pcr[i].locked = true;
    return CLV_OK;
}

#include <cli/measurements.h>

#include <stdlib.h>

#include <base/file.h>
#include <base/json.h>

#define FILE_MAX ((size_t)1024 * 1024)

/* "PCR0" or "0": the register, or -1 for a member that is none. */
static int register_of(const char *name)
{
    const char *digits = strncmp(name, "PCR", 3) == 0 ? name + 3 : name;
    char *end;
    long i = strtol(digits, &end, 10);
    return *digits >= '0' && *digits <= '9' && *end == '\0' && i < CLV_PCR_COUNT ? (int)i : -1;
}

static clv_status read_registers(json_t *map, clv_pcrs *out, clv_error *err)
{
    for (void *at = json_object_iter(map); at != NULL; at = json_object_iter_next(map, at)) {
        int i = register_of(json_object_iter_key(at));
        const char *text = json_string_value(json_object_iter_value(at));
        if (i < 0)
            continue;
        clv_status status = text != NULL ? clv_hex_decode_exact(clv_bytes_of(text), out->value[i],
                                                                CLV_PCR_SIZE, err)
                                         : clv_fail(err, CLV_JSON_TYPE, "expected a string");
        if (status != CLV_OK)
            return clv_blame(err, status, "%s", json_object_iter_key(at));
        out->present |= UINT32_C(1) << i;
    }
    if (out->present == 0)
        return clv_fail(err, CLV_JSON_MISSING,
                        "expected registers (\"PCR0\": \"hex\", or \"0\": \"hex\"), found none");
    return CLV_OK;
}

static clv_status read_text(clv_bytes text, clv_pcrs *out, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    CLV_TRY(clv_json_parse(text, FILE_MAX, &json, err));
    json_t *object = json;
    if (json_is_array(json)) {
        if (json_array_size(json) != 1)
            return clv_fail(err, CLV_JSON_VALUE, "expected one enclave, found %zu",
                            json_array_size(json));
        object = json_array_get(json, 0);
    }
    json_t *inner = json_object_get(object, "Measurements");
    return read_registers(inner != NULL ? inner : object, out, err);
}

clv_status clv_measurements_read(const char *path, clv_pcrs *out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    *out = (clv_pcrs){.present = 0};
    CLV_TRY(clv_file_read(path, FILE_MAX, &text, err));
    clv_status status = read_text(clv_buf_bytes(&text), out, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

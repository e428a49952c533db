#include <attestation/payload.h>

#include <attestation/item.h>
#include <base/time.h>

typedef clv_status (*field_reader)(clv_cursor *c, const char *name, clv_document *out,
                                   clv_error *err);

/* The next byte string, of min to max bytes. */
static clv_status read_string(clv_cursor *c, clv_cbor_type type, const char *name, size_t min,
                              size_t max, clv_bytes *out, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_item_expect(c, type, CLV_ATT_FIELD_TYPE, name, &item, err));
    if (item.bytes.n < min || item.bytes.n > max)
        return clv_fail(err, CLV_ATT_FIELD_LENGTH, "%s: expected %zu to %zu bytes, found %zu", name,
                        min, max, item.bytes.n);
    *out = item.bytes;
    return CLV_OK;
}

static clv_status read_module_id(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    CLV_TRY(read_string(c, CLV_CBOR_TEXT, name, 1, CLV_MODULE_ID_MAX, &out->module_id, err));
    if (!clv_utf8_valid(out->module_id))
        return clv_fail(err, CLV_ATT_FIELD_TYPE, "%s: expected UTF-8 text, found other bytes",
                        name);
    return CLV_OK;
}

static clv_status read_digest(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    (void)out;
    clv_cbor_item item;
    CLV_TRY(clv_item_expect(c, CLV_CBOR_TEXT, CLV_ATT_FIELD_TYPE, name, &item, err));
    if (!clv_bytes_equal(item.bytes, clv_bytes_of("SHA384")))
        return clv_fail(err, CLV_ATT_DIGEST, "%s: expected \"SHA384\", found another name", name);
    return CLV_OK;
}

static clv_status read_timestamp(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_item_expect(c, CLV_CBOR_UINT, CLV_ATT_FIELD_TYPE, name, &item, err));
    if (item.value == 0 || item.value > CLV_TIME_MAX_MS)
        return clv_fail(err, CLV_ATT_TIMESTAMP, "%s: expected milliseconds since 1970, found %llu",
                        name, (unsigned long long)item.value);
    out->timestamp_ms = item.value;
    return CLV_OK;
}

static clv_status read_pcr(clv_cursor *c, const char *name, clv_pcrs *pcrs, clv_error *err)
{
    clv_cbor_item index, value;
    CLV_TRY(clv_item_expect(c, CLV_CBOR_UINT, CLV_ATT_FIELD_TYPE, name, &index, err));
    if (index.value >= CLV_PCR_COUNT)
        return clv_fail(err, CLV_ATT_PCR_INDEX, "%s: expected an index of 0 to %d, found %llu",
                        name, CLV_PCR_COUNT - 1, (unsigned long long)index.value);
    uint32_t bit = UINT32_C(1) << index.value;
    if ((pcrs->present & bit) != 0)
        return clv_fail(err, CLV_ATT_PCR_DUPLICATE,
                        "%s: expected each index once, found %llu twice", name,
                        (unsigned long long)index.value);
    CLV_TRY(clv_item_expect(c, CLV_CBOR_BYTES, CLV_ATT_FIELD_TYPE, name, &value, err));
    if (value.bytes.n != CLV_PCR_SIZE)
        return clv_fail(err, CLV_ATT_PCR_LENGTH, "%s: expected %d bytes in PCR%llu, found %zu",
                        name, CLV_PCR_SIZE, (unsigned long long)index.value, value.bytes.n);
    pcrs->present |= bit;
    memcpy(pcrs->value[index.value], value.bytes.p, CLV_PCR_SIZE);
    return CLV_OK;
}

static clv_status read_pcrs(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    clv_cbor_item map;
    CLV_TRY(clv_item_expect(c, CLV_CBOR_MAP, CLV_ATT_FIELD_TYPE, name, &map, err));
    if (map.value < 1 || map.value > CLV_PCR_COUNT)
        return clv_fail(err, CLV_ATT_PCR_COUNT, "%s: expected 1 to %d registers, found %llu", name,
                        CLV_PCR_COUNT, (unsigned long long)map.value);
    for (uint64_t i = 0; i < map.value; i++)
        CLV_TRY(read_pcr(c, name, &out->pcrs, err));
    return CLV_OK;
}

static clv_status read_enclave_pcrs(clv_cursor *c, const char *name, clv_document *out,
                                    clv_error *err)
{
    out->kind = CLV_KIND_ENCLAVE;
    return read_pcrs(c, name, out, err);
}

static clv_status read_nitrotpm_pcrs(clv_cursor *c, const char *name, clv_document *out,
                                     clv_error *err)
{
    out->kind = CLV_KIND_NITROTPM;
    return read_pcrs(c, name, out, err);
}

static clv_status read_certificate(clv_cursor *c, const char *name, clv_document *out,
                                   clv_error *err)
{
    return read_string(c, CLV_CBOR_BYTES, name, 1, CLV_CERTIFICATE_MAX, &out->certificate, err);
}

static clv_status read_cabundle(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    clv_cursor at = *c;
    clv_cbor_item array;
    CLV_TRY(clv_item_next(&at, name, &array, err));
    if (array.type == CLV_CBOR_NULL)
        return clv_fail(err, CLV_ATT_BUNDLE, "%s: expected certificates, found null", name);
    CLV_TRY(clv_item_expect(c, CLV_CBOR_ARRAY, CLV_ATT_FIELD_TYPE, name, &array, err));
    if (array.value < 1 || array.value > CLV_BUNDLE_MAX)
        return clv_fail(err, CLV_ATT_BUNDLE, "%s: expected 1 to %d certificates, found %llu", name,
                        CLV_BUNDLE_MAX, (unsigned long long)array.value);
    for (size_t i = 0; i < array.value; i++)
        CLV_TRY(read_string(c, CLV_CBOR_BYTES, name, 1, CLV_CERTIFICATE_MAX, &out->bundle[i], err));
    out->bundle_count = (size_t)array.value;
    return CLV_OK;
}

static clv_status read_optional(clv_cursor *c, const char *name, clv_optional *out, clv_error *err)
{
    clv_cursor at = *c;
    clv_cbor_item item;
    CLV_TRY(clv_item_next(&at, name, &item, err));
    out->present = item.type != CLV_CBOR_NULL;
    if (out->present)
        return read_string(c, CLV_CBOR_BYTES, name, 0, CLV_OPTIONAL_MAX, &out->bytes, err);
    *c = at;
    return CLV_OK;
}

static clv_status read_public_key(clv_cursor *c, const char *name, clv_document *out,
                                  clv_error *err)
{
    return read_optional(c, name, &out->public_key, err);
}

static clv_status read_user_data(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    return read_optional(c, name, &out->user_data, err);
}

static clv_status read_nonce(clv_cursor *c, const char *name, clv_document *out, clv_error *err)
{
    return read_optional(c, name, &out->nonce, err);
}

/* The two register banks share a slot: a document has one of them. */
enum slot {
    SLOT_MODULE_ID,
    SLOT_DIGEST,
    SLOT_TIMESTAMP,
    SLOT_PCRS,
    SLOT_CERTIFICATE,
    SLOT_CABUNDLE,
    SLOT_REQUIRED, /* what is before it must be there */
    SLOT_PUBLIC_KEY,
    SLOT_USER_DATA,
    SLOT_NONCE,
};

static const struct field {
    const char *name;
    enum slot slot;
    field_reader reader;
} field_table[] = {
    {"module_id", SLOT_MODULE_ID, read_module_id},
    {"digest", SLOT_DIGEST, read_digest},
    {"timestamp", SLOT_TIMESTAMP, read_timestamp},
    {"pcrs", SLOT_PCRS, read_enclave_pcrs},
    {"nitrotpm_pcrs", SLOT_PCRS, read_nitrotpm_pcrs},
    {"certificate", SLOT_CERTIFICATE, read_certificate},
    {"cabundle", SLOT_CABUNDLE, read_cabundle},
    {"public_key", SLOT_PUBLIC_KEY, read_public_key},
    {"user_data", SLOT_USER_DATA, read_user_data},
    {"nonce", SLOT_NONCE, read_nonce},
};
#define FIELD_COUNT (sizeof field_table / sizeof field_table[0])

static const struct field *find_field(clv_bytes name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (clv_bytes_equal(name, clv_bytes_of(field_table[i].name)))
            return &field_table[i];
    }
    return NULL;
}

static clv_status read_member(clv_cursor *c, uint32_t *seen, clv_document *out, clv_error *err)
{
    clv_cbor_item key;
    CLV_TRY(clv_item_expect(c, CLV_CBOR_TEXT, CLV_ATT_PAYLOAD, "payload key", &key, err));
    const struct field *field = find_field(key.bytes);
    if (field == NULL)
        return clv_fail(err, CLV_ATT_FIELD_UNKNOWN,
                        "payload: expected a known field, found one with a name of %zu bytes",
                        key.bytes.n);
    uint32_t bit = UINT32_C(1) << field->slot;
    if ((*seen & bit) != 0)
        return clv_fail(err, CLV_ATT_FIELD_DUPLICATE,
                        "%s: expected each field, and one bank of registers, once; found another",
                        field->name);
    *seen |= bit;
    return field->reader(c, field->name, out, err);
}

/* The payload's map is the one place where an indefinite length is genuine. */
static clv_status open_map(clv_cursor *c, clv_cbor_item *map, clv_error *err)
{
    clv_cursor at = *c;
    if (clv_cbor_next(&at, map, NULL) == CLV_OK && map->type == CLV_CBOR_MAP && map->indefinite) {
        *c = at;
        return CLV_OK;
    }
    return clv_item_expect(c, CLV_CBOR_MAP, CLV_ATT_PAYLOAD, "payload", map, err);
}

static bool at_break(clv_cursor *c)
{
    clv_cursor at = *c;
    clv_cbor_item item;
    if (clv_cbor_next(&at, &item, NULL) != CLV_OK || item.type != CLV_CBOR_BREAK)
        return false;
    *c = at;
    return true;
}

static clv_status check_required(uint32_t seen, clv_error *err)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (field_table[i].slot < SLOT_REQUIRED && (seen & UINT32_C(1) << field_table[i].slot) == 0)
            return clv_fail(err, CLV_ATT_FIELD_MISSING, "payload: expected %s, found none",
                            field_table[i].name);
    }
    return CLV_OK;
}

clv_status clv_payload_parse(clv_bytes payload, clv_document *out, clv_error *err)
{
    if (payload.n < 1 || payload.n > CLV_PAYLOAD_MAX)
        return clv_fail(err, CLV_ATT_SIZE, "payload: expected 1 to %d bytes, found %zu",
                        CLV_PAYLOAD_MAX, payload.n);
    clv_cursor c = clv_cursor_of(payload);
    clv_cbor_item map;
    uint32_t seen = 0;
    CLV_TRY(open_map(&c, &map, err));
    for (uint64_t i = 0; map.indefinite ? !at_break(&c) : i < map.value; i++)
        CLV_TRY(read_member(&c, &seen, out, err));
    if (c.rest.n != 0)
        return clv_fail(err, CLV_ATT_TRAILING,
                        "payload: expected nothing after the map, found %zu bytes", c.rest.n);
    return check_required(seen, err);
}

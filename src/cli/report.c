#include <cli/report.h>

#include <stdio.h>

#include <base/crypto.h>
#include <base/time.h>

static clv_status no_memory(clv_error *err)
{
    return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
}

static clv_status set(json_t *object, const char *name, json_t *value, clv_error *err)
{
    return json_object_set_new(object, name, value) == 0 ? CLV_OK : no_memory(err);
}

static clv_status set_hex(json_t *object, const char *name, clv_bytes bytes, clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_hex_append(&hex, bytes, err));
    CLV_TRY(clv_buf_text(&hex, &text, err));
    return set(object, name, json_string(text), err);
}

static clv_status set_optional(json_t *object, const char *name, const clv_optional *value,
                               clv_error *err)
{
    if (!value->present)
        return set(object, name, json_null(), err);
    return set_hex(object, name, value->bytes, err);
}

static clv_status set_time(json_t *object, const char *name, uint64_t ms, clv_error *err)
{
    char text[CLV_TIME_TEXT_SIZE];
    clv_time_text(ms, text);
    return set(object, name, json_string(text), err);
}

static bool has_pcr(const clv_pcrs *pcrs, unsigned index)
{
    return (pcrs->present & UINT32_C(1) << index) != 0;
}

static clv_status set_pcrs(json_t *object, const clv_pcrs *pcrs, clv_error *err)
{
    clv_auto(clv_json) map = json_object();
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        char name[4];
        snprintf(name, sizeof name, "%u", i % CLV_PCR_COUNT);
        if (has_pcr(pcrs, i))
            CLV_TRY(set_hex(map, name, CLV_BYTES(pcrs->value[i], CLV_PCR_SIZE), err));
    }
    return set(object, "pcrs", json_incref(map), err);
}

clv_status clv_report_document(const clv_document *d, json_t **out, clv_error *err)
{
    clv_auto(clv_json) object = json_object();
    CLV_TRY(set(object, "kind", json_string(clv_document_kind_name(d->kind)), err));
    CLV_TRY(
        set(object, "moduleId", json_stringn((const char *)d->module_id.p, d->module_id.n), err));
    CLV_TRY(set(object, "timestampMs", json_integer((json_int_t)d->timestamp_ms), err));
    CLV_TRY(set_time(object, "timestamp", d->timestamp_ms, err));
    CLV_TRY(set(object, "debug", json_boolean(clv_pcrs_debug(&d->pcrs)), err));
    CLV_TRY(set_pcrs(object, &d->pcrs, err));
    CLV_TRY(set_optional(object, "publicKey", &d->public_key, err));
    CLV_TRY(set_optional(object, "userData", &d->user_data, err));
    CLV_TRY(set_optional(object, "nonce", &d->nonce, err));
    *out = json_incref(object);
    return CLV_OK;
}

static clv_bytes certificate_at(const clv_document *d, size_t position)
{
    return position == d->bundle_count ? d->certificate : d->bundle[position];
}

static clv_status report_certificate(clv_bytes der, json_t *object, clv_error *err)
{
    clv_certificate_facts facts;
    clv_error cause;
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(der, digest, err));
    CLV_TRY(set_hex(object, "sha256", CLV_BYTES(digest, sizeof digest), err));
    if (clv_certificate_describe(der, &facts, &cause) != CLV_OK)
        return set(object, "error", json_string(cause.text), err);
    CLV_TRY(set(object, "subject", json_string(facts.subject), err));
    CLV_TRY(set(object, "issuer", json_string(facts.issuer), err));
    CLV_TRY(set(object, "serial", json_string(facts.serial), err));
    CLV_TRY(set_time(object, "notBefore", facts.not_before_ms, err));
    CLV_TRY(set_time(object, "notAfter", facts.not_after_ms, err));
    CLV_TRY(set(object, "ca", json_boolean(facts.ca), err));
    if (facts.path_length >= 0)
        CLV_TRY(set(object, "pathLength", json_integer(facts.path_length), err));
    return CLV_OK;
}

clv_status clv_report_chain(const clv_document *d, json_t **out, clv_error *err)
{
    clv_auto(clv_json) array = json_array();
    for (size_t i = 0; i <= d->bundle_count; i++) {
        clv_auto(clv_json) object = json_object();
        CLV_TRY(report_certificate(certificate_at(d, i), object, err));
        if (json_array_append(array, object) != 0)
            return no_memory(err);
    }
    *out = json_incref(array);
    return CLV_OK;
}

void clv_print_line(const char *label, const char *format, ...)
{
    printf("%-12s ", label);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

/* Bytes that a terminal would act on, or that are not ASCII, as \xNN. */
static void print_escaped(const char *label, clv_bytes text)
{
    printf("%-12s ", label);
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] >= 0x20 && text.p[i] < 0x7f)
            putchar(text.p[i]);
        else
            printf("\\x%02x", text.p[i]);
    }
    putchar('\n');
}

static clv_status print_hex(const char *label, clv_bytes bytes, clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_hex_append(&hex, bytes, err));
    CLV_TRY(clv_buf_text(&hex, &text, err));
    clv_print_line(label, "%s", text);
    return CLV_OK;
}

static clv_status print_optional(const char *label, const clv_optional *value, clv_error *err)
{
    if (!value->present) {
        clv_print_line(label, "none");
        return CLV_OK;
    }
    if (value->bytes.n == 0) {
        clv_print_line(label, "present, 0 bytes");
        return CLV_OK;
    }
    return print_hex(label, value->bytes, err);
}

static clv_status print_pcrs(const clv_pcrs *pcrs, clv_error *err)
{
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        clv_bytes value = CLV_BYTES(pcrs->value[i], CLV_PCR_SIZE);
        char label[8];
        snprintf(label, sizeof label, "pcr%u", i % CLV_PCR_COUNT);
        if (!has_pcr(pcrs, i))
            continue;
        if (clv_bytes_all_zero(value))
            clv_print_line(label, "all zero");
        else
            CLV_TRY(print_hex(label, value, err));
    }
    return CLV_OK;
}

clv_status clv_print_document(const clv_document *d, clv_error *err)
{
    char time[CLV_TIME_TEXT_SIZE];
    clv_time_text(d->timestamp_ms, time);
    clv_print_line("kind", "%s",
                   d->kind == CLV_KIND_NITROTPM ? "NitroTPM (EC2 instance attestation)"
                                                : "Nitro Enclaves");
    print_escaped("module", d->module_id);
    clv_print_line("time", "%s (%llu ms)", time, (unsigned long long)d->timestamp_ms);
    if (clv_pcrs_debug(&d->pcrs))
        clv_print_line("DEBUG MODE", "PCR0 is zero or absent: the image is not measured, and its "
                                     "memory can be read from the parent's console");
    CLV_TRY(print_pcrs(&d->pcrs, err));
    CLV_TRY(print_optional("public_key", &d->public_key, err));
    CLV_TRY(print_optional("user_data", &d->user_data, err));
    return print_optional("nonce", &d->nonce, err);
}

static clv_status print_certificate(const char *label, clv_bytes der, clv_error *err)
{
    clv_certificate_facts facts;
    clv_error cause;
    uint8_t digest[CLV_SHA256_SIZE];
    char from[CLV_TIME_TEXT_SIZE], until[CLV_TIME_TEXT_SIZE];
    CLV_TRY(clv_sha256(der, digest, err));
    if (clv_certificate_describe(der, &facts, &cause) != CLV_OK) {
        clv_print_line(label, "unreadable: %s", cause.text);
        return CLV_OK;
    }
    clv_time_text(facts.not_before_ms, from);
    clv_time_text(facts.not_after_ms, until);
    clv_print_line(label, "%s", facts.subject);
    clv_print_line("", "valid %s to %s, serial %s", from, until, facts.serial);
    if (facts.path_length >= 0)
        clv_print_line("", "%s, path length %d", facts.ca ? "CA" : "no CA", facts.path_length);
    else
        clv_print_line("", "%s", facts.ca ? "CA" : "no CA");
    return print_hex("  sha256", CLV_BYTES(digest, sizeof digest), err);
}

clv_status clv_print_chain(const clv_document *d, clv_error *err)
{
    for (size_t i = 0; i <= d->bundle_count; i++) {
        char label[16];
        snprintf(label, sizeof label, "cabundle[%zu]", i % (CLV_BUNDLE_MAX + 1));
        CLV_TRY(print_certificate(i == d->bundle_count ? "certificate" : label,
                                  certificate_at(d, i), err));
    }
    return CLV_OK;
}

clv_status clv_print_json(const json_t *json, clv_error *err)
{
    if (json_dumpf(json, stdout, JSON_INDENT(2)) != 0)
        return clv_fail(err, CLV_SYSTEM, "standard output cannot be written");
    putchar('\n');
    return CLV_OK;
}

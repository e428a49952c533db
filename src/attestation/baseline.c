/* The signed baseline: parse, and match a document's registers against its releases. */
#include <attestation/minisign.h>
#include <base/json.h>
#include <base/time.h>

/* The registers that measure an image: a release is all three or none (PCR0 alone can be kept
 * while bytes move between sections). */
#define PCR_IMAGE UINT32_C(7)

#define PATH_SIZE 64

static clv_status read_register(const char *path, const char *index, const json_t *value,
                                clv_pcrs *out, clv_error *err)
{
    size_t digits = strspn(index, "0123456789");
    unsigned i = 0;
    for (size_t k = 0; k < digits && k < 3; k++)
        i = i * 10 + (unsigned)(index[k] - '0');
    if (digits == 0 || digits > 2 || index[digits] != '\0' || i >= CLV_PCR_COUNT ||
        (digits == 2 && index[0] == '0'))
        return clv_fail(err, CLV_BASELINE_FORMAT, "%s: expected indices 0 to 31, found \"%.20s\"",
                        path, index);
    const char *text = json_string_value(value);
    if (text == NULL ||
        clv_hex_decode_exact(clv_bytes_of(text), out->value[i], CLV_PCR_SIZE, NULL) != CLV_OK)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "%s.%u: expected %d hex digits, found something else", path, i,
                        2 * CLV_PCR_SIZE);
    if (clv_bytes_all_zero(CLV_BYTES(out->value[i], CLV_PCR_SIZE)))
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "%s.%u: expected a measurement, found zeros, which never match", path, i);
    out->present |= UINT32_C(1) << i;
    return CLV_OK;
}

static clv_status read_registers(size_t index, json_t *pcrs, clv_pcrs *out, clv_error *err)
{
    char path[PATH_SIZE];
    clv_json_path(path, sizeof path, "releases[%zu].pcrs", index);
    clv_json_reader r;
    CLV_TRY(clv_json_open(&r, pcrs, path, err));
    for (void *i = json_object_iter(pcrs); i != NULL; i = json_object_iter_next(pcrs, i))
        CLV_TRY(read_register(path, json_object_iter_key(i), json_object_iter_value(i), out, err));
    if ((out->present & PCR_IMAGE) != PCR_IMAGE)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "%s: expected PCR0, PCR1 and PCR2 together, found fewer", path);
    return CLV_OK;
}

static const clv_release *find(const clv_baseline *baseline, const char *name)
{
    for (size_t i = 0; i < baseline->count; i++) {
        if (strcmp(baseline->release[i].name, name) == 0)
            return &baseline->release[i];
    }
    return NULL;
}

static clv_status read_release(const json_t *json, clv_baseline *out, clv_error *err)
{
    clv_json_reader r;
    char path[PATH_SIZE];
    const char *name;
    json_t *pcrs;
    clv_release *release = &out->release[out->count];
    clv_json_path(path, sizeof path, "releases[%zu]", out->count);
    CLV_TRY(clv_json_open(&r, json, path, err));
    CLV_TRY(clv_json_need_text(&r, "name", &name, err));
    if (name[0] == '\0' || strlen(name) > CLV_RELEASE_NAME_MAX || find(out, name) != NULL)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "%s.name: expected a name of its own of 1 to %d bytes, found \"%.80s\"",
                        path, CLV_RELEASE_NAME_MAX, name);
    memcpy(release->name, name, strlen(name) + 1);
    CLV_TRY(clv_json_need_value(&r, "pcrs", &pcrs, err));
    CLV_TRY(read_registers(out->count, pcrs, &release->pcrs, err));
    CLV_TRY(clv_json_done(&r, err));
    out->count++;
    return CLV_OK;
}

static clv_status revoke(const json_t *name, size_t index, clv_baseline *out, clv_error *err)
{
    const char *text = json_string_value(name);
    clv_release *release = text != NULL ? (clv_release *)find(out, text) : NULL;
    if (release == NULL)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "revoked[%zu]: expected the name of a release, found \"%.80s\"", index,
                        text != NULL ? text : clv_json_type_name(name));
    release->revoked = true;
    return CLV_OK;
}

/* "2027-01-31T00:00:00Z"; a baseline that names no time does not expire. */
static clv_status read_expiry(const char *text, clv_baseline *out, clv_error *err)
{
    out->expires_ms = UINT64_MAX;
    if (text != NULL && strchr(text, 'T') == NULL)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "expires: expected a time such as 2027-01-31T00:00:00Z, found \"%.40s\"",
                        text);
    clv_status status = text != NULL ? clv_time_parse(text, &out->expires_ms, err) : CLV_OK;
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "expires");
}

static clv_status check_expiry(const clv_baseline *baseline, uint64_t at_ms, clv_error *err)
{
    char limit[CLV_TIME_TEXT_SIZE], at[CLV_TIME_TEXT_SIZE];
    if (at_ms <= baseline->expires_ms)
        return CLV_OK;
    clv_time_text(baseline->expires_ms, limit);
    clv_time_text(at_ms, at);
    return clv_fail(err, CLV_BASELINE_EXPIRED,
                    "expected a baseline in force at %s, found one until %s", at, limit);
}

static clv_status read_document(const json_t *json, clv_baseline *out, clv_error *err)
{
    const char *expires;
    clv_json_reader r;
    int64_t version;
    json_t *releases, *revoked;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_integer(&r, "version", 1, 1, &version, err));
    CLV_TRY(clv_json_need_value(&r, "releases", &releases, err));
    CLV_TRY(clv_json_value(&r, "revoked", &revoked, err));
    CLV_TRY(clv_json_text(&r, "expires", &expires, err));
    CLV_TRY(clv_json_done(&r, err));
    CLV_TRY(read_expiry(expires, out, err));
    if (!json_is_array(releases) || json_array_size(releases) > CLV_RELEASES_MAX)
        return clv_fail(err, CLV_BASELINE_FORMAT, "releases: expected a list of at most %d",
                        CLV_RELEASES_MAX);
    if (revoked != NULL && !json_is_array(revoked))
        return clv_fail(err, CLV_BASELINE_FORMAT, "revoked: expected a list, found %s",
                        clv_json_type_name(revoked));
    for (size_t i = 0; i < json_array_size(releases); i++)
        CLV_TRY(read_release(json_array_get(releases, i), out, err));
    for (size_t i = 0; revoked != NULL && i < json_array_size(revoked); i++)
        CLV_TRY(revoke(json_array_get(revoked, i), i, out, err));
    return CLV_OK;
}

clv_status clv_baseline_parse(clv_bytes baseline, clv_baseline *out, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    clv_error detail = {.code = CLV_OK};
    *out = (clv_baseline){.count = 0};
    clv_status status = clv_json_parse(baseline, CLV_BASELINE_MAX, &json, &detail);
    if (status == CLV_OK)
        status = read_document(json, out, &detail);
    if (status != CLV_OK)
        return clv_fail(err, CLV_BASELINE_FORMAT, "baseline: %s", detail.text);
    return CLV_OK;
}

clv_status clv_baseline_open(clv_bytes baseline, clv_bytes signature, const clv_release_key *keys,
                             size_t key_count, clv_baseline *out, clv_error *err)
{
    CLV_TRY(clv_minisign_verify(baseline, signature, keys, key_count, err));
    return clv_baseline_parse(baseline, out, err);
}

clv_status clv_baseline_match(const clv_baseline *baseline, const clv_pcrs *found, uint64_t at_ms,
                              const clv_release **out, clv_error *err)
{
    const clv_release *match = NULL;
    CLV_TRY(check_expiry(baseline, at_ms, err));
    for (size_t i = 0; i < baseline->count; i++) {
        const clv_release *release = &baseline->release[i];
        if (clv_pcrs_match(found, &release->pcrs, NULL) != CLV_OK)
            continue;
        /* An image that was revoked under one name is not in force under another. */
        if (release->revoked)
            return clv_fail(err, CLV_BASELINE_REVOKED,
                            "expected a release in force, found %s, which is revoked",
                            release->name);
        if (match == NULL)
            match = release;
    }
    if (match != NULL) {
        *out = match;
        return CLV_OK;
    }
    return clv_fail(err, CLV_BASELINE_NO_MATCH,
                    "expected one of %zu releases, found an image that is none of them",
                    baseline->count);
}

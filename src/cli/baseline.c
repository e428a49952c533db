/* claviger baseline: the list of releases an enclave may be, and its signature. */
#include <cli/command.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/file.h>
#include <base/json.h>
#include <cli/measurements.h>
#include <cli/minisign_key.h>
#include <cli/report.h>
#include <cli/verify_policy.h>

#define FILE_MODE 0644

typedef struct settings {
    const char *name, *secret_key, *signature, *policy, *pcrs;
    char at[CLV_TIME_TEXT_SIZE]; /* "": not given */
    clv_release_key key[CLV_RELEASE_KEYS_MAX];
    size_t key_count;
} settings;

static clv_status take_name(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->name = value;
    return CLV_OK;
}

static clv_status take_secret_key(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->secret_key = value;
    return CLV_OK;
}

static clv_status take_signature(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->signature = value;
    return CLV_OK;
}

static clv_status take_policy(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->policy = value;
    return CLV_OK;
}

static clv_status take_pcrs(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->pcrs = value;
    return CLV_OK;
}

static clv_status take_at(void *into, const char *value, clv_error *err)
{
    uint64_t ms;
    CLV_TRY(clv_time_parse(value, &ms, err));
    clv_time_text(ms, ((settings *)into)->at);
    return CLV_OK;
}

static clv_status take_key(void *into, const char *value, clv_error *err)
{
    settings *s = into;
    if (s->key_count == CLV_RELEASE_KEYS_MAX)
        return clv_fail(err, CLV_USAGE, "expected at most %d keys", CLV_RELEASE_KEYS_MAX);
    return clv_release_key_parse(value, &s->key[s->key_count++], err);
}

static const clv_option options[] = {
    {"name", "NAME", "add, revoke: the release's name", take_name},
    {"at", "TIME", "expire: 2027-01-31T00:00:00Z, the last instant of the baseline", take_at},
    {"secret-key", "FILE", "sign: a minisign secret key without a password", take_secret_key},
    {"key", "RW…", "check: a minisign public key; several may be given", take_key},
    {"policy", "FILE", "check: the release keys of this policy", take_policy},
    {"signature", "FILE", "sign, check: in place of FILE.minisig", take_signature},
    {"pcrs", "FILE|-", "check: which release these registers are", take_pcrs},
    {NULL, NULL, NULL, NULL},
};

/* "FILE.minisig", or what was given. */
static clv_status signature_path(const char *file, const settings *s, clv_buf *room,
                                 const char **out, clv_error *err)
{
    CLV_TRY(s->signature != NULL ? clv_buf_append_text(room, s->signature, err)
                                 : clv_buf_printf(room, err, "%s.minisig", file));
    return clv_buf_text(room, out, err);
}

static clv_status parse_only(clv_bytes text, clv_error *err)
{
    clv_baseline *baseline = calloc(1, sizeof *baseline);
    if (baseline == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a baseline");
    clv_status status = clv_baseline_parse(text, baseline, err);
    free(baseline);
    return status;
}

/* The file as JSON once it proved to be a baseline; an empty baseline where there is no file. */
static clv_status read_json(const char *path, bool may_be_new, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (may_be_new && access(path, F_OK) != 0) {
        *out = json_pack("{s:i, s:[]}", "version", 1, "releases");
        return *out != NULL ? CLV_OK : clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    }
    CLV_TRY(clv_file_read(path, CLV_BASELINE_MAX, &text, err));
    clv_status status = parse_only(clv_buf_bytes(&text), err);
    if (status == CLV_OK)
        status = clv_json_parse(clv_buf_bytes(&text), CLV_BASELINE_MAX, out, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

/* Only what would be accepted is written. */
static clv_status write_json(const char *path, const json_t *json, clv_error *err)
{
    clv_auto(clv_text) text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    clv_auto(clv_buf) content = CLV_BUF_INIT;
    if (text == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be written");
    CLV_TRY(clv_buf_printf(&content, err, "%s\n", text));
    CLV_TRY(parse_only(clv_buf_bytes(&content), err));
    CLV_TRY(clv_file_write(path, clv_buf_bytes(&content), FILE_MODE, err));
    clv_print_line("written", "%s; sign it again before it is used", path);
    return CLV_OK;
}

static clv_status pcrs_json(const clv_pcrs *pcrs, json_t **out, clv_error *err)
{
    clv_auto(clv_json) map = json_object();
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        clv_auto(clv_buf) hex = CLV_BUF_INIT;
        const char *text;
        char name[16];
        if ((pcrs->present >> i & 1) == 0)
            continue;
        CLV_TRY(clv_hex_append(&hex, CLV_BYTES(pcrs->value[i], CLV_PCR_SIZE), err));
        CLV_TRY(clv_buf_text(&hex, &text, err));
        snprintf(name, sizeof name, "%u", i);
        if (json_object_set_new(map, name, json_string(text)) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    }
    *out = json_incref(map);
    return CLV_OK;
}

static clv_status add(char **operand, int count, const settings *s, clv_error *err)
{
    clv_pcrs pcrs;
    clv_auto(clv_json) json = NULL;
    clv_auto(clv_json) registers = NULL;
    if (count != 2 || s->name == NULL)
        return clv_fail(err, CLV_USAGE, "baseline add: expected FILE MEASUREMENTS --name NAME");
    CLV_TRY(clv_measurements_read(operand[1], &pcrs, err));
    CLV_TRY(pcrs_json(&pcrs, &registers, err));
    CLV_TRY(read_json(operand[0], true, &json, err));
    json_t *release = json_pack("{s:s, s:O}", "name", s->name, "pcrs", registers);
    if (release == NULL || json_array_append_new(json_object_get(json, "releases"), release) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    return write_json(operand[0], json, err);
}

static clv_status revoke_release(char **operand, int count, const settings *s, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    if (count != 1 || s->name == NULL)
        return clv_fail(err, CLV_USAGE, "baseline revoke: expected FILE --name NAME");
    CLV_TRY(read_json(operand[0], false, &json, err));
    if (json_object_get(json, "revoked") == NULL)
        json_object_set_new(json, "revoked", json_array());
    if (json_array_append_new(json_object_get(json, "revoked"), json_string(s->name)) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    return write_json(operand[0], json, err);
}

static clv_status expire(char **operand, int count, const settings *s, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    if (count != 1 || s->at[0] == '\0')
        return clv_fail(err, CLV_USAGE, "baseline expire: expected FILE --at TIME");
    CLV_TRY(read_json(operand[0], false, &json, err));
    if (json_object_set_new(json, "expires", json_string(s->at)) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    return write_json(operand[0], json, err);
}

static clv_status sign(char **operand, int count, const settings *s, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_buf) room = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    clv_auto(clv_minisign_key) key = CLV_MINISIGN_KEY_INIT;
    const char *path;
    char comment[64];
    if (count != 1 || s->secret_key == NULL)
        return clv_fail(err, CLV_USAGE, "baseline sign: expected FILE --secret-key KEY");
    CLV_TRY(clv_file_read(operand[0], CLV_BASELINE_MAX, &text, err));
    CLV_TRY(parse_only(clv_buf_bytes(&text), err));
    CLV_TRY(clv_minisign_key_read(s->secret_key, &key, err));
    snprintf(comment, sizeof comment, "timestamp:%" PRIu64 "\thashed", clv_wall_ms() / 1000);
    CLV_TRY(clv_minisign_sign(&key, clv_buf_bytes(&text), comment, &signature, err));
    CLV_TRY(signature_path(operand[0], s, &room, &path, err));
    CLV_TRY(clv_file_write(path, clv_buf_bytes(&signature), FILE_MODE, err));
    clv_print_line("signed", "%s", path);
    return CLV_OK;
}

/* The keys given, and those of the policy. */
static clv_status gather_keys(const settings *s, settings *out, clv_error *err)
{
    *out = *s;
    clv_auto_ptr(clv_policy) policy = NULL;
    if (s->policy == NULL)
        return CLV_OK;
    CLV_TRY(clv_verify_policy_read(s->policy, &policy, err));
    for (size_t i = 0; i < policy->release_key_count && out->key_count < CLV_RELEASE_KEYS_MAX; i++)
        out->key[out->key_count++] = policy->release_key[i];
    return CLV_OK;
}

static clv_status print_verdict(const clv_baseline *baseline, const char *pcrs, clv_error *err)
{
    for (size_t i = 0; i < baseline->count; i++)
        clv_print_line("release", "%s%s", baseline->release[i].name,
                       baseline->release[i].revoked ? ", revoked" : "");
    char until[CLV_TIME_TEXT_SIZE];
    if (baseline->expires_ms != UINT64_MAX) {
        clv_time_text(baseline->expires_ms, until);
        clv_print_line("until", "%s", until);
    }
    if (pcrs == NULL)
        return CLV_OK;
    clv_pcrs found;
    const clv_release *release;
    CLV_TRY(clv_measurements_read(pcrs, &found, err));
    CLV_TRY(clv_baseline_match(baseline, &found, clv_wall_ms(), &release, err));
    clv_print_line("this is", "%s", release->name);
    return CLV_OK;
}

static clv_status check(char **operand, int count, const settings *s, clv_error *err)
{
    settings with;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_buf) room = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    const char *path;
    if (count != 1 || (s->key_count == 0 && s->policy == NULL))
        return clv_fail(err, CLV_USAGE, "baseline check: expected FILE and --key or --policy");
    CLV_TRY(gather_keys(s, &with, err));
    CLV_TRY(clv_file_read(operand[0], CLV_BASELINE_MAX, &text, err));
    CLV_TRY(signature_path(operand[0], s, &room, &path, err));
    CLV_TRY(clv_file_read(path, CLV_BASELINE_MAX, &signature, err));
    clv_baseline *baseline = calloc(1, sizeof *baseline);
    if (baseline == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a baseline");
    clv_status status = clv_baseline_open(clv_buf_bytes(&text), clv_buf_bytes(&signature), with.key,
                                          with.key_count, baseline, err);
    if (status == CLV_OK)
        status = print_verdict(baseline, s->pcrs, err);
    free(baseline);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", operand[0]);
}

static const struct {
    const char *name;
    clv_status (*run)(char **operand, int count, const settings *s, clv_error *err);
} verbs[] = {
    {"add", add}, {"revoke", revoke_release}, {"expire", expire}, {"sign", sign}, {"check", check}};

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {0};
    int at;
    CLV_TRY(clv_command_options(&clv_command_baseline, count, arguments, &s, 2, 3, &at, err));
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(arguments[at], verbs[i].name) == 0)
            return verbs[i].run(arguments + at + 1, count - at - 1, &s, err);
    }
    return clv_fail(err, CLV_USAGE,
                    "baseline: expected add, revoke, expire, sign or check, found \"%.40s\"",
                    arguments[at]);
}

const clv_command clv_command_baseline = {
    "baseline",
    "add|revoke|expire|sign|check FILE [MEASUREMENTS]",
    "Keep and sign the list of images that an enclave may be",
    options,
    run,
};

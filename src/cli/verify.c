/* claviger verify: whether a document is genuine, and whether it is the one wanted. */
#include <cli/command.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/clock.h>
#include <base/time.h>
#include <cli/input.h>
#include <cli/report.h>
#include <cli/verify_policy.h>

/* A member that the document must carry, where the command line names one. */
typedef struct expected {
    bool given;
    clv_buf value;
} expected;

typedef struct settings {
    bool json, nitrotpm, forbid_debug, root_given, max_age_given;
    uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE];
    uint64_t at_ms, max_age_ms;
    clv_pcrs pcrs;
    clv_policy *policy;
    const char *policy_path, *baseline;
    expected nonce, user_data, public_key;
} settings;

static void settings_drop(settings *s)
{
    clv_policy_free(&s->policy);
    clv_buf_drop(&s->nonce.value);
    clv_buf_drop(&s->user_data.value);
    clv_buf_drop(&s->public_key.value);
}

static clv_status take_json(void *into, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)into)->json = true;
    return CLV_OK;
}

static clv_status take_nitrotpm(void *into, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)into)->nitrotpm = true;
    return CLV_OK;
}

static clv_status take_forbid_debug(void *into, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)into)->forbid_debug = true;
    return CLV_OK;
}

static clv_status take_at(void *into, const char *value, clv_error *err)
{
    settings *s = into;
    if (strcmp(value, "now") == 0)
        s->at_ms = clv_wall_ms();
    else if (strcmp(value, "doc") == 0)
        s->at_ms = CLV_AT_DOCUMENT;
    else
        return clv_time_parse(value, &s->at_ms, err);
    return CLV_OK;
}

static clv_status take_max_age(void *into, const char *value, clv_error *err)
{
    settings *s = into;
    char *end;
    unsigned long long seconds = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || seconds > CLV_TIME_MAX_MS / 1000)
        return clv_fail(err, CLV_USAGE, "expected a number of seconds, found \"%s\"", value);
    s->max_age_given = true;
    s->max_age_ms = seconds * 1000;
    return CLV_OK;
}

static clv_status take_root(void *into, const char *value, clv_error *err)
{
    settings *s = into;
    s->root_given = true;
    return clv_hex_decode_exact(clv_bytes_of(value), s->root_sha256, sizeof s->root_sha256, err);
}

static clv_status take_policy(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->policy_path = value;
    return CLV_OK;
}

static clv_status take_baseline(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->baseline = value;
    return CLV_OK;
}

static clv_status take_expected(expected *member, const char *value, clv_error *err)
{
    if (member->given)
        return clv_fail(err, CLV_USAGE, "expected it once, found it twice");
    member->given = true;
    return clv_input_value(value, CLV_OPTIONAL_MAX, &member->value, err);
}

static clv_status take_nonce(void *into, const char *value, clv_error *err)
{
    return take_expected(&((settings *)into)->nonce, value, err);
}

static clv_status take_user_data(void *into, const char *value, clv_error *err)
{
    return take_expected(&((settings *)into)->user_data, value, err);
}

static clv_status take_public_key(void *into, const char *value, clv_error *err)
{
    return take_expected(&((settings *)into)->public_key, value, err);
}

static clv_status take_pcr(void *into, const char *value, clv_error *err)
{
    settings *s = into;
    char *end;
    unsigned long index = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '=' || index >= CLV_PCR_COUNT)
        return clv_fail(err, CLV_USAGE, "expected N=HEX with N from 0 to %d, found \"%s\"",
                        CLV_PCR_COUNT - 1, value);
    if ((s->pcrs.present & UINT32_C(1) << index) != 0)
        return clv_fail(err, CLV_USAGE, "expected PCR%lu once, found it twice", index);
    s->pcrs.present |= UINT32_C(1) << index;
    return clv_hex_decode_exact(clv_bytes_of(end + 1), s->pcrs.value[index], CLV_PCR_SIZE, err);
}

static const clv_option options[] = {
    {"at", "TIME|now|doc",
     "when the chain must be valid, beside the document's own time: now "
     "(default), a time, or doc for no other",
     take_at},
    {"max-age", "SECONDS", "refuse a document older than this, or from the future", take_max_age},
    {"nitrotpm", NULL, "require a NitroTPM document in place of an enclave's", take_nitrotpm},
    {"root-sha256", "HEX", "the root's digest (default: AWS Nitro Enclaves G1)", take_root},
    {"policy", "FILE", "a policy whose root, pins and measurement the document must have",
     take_policy},
    {"baseline", "FILE", "with --policy: releases, signed in FILE.minisig, one of which must match",
     take_baseline},
    {"nonce", "HEX|@FILE", "the nonce that the document must carry", take_nonce},
    {"user-data", "HEX|@FILE", "the user_data that the document must carry", take_user_data},
    {"public-key", "HEX|@FILE", "the public_key that the document must carry", take_public_key},
    {"pcr", "N=HEX", "a register that must have this value; may be repeated", take_pcr},
    {"forbid-debug", NULL, "refuse an enclave in debug mode", take_forbid_debug},
    {"json", NULL, "print the verdict as JSON", take_json},
    {NULL, NULL, NULL, NULL},
};

static clv_optional binding_of(const expected *member, const clv_optional *found)
{
    if (!member->given)
        return *found;
    return (clv_optional){true, clv_buf_bytes(&member->value)};
}

static clv_status check_binding(const settings *s, const clv_document *document, clv_error *err)
{
    clv_binding binding = {
        .public_key = binding_of(&s->public_key, &document->public_key),
        .user_data = binding_of(&s->user_data, &document->user_data),
        .nonce = binding_of(&s->nonce, &document->nonce),
    };
    return clv_document_match_binding(document, &binding, err);
}

/* Clocks differ: a document may seem to come from this far in the future. */
#define FUTURE_MS UINT64_C(5000)

static clv_status check_age(const settings *s, const clv_document *document, clv_error *err)
{
    uint64_t now = clv_wall_ms(), then = document->timestamp_ms;
    if (then > now + FUTURE_MS)
        return clv_fail(err, CLV_ATT_STALE,
                        "expected a document from the past, found one from %llu "
                        "s in the future",
                        (unsigned long long)((then - now) / 1000));
    if (then < now && now - then > s->max_age_ms)
        return clv_fail(err, CLV_ATT_STALE, "expected a document of at most %llu s, found %llu s",
                        (unsigned long long)(s->max_age_ms / 1000),
                        (unsigned long long)((now - then) / 1000));
    return CLV_OK;
}

static clv_status verify_genuine(const settings *s, clv_bytes bytes, clv_document *document,
                                 clv_error *err)
{
    clv_verify_options verify;
    clv_verify_options_init(&verify);
    verify.kind = s->nitrotpm ? CLV_KIND_NITROTPM : CLV_KIND_ENCLAVE;
    verify.at_ms = s->at_ms;
    if (s->policy != NULL)
        memcpy(verify.root_sha256, s->policy->root_sha256, sizeof verify.root_sha256);
    else if (s->root_given)
        memcpy(verify.root_sha256, s->root_sha256, sizeof verify.root_sha256);
    clv_status status = clv_document_verify(bytes, &verify, document, err);
    if (status != CLV_ATT_CERT_EXPIRED || s->at_ms == CLV_AT_DOCUMENT)
        return status;
    clv_error cause = *err;
    return clv_fail(err, status, "%s (--at doc verifies at the document's own time)", cause.text);
}

static clv_status judge(const settings *s, clv_bytes bytes, clv_document *document, clv_error *err)
{
    CLV_TRY(verify_genuine(s, bytes, document, err));
    if (s->max_age_given)
        CLV_TRY(check_age(s, document, err));
    if (s->forbid_debug && clv_pcrs_debug(&document->pcrs))
        return clv_fail(err, CLV_ATT_DEBUG, "expected a measured image, found debug mode");
    if (s->policy != NULL)
        CLV_TRY(clv_verify_policy_check(s->policy, s->baseline, document, err));
    if (s->pcrs.present != 0)
        CLV_TRY(clv_pcrs_match(&document->pcrs, &s->pcrs, err));
    return check_binding(s, document, err);
}

static clv_status print_refusal(const clv_error *why, clv_error *err)
{
    clv_auto(clv_json) object =
        json_pack("{s:s, s:s, s:s, s:i}", "verdict", "refused", "code", clv_status_slug(why->code),
                  "message", why->text, "exit", (int)clv_status_exit(why->code));
    if (object == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    return clv_print_json(object, err);
}

static clv_status checked_list(const settings *s, json_t *list, clv_error *err)
{
    const struct {
        bool checked;
        const char *name;
    } checks[] = {
        {true, "signature"},
        {true, "chain"},
        {true, "root"},
        {s->max_age_given, "age"},
        {s->forbid_debug, "debug"},
        {s->policy != NULL, "policy"},
        {s->baseline != NULL, "baseline"},
        {s->pcrs.present != 0, "pcrs"},
        {s->nonce.given, "nonce"},
        {s->user_data.given, "user_data"},
        {s->public_key.given, "public_key"},
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (checks[i].checked && json_array_append_new(list, json_string(checks[i].name)) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    }
    return CLV_OK;
}

static clv_status print_verdict_json(const settings *s, const clv_document *document,
                                     clv_error *err)
{
    clv_auto(clv_json) object = NULL;
    CLV_TRY(clv_report_document(document, &object, err));
    clv_auto(clv_json) checked = json_array();
    CLV_TRY(checked_list(s, checked, err));
    if (json_object_set_new(object, "verdict", json_string("genuine")) != 0 ||
        json_object_set_new(object, "code", json_string(clv_status_slug(CLV_OK))) != 0 ||
        json_object_set(object, "checked", checked) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    return clv_print_json(object, err);
}

/* Whether anything that was asked for tells one image from another. */
static bool identifies_image(const settings *s)
{
    return s->pcrs.present != 0 || s->baseline != NULL ||
           (s->policy != NULL && s->policy->pins.present != 0);
}

static clv_status print_verdict(const settings *s, const clv_document *document, clv_error *err)
{
    char at[CLV_TIME_TEXT_SIZE];
    clv_auto(clv_json) checked = json_array();
    clv_auto(clv_buf) names = CLV_BUF_INIT;
    CLV_TRY(checked_list(s, checked, err));
    for (size_t i = 0; i < json_array_size(checked); i++)
        CLV_TRY(clv_buf_printf(&names, err, "%s%s", i > 0 ? ", " : "",
                               json_string_value(json_array_get(checked, i))));
    clv_time_text(s->at_ms == CLV_AT_DOCUMENT ? document->timestamp_ms : s->at_ms, at);
    clv_print_line("GENUINE", "valid at its own time%s%s",
                   s->at_ms == CLV_AT_DOCUMENT ? " only" : " and at ",
                   s->at_ms == CLV_AT_DOCUMENT ? "" : at);
    clv_print_line("checked", "%.*s", (int)names.n, (const char *)names.p);
    if (!identifies_image(s))
        clv_print_line("NOT CHECKED", "which image it is: name registers with --pcr, or a policy "
                                      "with pins or a baseline");
    return clv_print_document(document, err);
}

static clv_status check_settings(const settings *s, clv_error *err)
{
    if (s->policy_path != NULL && s->root_given)
        return clv_fail(err, CLV_USAGE, "expected --policy or --root-sha256, found both");
    if (s->policy_path == NULL && s->baseline != NULL)
        return clv_fail(err, CLV_USAGE, "expected --policy with --baseline, found none");
    return CLV_OK;
}

static clv_status run(int count, char **arguments, clv_error *err)
{
    clv_auto(settings) s = {.at_ms = clv_wall_ms()};
    int operand;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    const char *form;
    clv_document document;
    CLV_TRY(clv_command_options(&clv_command_verify, count, arguments, &s, 1, 1, &operand, err));
    CLV_TRY(check_settings(&s, err));
    clv_status status = clv_input_read(arguments[operand], &bytes, &form, err);
    if (status == CLV_OK && s.policy_path != NULL)
        status = clv_verify_policy_read(s.policy_path, &s.policy, err);
    if (status == CLV_OK)
        status = judge(&s, clv_buf_bytes(&bytes), &document, err);
    if (status != CLV_OK) {
        if (s.json)
            CLV_TRY(print_refusal(err, NULL));
        return status;
    }
    return s.json ? print_verdict_json(&s, &document, err) : print_verdict(&s, &document, err);
}

const clv_command clv_command_verify = {
    "verify", "FILE|-", "Verify an attestation document and, where told, what it must say",
    options,  run,
};

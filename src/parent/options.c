#include <parent/options.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>

#define CONFIG_MAX  ((size_t)256 * 1024)
#define NAME_MAX_   32
#define VALUE_FIRST 256 /* beyond every character that getopt could answer */

/* Where an option may stand, and whether a reload may change it. */
enum { LINE = 0, FILE_TOO = 1, RELOADS = 3 };

static const struct row {
    const char *name;
    int has_value, where;
} table[CLV_OPTIONS] = {
    [CLV_OPTION_SERVICES] = {"services", required_argument, FILE_TOO},
    [CLV_OPTION_RELAY] = {"relay", required_argument, RELOADS},
    [CLV_OPTION_STORE] = {"store", required_argument, FILE_TOO},
    [CLV_OPTION_CREDENTIALS] = {"credentials", required_argument, RELOADS},
    [CLV_OPTION_ENCLAVE] = {"enclave", required_argument, RELOADS},
    [CLV_OPTION_BASELINE] = {"baseline", required_argument, RELOADS},
    [CLV_OPTION_SIGNATURE] = {"baseline-signature", required_argument, RELOADS},
    [CLV_OPTION_METRICS] = {"metrics", required_argument, FILE_TOO},
    [CLV_OPTION_LOG] = {"log", required_argument, FILE_TOO},
    [CLV_OPTION_LEVEL] = {"log-level", required_argument, RELOADS},
    [CLV_OPTION_READY] = {"ready-file", required_argument, LINE},
    [CLV_OPTION_DOCUMENT] = {"document", required_argument, LINE},
    [CLV_OPTION_ALLOWLIST] = {"relay-allowlist", required_argument, RELOADS},
    [CLV_OPTION_CONNECTIONS] = {"relay-connections", required_argument, RELOADS},
    [CLV_OPTION_PER_PEER] = {"relay-connections-per-peer", required_argument, RELOADS},
    [CLV_OPTION_IDLE] = {"relay-idle", required_argument, RELOADS},
    [CLV_OPTION_CONFIG] = {"config", required_argument, LINE},
    [CLV_OPTION_HELP] = {"help", no_argument, LINE},
    [CLV_OPTION_VERSION] = {"version", no_argument, LINE},
};

void clv_parent_options_drop(clv_parent_options *options)
{
    clv_json_drop(&options->config);
    *options = (clv_parent_options){.relay_count = 0};
}

/* -- the command line -------------------------------------------------------------------------- */

static clv_status add_relay(clv_parent_options *out, const char *rule, clv_error *err)
{
    if (out->relay_count == CLV_RELAY_RULES_MAX)
        return clv_fail(err, CLV_USAGE, "--relay: expected at most %d, found more",
                        CLV_RELAY_RULES_MAX);
    out->relay[out->relay_count++] = rule;
    return CLV_OK;
}

clv_status clv_parent_options_parse(int argc, char **argv, clv_parent_options *out, int *operands,
                                    clv_error *err)
{
    struct option long_options[CLV_OPTIONS + 1] = {0};
    for (int i = 0; i < CLV_OPTIONS; i++)
        long_options[i] = (struct option){table[i].name, table[i].has_value, NULL, VALUE_FIRST + i};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", long_options, NULL)) != -1;) {
        if (c == ':' || c == '?')
            return clv_fail(err, CLV_USAGE, "%.80s %s (see --help)", argv[optind - 1],
                            c == ':' ? "needs a value" : "is not an option");
        int which = c - VALUE_FIRST;
        if (which == CLV_OPTION_RELAY)
            CLV_TRY(add_relay(out, optarg, err));
        else if (out->value[which] != NULL)
            return clv_fail(err, CLV_USAGE, "--%s: expected it once, found it twice",
                            table[which].name);
        else
            out->value[which] = optarg != NULL ? optarg : "";
    }
    *operands = optind;
    return CLV_OK;
}

/* -- the file ---------------------------------------------------------------------------------- */

static void member_name(const char *option, char out[NAME_MAX_])
{
    size_t i = 0;
    for (; option[i] != '\0' && i < NAME_MAX_ - 1; i++)
        out[i] = option[i] == '-' ? '_' : option[i];
    out[i] = '\0';
}

/* A number becomes its text, in the document that keeps it. */
static clv_status text_of(json_t *config, const char *member, json_t *value, const char **out,
                          clv_error *err)
{
    char digits[24];
    if (json_is_integer(value)) {
        snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(value));
        if (json_object_set_new(config, member, json_string(digits)) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a configuration");
        value = json_object_get(config, member);
    }
    *out = json_string_value(value);
    if (*out != NULL)
        return CLV_OK;
    return clv_fail(err, CLV_JSON_TYPE, "%s: expected a string or an integer, found %s", member,
                    clv_json_type_name(value));
}

static clv_status take_rules(const json_t *value, clv_parent_options *out, clv_error *err)
{
    if (!json_is_array(value))
        return clv_fail(err, CLV_JSON_TYPE, "relay: expected an array, found %s",
                        clv_json_type_name(value));
    for (size_t i = 0; i < json_array_size(value); i++) {
        const char *rule = json_string_value(json_array_get(value, i));
        if (rule == NULL)
            return clv_fail(err, CLV_JSON_TYPE, "relay[%zu]: expected a string", i);
        CLV_TRY(add_relay(out, rule, err));
    }
    return CLV_OK;
}

static clv_status take_members(json_t *config, clv_parent_options *out, clv_error *err)
{
    clv_json_reader r;
    json_t *found[CLV_OPTIONS] = {NULL};
    char member[NAME_MAX_];
    bool rules = out->relay_count == 0;
    CLV_TRY(clv_json_open(&r, config, "", err));
    for (int i = 0; i < CLV_OPTIONS; i++) {
        member_name(table[i].name, member);
        if ((table[i].where & FILE_TOO) != 0)
            CLV_TRY(clv_json_value(&r, member, &found[i], err));
    }
    CLV_TRY(clv_json_done(&r, err));
    if (found[CLV_OPTION_RELAY] != NULL && rules)
        CLV_TRY(take_rules(found[CLV_OPTION_RELAY], out, err));
    for (int i = 0; i < CLV_OPTIONS; i++) {
        member_name(table[i].name, member);
        if (found[i] != NULL && i != CLV_OPTION_RELAY && out->value[i] == NULL)
            CLV_TRY(text_of(config, member, found[i], &out->value[i], err));
    }
    return CLV_OK;
}

clv_status clv_parent_options_merge(const clv_parent_options *line, clv_parent_options *out,
                                    clv_error *err)
{
    clv_auto(clv_parent_options) merged = *line;
    const char *path = line->value[CLV_OPTION_CONFIG];
    clv_status status = CLV_OK;
    if (path != NULL) {
        clv_auto(clv_buf) text = CLV_BUF_INIT;
        CLV_TRY(clv_file_read(path, CONFIG_MAX, &text, err));
        status = clv_json_parse(clv_buf_bytes(&text), CONFIG_MAX, &merged.config, err);
        if (status == CLV_OK)
            status = take_members(merged.config, &merged, err);
        if (status != CLV_OK)
            return clv_blame(err, status, "%s", path);
    }
    *out = merged;
    merged = (clv_parent_options){.relay_count = 0};
    return CLV_OK;
}

/* -- what they mean ---------------------------------------------------------------------------- */

clv_status clv_parent_options_need(const clv_parent_options *options, clv_parent_option which,
                                   const char **out, clv_error *err)
{
    *out = options->value[which];
    if (*out != NULL)
        return CLV_OK;
    return clv_fail(err, CLV_USAGE, "--%s: expected a value, found none", table[which].name);
}

clv_status clv_parent_options_fixed(const clv_parent_options *then, const clv_parent_options *now,
                                    clv_error *err)
{
    for (int i = 0; i < CLV_OPTIONS; i++) {
        const char *a = then->value[i], *b = now->value[i];
        bool same = (a == NULL) == (b == NULL) && (a == NULL || strcmp(a, b) == 0);
        if (table[i].where != RELOADS && !same)
            return clv_fail(err, CLV_USAGE,
                            "--%s: expected \"%.80s\" as at the start, found \"%.80s\": it takes a "
                            "restart",
                            table[i].name, a != NULL ? a : "", b != NULL ? b : "");
    }
    return CLV_OK;
}

/* An option that is a number; where it is absent *out stays as it is. */
static clv_status read_number(const clv_parent_options *a, clv_parent_option which, int64_t max,
                              int64_t *out, clv_error *err)
{
    const char *text = a->value[which];
    if (text == NULL)
        return CLV_OK;
    size_t digits = strspn(text, "0123456789");
    int64_t value = digits > 0 && digits < 10 && text[digits] == '\0' ? atoll(text) : 0;
    if (value < 1 || value > max)
        return clv_fail(err, CLV_USAGE, "--%s: expected 1 to %lld, found \"%.20s\"",
                        table[which].name, (long long)max, text);
    *out = value;
    return CLV_OK;
}

clv_status clv_parent_options_relay(const clv_parent_options *options, clv_relay_options *out,
                                    clv_error *err)
{
    clv_relay_limits *l = &out->limits;
    int64_t all = (int64_t)l->connections, peer = 0, idle = l->idle_ms / 1000;
    CLV_TRY(read_number(options, CLV_OPTION_CONNECTIONS, 100000, &all, err));
    peer = all < (int64_t)l->per_peer ? all : (int64_t)l->per_peer;
    CLV_TRY(read_number(options, CLV_OPTION_PER_PEER, all, &peer, err));
    CLV_TRY(read_number(options, CLV_OPTION_IDLE, 86400, &idle, err));
    l->connections = (size_t)all;
    l->per_peer = (size_t)peer;
    l->idle_ms = (int)idle * 1000;
    out->allowlist = options->value[CLV_OPTION_ALLOWLIST];
    out->rules = options->relay_count;
    memcpy(out->rule, options->relay, sizeof out->rule);
    return CLV_OK;
}

clv_status clv_parent_options_log(const clv_parent_options *options, bool *json,
                                  clv_log_level *level, clv_error *err)
{
    const char *form = options->value[CLV_OPTION_LOG], *name = options->value[CLV_OPTION_LEVEL];
    *level = CLV_LOG_INFO;
    *json = form != NULL && strcmp(form, "json") == 0;
    if (form != NULL && !*json && strcmp(form, "text") != 0)
        return clv_fail(err, CLV_USAGE, "--log: expected text or json, found \"%.20s\"", form);
    if (name == NULL || clv_log_level_of(name, level))
        return CLV_OK;
    return clv_fail(err, CLV_USAGE,
                    "--log-level: expected error, warning, info or debug, found \"%.20s\"", name);
}

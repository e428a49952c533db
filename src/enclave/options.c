#include <enclave/options.h>

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include <enclave/agents.h>

enum {
    POLICY = 256,
    NSM,
    CONTROL,
    SERVICES,
    RELAY,
    AGENT,
    DSTACK,
    ROFL,
    FRONT_KEY,
    READY_FILE,
    AGENT_MODE,
    AGENT_RATE,
    AGENT_MEMORY,
    LOG,
    LEVEL,
    USER,
    WITNESS_RELAY
};

#define DEFAULT_RATE 1000
#define RATE_MAX     1000000
#define MEMORY_MAX   65536 /* MiB */
#define MIB          ((size_t)1024 * 1024)

static const struct option long_options[] = {
    {"policy", required_argument, NULL, POLICY},
    {"nsm", required_argument, NULL, NSM},
    {"control", required_argument, NULL, CONTROL},
    {"services", required_argument, NULL, SERVICES},
    {"relay", required_argument, NULL, RELAY},
    {"agent", required_argument, NULL, AGENT},
    {"agent-mode", required_argument, NULL, AGENT_MODE},
    {"agent-rate", required_argument, NULL, AGENT_RATE},
    {"agent-memory", required_argument, NULL, AGENT_MEMORY},
    {"dstack", required_argument, NULL, DSTACK},
    {"rofl", required_argument, NULL, ROFL},
    {"front-key", required_argument, NULL, FRONT_KEY},
    {"ready-file", required_argument, NULL, READY_FILE},
    {"log", required_argument, NULL, LOG},
    {"log-level", required_argument, NULL, LEVEL},
    {"user", required_argument, NULL, USER},
    {"witness-relay", required_argument, NULL, WITNESS_RELAY},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

const char *clv_options_usage(void)
{
    return "usage: clavigerd --policy FILE --nsm ADDRESS --control ADDRESS --services ADDRESS\n"
           "                 --relay ADDRESS --agent unix:/path [options]\n"
           "\n"
           "  --policy FILE       the policy; measured into PCR16 before anything else\n"
           "  --nsm ADDRESS       device:/dev/nsm, or unix:/path of a software NSM\n"
           "  --control ADDRESS   listen here for the parent's calls\n"
           "  --services ADDRESS  the parent's services: baseline, credentials, store\n"
           "  --relay ADDRESS     the parent's byte stream to KMS\n"
           "  --witness-relay ADDRESS  the parent's byte stream to the witness: once for each\n"
           "                      endpoint of the policy, in its order\n"
           "  --agent ADDRESS     listen here for agents (HTTP over a Unix socket)\n"
           "  --agent-mode MODE   file mode of the agents' sockets, octal (default 666)\n"
           "  --agent-rate N      requests a second for each uid, 0 for no limit (default 1000)\n"
           "  --agent-memory MIB  memory for the requests of each uid (default 256)\n"
           "  --dstack ADDRESS    also listen here for dstack's clients (unix:/path)\n"
           "  --rofl ADDRESS      also listen here for Oasis ROFL's clients (unix:/path)\n"
           "  --front-key NAME    the policy's key for those two, when it has several\n"
           "  --ready-file FILE   written once the daemon serves\n"
           "  --user UID[:GID]    become this user once the daemon serves\n"
           "  --log text|json     form of the log lines (default text)\n"
           "  --log-level LEVEL   error, warning, info or debug (default info)\n"
           "  --help, --version\n"
           "\n"
           "ADDRESS is vsock:CID:PORT, unix:/path or tcp:IP:PORT. Exit statuses: "
           "docs/exit-codes.md.\n";
}

static clv_status choose(const char *option, const char *text, const char *const *names, size_t n,
                         size_t *out, clv_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return CLV_OK;
        }
    }
    return clv_fail(err, CLV_USAGE, "--%s: \"%.40s\" is not one of its values (see --help)", option,
                    text);
}

static clv_status take_log(clv_options *out, int which, const char *text, clv_error *err)
{
    static const char *const forms[] = {"text", "json"};
    static const char *const levels[] = {
        [CLV_LOG_ERROR] = "error",
        [CLV_LOG_WARNING] = "warning",
        [CLV_LOG_INFO] = "info",
        [CLV_LOG_DEBUG] = "debug",
    };
    size_t i = 0;
    if (which == LOG) {
        CLV_TRY(choose("log", text, forms, 2, &i, err));
        out->log_json = i == 1;
        return CLV_OK;
    }
    CLV_TRY(choose("log-level", text, levels, 4, &i, err));
    out->log_level = (clv_log_level)i;
    return CLV_OK;
}

static clv_status take_mode(const char *text, unsigned *out, clv_error *err)
{
    char *end;
    unsigned long mode = strtoul(text, &end, 8);
    if (*text < '0' || *text > '7' || *end != '\0' || mode > 0777)
        return clv_fail(err, CLV_USAGE, "--agent-mode: expected octal 000 to 777, found \"%.40s\"",
                        text);
    *out = (unsigned)mode;
    return CLV_OK;
}

static clv_status take_number(const char *option, const char *text, unsigned long least,
                              unsigned long most, unsigned long *out, clv_error *err)
{
    char *end;
    *out = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || *out < least || *out > most)
        return clv_fail(err, CLV_USAGE, "--%s: expected %lu to %lu, found \"%.40s\"", option, least,
                        most, text);
    return CLV_OK;
}

static clv_status take_share(clv_options *out, int which, const char *text, clv_error *err)
{
    unsigned long number = 0;
    if (which == AGENT_RATE) {
        CLV_TRY(take_number("agent-rate", text, 0, RATE_MAX, &number, err));
        out->agent_rate = (unsigned)number;
        return CLV_OK;
    }
    CLV_TRY(take_number("agent-memory", text, CLV_AGENT_MEMORY_LEAST, MEMORY_MAX, &number, err));
    out->agent_memory = number * MIB;
    return CLV_OK;
}

static clv_status take_witness_relay(const char *text, clv_options *out, clv_error *err)
{
    if (out->witness_relay_count == CLV_WITNESS_ENDPOINTS_MAX)
        return clv_fail(err, CLV_USAGE, "--witness-relay: expected at most %d, found more",
                        CLV_WITNESS_ENDPOINTS_MAX);
    out->witness_relay[out->witness_relay_count++] = text;
    return CLV_OK;
}

static clv_status need_all(const clv_options *options, clv_error *err)
{
    const struct {
        const char *name, *value;
    } needed[] = {
        {"policy", options->policy},     {"nsm", options->nsm},     {"control", options->control},
        {"services", options->services}, {"relay", options->relay}, {"agent", options->agent},
    };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        if (needed[i].value == NULL)
            return clv_fail(err, CLV_USAGE, "--%s is missing (see --help)", needed[i].name);
    }
    const struct {
        const char *name, *value;
    } local[] = {{"agent", options->agent}, {"dstack", options->dstack}, {"rofl", options->rofl}};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        if (local[i].value != NULL && strncmp(local[i].value, "unix:", 5) != 0)
            return clv_fail(err, CLV_USAGE,
                            "--%s: expected unix:/path, the only form where the kernel vouches for "
                            "the caller, found \"%.100s\"",
                            local[i].name, local[i].value);
    }
    return CLV_OK;
}

clv_status clv_options_parse(int argc, char **argv, clv_options *out, clv_error *err)
{
    *out = (clv_options){.agent_mode = 0666,
                         .agent_rate = DEFAULT_RATE,
                         .agent_memory = CLV_AGENT_MEMORY_MIB * MIB,
                         .log_level = CLV_LOG_INFO};
    const char **text[] = {
        [POLICY - POLICY] = &out->policy,       [NSM - POLICY] = &out->nsm,
        [CONTROL - POLICY] = &out->control,     [SERVICES - POLICY] = &out->services,
        [RELAY - POLICY] = &out->relay,         [AGENT - POLICY] = &out->agent,
        [DSTACK - POLICY] = &out->dstack,       [ROFL - POLICY] = &out->rofl,
        [FRONT_KEY - POLICY] = &out->front_key, [READY_FILE - POLICY] = &out->ready_file,
    };
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":hV", long_options, NULL)) != -1;) {
        if (c == ':')
            return clv_fail(err, CLV_USAGE, "%s needs a value (see --help)", argv[optind - 1]);
        if (c == '?')
            return clv_fail(err, CLV_USAGE, "%s is not an option (see --help)", argv[optind - 1]);
        if (c == 'h' || c == 'V') {
            out->help = c == 'h';
            out->version = c == 'V';
            return CLV_OK;
        }
        if (c == AGENT_MODE)
            CLV_TRY(take_mode(optarg, &out->agent_mode, err));
        else if (c == AGENT_RATE || c == AGENT_MEMORY)
            CLV_TRY(take_share(out, c, optarg, err));
        else if (c == WITNESS_RELAY)
            CLV_TRY(take_witness_relay(optarg, out, err));
        else if (c == USER)
            CLV_TRY(clv_sandbox_user_parse(optarg, &out->user, err));
        else if (c == LOG || c == LEVEL)
            CLV_TRY(take_log(out, c, optarg, err));
        else
            *text[c - POLICY] = optarg;
    }
    if (optind < argc)
        return clv_fail(err, CLV_USAGE, "\"%.100s\" is not an option (see --help)", argv[optind]);
    return need_all(out, err);
}

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <base/file.h>
#include <base/log.h>
#include <channel/server.h>
#include <claviger/secret.h>
#include <parent/proxy.h>
#include <parent/relay.h>
#include <parent/services.h>
#include <parent/setup.h>

#define PROGRAM "claviger-parent"

/* What the enclave may ask of the services at a time. */
static const clv_server_limits services_limits = {
    .connections = 256, .idle_ms = 30000, .data_max = CLV_CALL_DATA_MAX};

static const char usage_text[] =
    "usage: " PROGRAM " serve --services ADDRESS --relay ADDRESS=HOST:PORT … --store STORE\n"
    "                       --credentials SOURCE [--enclave ADDRESS]\n"
    "                       [--baseline FILE --baseline-signature FILE.minisig]\n"
    "                       [--relay-allowlist FILE.yaml] [--relay-connections N]\n"
    "                       [--relay-connections-per-peer N] [--relay-idle SECONDS]\n"
    "                       [--log text|json] [--ready-file FILE]\n"
    "       " PROGRAM " setup --enclave ADDRESS --store STORE [--document FILE] REQUEST\n"
    "       " PROGRAM " proxy [-4|-6] [-w N] [--config FILE] LOCAL_PORT HOST PORT\n"
    "\n"
    "The parent's side: it carries bytes for an enclave and is trusted with none of them. `serve`\n"
    "offers the enclave its services and the relay to KMS; `setup` sends a key setup request\n"
    "(a JSON file, or - for standard input) and keeps the wrapped key that comes back; `proxy` is\n"
    "the relay alone, with the command line of AWS's vsock-proxy.\n"
    "SIGHUP reads the allowlist again; SIGTERM lets busy connections end, then stops.\n"
    "STORE is sqlite:FILE or etcd:CONFIG.json.\n"
    "SOURCE is env, file:PATH, profile[:NAME], imds, container, web-identity or auto.\n"
    "ADDRESS is vsock:CID:PORT, unix:/path or tcp:IP:PORT.\n";

enum {
    HELP = 256,
    VERSION,
    SERVICES,
    RELAY,
    STORE,
    CREDENTIALS,
    ENCLAVE,
    BASELINE,
    SIGNATURE,
    LOG,
    READY,
    DOCUMENT,
    ALLOWLIST,
    CONNECTIONS,
    PER_PEER,
    IDLE,
    OPTIONS_END
};

static const struct option option_table[] = {
    {"help", no_argument, NULL, HELP},
    {"version", no_argument, NULL, VERSION},
    {"services", required_argument, NULL, SERVICES},
    {"relay", required_argument, NULL, RELAY},
    {"store", required_argument, NULL, STORE},
    {"credentials", required_argument, NULL, CREDENTIALS},
    {"enclave", required_argument, NULL, ENCLAVE},
    {"baseline", required_argument, NULL, BASELINE},
    {"baseline-signature", required_argument, NULL, SIGNATURE},
    {"log", required_argument, NULL, LOG},
    {"ready-file", required_argument, NULL, READY},
    {"document", required_argument, NULL, DOCUMENT},
    {"relay-allowlist", required_argument, NULL, ALLOWLIST},
    {"relay-connections", required_argument, NULL, CONNECTIONS},
    {"relay-connections-per-peer", required_argument, NULL, PER_PEER},
    {"relay-idle", required_argument, NULL, IDLE},
    {NULL, 0, NULL, 0},
};

typedef struct arguments {
    const char *value[OPTIONS_END - HELP]; /* by option */
    const char *relay[CLV_RELAY_RULES_MAX];
    size_t relay_count;
} arguments;

static const char *value_of(const arguments *a, int option)
{
    return a->value[option - HELP];
}

static const char *name_of(int option)
{
    const struct option *o = option_table;
    while (o->name != NULL && o->val != option)
        o++;
    return o->name;
}

static clv_status need(const arguments *a, int option, const char **out, clv_error *err)
{
    *out = value_of(a, option);
    if (*out != NULL)
        return CLV_OK;
    return clv_fail(err, CLV_USAGE, "--%s: expected a value, found none", name_of(option));
}

static clv_status take_option(arguments *a, int option, clv_error *err)
{
    if (option == '?')
        return clv_fail(err, CLV_USAGE, "an option is not known (see --help)");
    if (option == RELAY && a->relay_count == CLV_RELAY_RULES_MAX)
        return clv_fail(err, CLV_USAGE, "--relay: expected at most %d, found more",
                        CLV_RELAY_RULES_MAX);
    if (option == RELAY)
        a->relay[a->relay_count++] = optarg;
    else if (value_of(a, option) != NULL)
        return clv_fail(err, CLV_USAGE, "an option occurs twice: \"%.80s\"", optarg);
    else
        a->value[option - HELP] = optarg;
    return CLV_OK;
}

/* What runs while the parent serves. */
typedef struct running {
    clv_provider *credentials;
    clv_store *store;
    clv_server *server;
    clv_relay *relay;
} running;

static void running_drop(running *r)
{
    clv_relay_free(&r->relay);
    clv_server_free(&r->server);
    clv_store_free(&r->store);
    clv_provider_free(&r->credentials);
}

static clv_status start_services(const arguments *a, clv_parent *parent, running *r, json_t *ready,
                                 clv_error *err)
{
    clv_address address, bound;
    const char *text;
    int fd = -1;
    CLV_TRY(need(a, SERVICES, &text, err));
    CLV_TRY(clv_address_parse(text, &address, err));
    CLV_TRY(clv_listen(&address, 0660, &fd, &bound, err));
    json_object_set_new(ready, "services", json_string(bound.text));
    return clv_server_start(fd, &services_limits, clv_services_answer, parent, &r->server, err);
}

/* An option that is a number; where it is absent *out stays as it is. */
static clv_status read_number(const arguments *a, int option, int64_t max, int64_t *out,
                              clv_error *err)
{
    const char *text = value_of(a, option);
    if (text == NULL)
        return CLV_OK;
    size_t digits = strspn(text, "0123456789");
    int64_t value = digits > 0 && digits < 10 && text[digits] == '\0' ? atoll(text) : 0;
    if (value < 1 || value > max)
        return clv_fail(err, CLV_USAGE, "--%s: expected 1 to %lld, found \"%.20s\"",
                        name_of(option), (long long)max, text);
    *out = value;
    return CLV_OK;
}

static clv_status read_relay_options(const arguments *a, clv_relay_options *out, clv_error *err)
{
    int64_t all = (int64_t)out->connections_max, peer = 0, idle = out->idle_ms / 1000;
    CLV_TRY(read_number(a, CONNECTIONS, 100000, &all, err));
    peer = all < (int64_t)out->per_peer_max ? all : (int64_t)out->per_peer_max;
    CLV_TRY(read_number(a, PER_PEER, all, &peer, err));
    CLV_TRY(read_number(a, IDLE, 86400, &idle, err));
    out->connections_max = (size_t)all;
    out->per_peer_max = (size_t)peer;
    out->idle_ms = (int)idle * 1000;
    out->allowlist = value_of(a, ALLOWLIST);
    out->rules = a->relay_count;
    memcpy(out->rule, a->relay, sizeof out->rule);
    return CLV_OK;
}

static clv_status start_relay(const arguments *a, running *r, json_t *ready, clv_error *err)
{
    clv_relay_options options = CLV_RELAY_DEFAULTS;
    clv_address bound[CLV_RELAY_RULES_MAX];
    json_t *list = json_array();
    json_object_set_new(ready, "relay", list);
    CLV_TRY(read_relay_options(a, &options, err));
    CLV_TRY(clv_relay_start(&options, &r->relay, bound, err));
    for (size_t i = 0; i < a->relay_count; i++)
        json_array_append_new(list, json_string(bound[i].text));
    return CLV_OK;
}

static clv_status read_parent(const arguments *a, clv_parent *out, running *r, clv_error *err)
{
    const char *source;
    out->baseline = value_of(a, BASELINE);
    out->baseline_sig = value_of(a, SIGNATURE);
    if ((out->baseline == NULL) != (out->baseline_sig == NULL))
        return clv_fail(err, CLV_USAGE,
                        "expected --baseline and --baseline-signature together, found one");
    CLV_TRY(need(a, CREDENTIALS, &source, err));
    CLV_TRY(clv_provider_new(source, &r->credentials, err));
    out->credentials = r->credentials;
    return CLV_OK;
}

static clv_status write_ready(const arguments *a, json_t *ready, clv_error *err)
{
    if (value_of(a, READY) == NULL)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    json_object_set_new(ready, "pid", json_integer(getpid()));
    CLV_TRY(clv_json_append(&text, ready, err));
    return clv_file_write(value_of(a, READY), clv_buf_bytes(&text), 0644, err);
}

/* What is malformed changes nothing. Credentials and baseline are read at each call anyway. */
static void reload(clv_relay *relay)
{
    clv_error err = {.code = CLV_OK};
    if (clv_relay_reload(relay, &err) == CLV_OK)
        clv_log(CLV_LOG_INFO, "reloaded", NULL, "the allowlist was read");
    else
        clv_log_failure(CLV_LOG_ERROR, "reload.failed", NULL, &err);
    clv_relay_report(relay);
}

static clv_status serve(const arguments *a, clv_error *err)
{
    clv_parent parent = {NULL, NULL, NULL, NULL};
    clv_auto(running) r = {NULL, NULL, NULL, NULL};
    clv_auto(clv_json) ready = json_object();
    const char *store;
    clv_signals_block();
    /* A file that may not grow is a write that fails, not the end of the store. */
    signal(SIGXFSZ, SIG_IGN);
    CLV_TRY(read_parent(a, &parent, &r, err));
    CLV_TRY(need(a, STORE, &store, err));
    CLV_TRY(clv_store_open(store, &r.store, err));
    parent.store = r.store;
    CLV_TRY(start_relay(a, &r, ready, err));
    CLV_TRY(start_services(a, &parent, &r, ready, err));
    CLV_TRY(write_ready(a, ready, err));
    clv_log(CLV_LOG_INFO, "serving", NULL, "%zu relays; store %s", a->relay_count, store);
    while (clv_signals_wait() == SIGHUP)
        reload(r.relay);
    clv_relay_report(r.relay);
    return CLV_OK;
}

static clv_status setup(const arguments *a, const char *request, clv_error *err)
{
    clv_setup_options options = {.request = request, .document = value_of(a, DOCUMENT)};
    CLV_TRY(need(a, ENCLAVE, &options.enclave, err));
    CLV_TRY(need(a, STORE, &options.store, err));
    return clv_setup_run(&options, err);
}

static clv_status run(int argc, char **argv, clv_error *err)
{
    arguments a = {.relay_count = 0};
    int option;
    while ((option = getopt_long(argc, argv, "", option_table, NULL)) != -1) {
        if (option == HELP || option == VERSION) {
            fputs(option == HELP ? usage_text : PROGRAM " " CLAVIGER_VERSION "\n", stdout);
            return CLV_OK;
        }
        CLV_TRY(take_option(&a, option, err));
    }
    int rest = argc - optind;
    if (rest < 1)
        return clv_fail(err, CLV_USAGE, "expected serve or setup, found nothing (see --help)");
    const char *log = value_of(&a, LOG) != NULL ? value_of(&a, LOG) : "text";
    clv_log_start(PROGRAM, CLV_LOG_INFO, strcmp(log, "json") == 0);
    CLV_TRY(clv_secret_start(err));
    if (strcmp(argv[optind], "serve") == 0 && rest == 1)
        return serve(&a, err);
    if (strcmp(argv[optind], "setup") == 0 && rest == 2)
        return setup(&a, argv[optind + 1], err);
    return clv_fail(err, CLV_USAGE, "expected serve, or setup REQUEST (see --help)");
}

int main(int argc, char **argv)
{
    clv_error err = {.code = CLV_OK};
    clv_log_start(PROGRAM, CLV_LOG_INFO, false);
    signal(SIGPIPE, SIG_IGN);
    clv_descriptors_raise();
    const char *name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
    clv_status status;
    if (strcmp(name, "vsock-proxy") == 0)
        status = clv_proxy_run(argc, argv, &err);
    else if (argc > 1 && strcmp(argv[1], "proxy") == 0)
        status = clv_proxy_run(argc - 1, argv + 1, &err);
    else
        status = run(argc, argv, &err);
    if (status != CLV_OK)
        fprintf(stderr, PROGRAM ": %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/supervisor.h>
#include <channel/server.h>
#include <claviger/secret.h>
#include <parent/monitor.h>
#include <parent/options.h>
#include <parent/proxy.h>
#include <parent/relay.h>
#include <parent/services.h>
#include <parent/setup.h>

#define PROGRAM "claviger-parent"

/* For the enclave to answer that it has reloaded, each read and write. */
#define ENCLAVE_MS 15000

/* What the enclave may ask of the services at a time. */
static const clv_server_limits services_limits = {
    .connections = 256, .idle_ms = 30000, .data_max = CLV_CALL_DATA_MAX};

static const char usage_text[] =
    "usage: " PROGRAM " serve --services ADDRESS --relay ADDRESS=HOST:PORT … --store STORE\n"
    "                       --credentials SOURCE [--enclave ADDRESS] [--metrics ADDRESS]\n"
    "                       [--baseline FILE --baseline-signature FILE.minisig]\n"
    "                       [--relay-allowlist FILE.yaml] [--relay-connections N]\n"
    "                       [--relay-connections-per-peer N] [--relay-idle SECONDS]\n"
    "                       [--log text|json] [--log-level LEVEL] [--ready-file FILE]\n"
    "                       [--config FILE.json]\n"
    "       " PROGRAM " setup --enclave ADDRESS --store STORE [--document FILE] REQUEST\n"
    "       " PROGRAM " proxy [-4|-6] [-w N] [--config FILE] LOCAL_PORT HOST PORT\n"
    "\n"
    "The parent's side: it carries bytes for an enclave and is trusted with none of them. `serve`\n"
    "offers the enclave its services and the relay to KMS; `setup` sends a key setup request\n"
    "(a JSON file, or - for standard input) and keeps the wrapped key that comes back; `proxy` is\n"
    "the relay alone, with the command line of AWS's vsock-proxy.\n"
    "The file of --config has the options of both as JSON members, _ for -; the command line\n"
    "goes before it. SIGHUP reads it again, with the allowlist, asks for credentials anew, and "
    "passes\n"
    "the reload on to the enclave of --enclave; SIGTERM lets busy connections end, then stops.\n"
    "STORE is sqlite:FILE or etcd:CONFIG.json.\n"
    "SOURCE is env, file:PATH, profile[:NAME], imds, container, web-identity or auto.\n"
    "LEVEL is error, warning, info or debug.\n"
    "ADDRESS is vsock:CID:PORT, unix:/path or tcp:IP:PORT.\n";

/* What runs while the parent serves. */
typedef struct running {
    clv_parent parent;
    clv_store *store;
    clv_provider *credentials;
    clv_relay *relay;
    clv_server *server;
    clv_monitor *monitor;
} running;

/* Doors first: the calls behind them use the rest. */
static void running_drop(running *r)
{
    clv_monitor_free(&r->monitor);
    clv_relay_free(&r->relay);
    clv_server_free(&r->server);
    clv_store_free(&r->store);
    clv_provider_free(&r->credentials);
    clv_parent_drop(&r->parent);
}

static clv_status open_services(const clv_parent_options *o, running *r, json_t *ready,
                                clv_error *err)
{
    clv_address address, bound;
    const char *text;
    int fd = -1;
    CLV_TRY(clv_parent_options_need(o, CLV_OPTION_SERVICES, &text, err));
    CLV_TRY(clv_address_parse(text, &address, err));
    CLV_TRY(clv_listen(&address, 0660, &fd, &bound, err));
    json_object_set_new(ready, "services", json_string(bound.text));
    return clv_server_start(fd, &services_limits, clv_services_answer, &r->parent, &r->server, err);
}

static clv_status open_relay(const clv_parent_options *o, running *r, json_t *ready, clv_error *err)
{
    clv_relay_options options = CLV_RELAY_DEFAULTS;
    clv_address bound[CLV_RELAY_RULES_MAX];
    json_t *list = json_array();
    json_object_set_new(ready, "relay", list);
    CLV_TRY(clv_parent_options_relay(o, &options, err));
    CLV_TRY(clv_relay_start(&options, &r->relay, bound, err));
    for (size_t i = 0; i < options.rules; i++)
        json_array_append_new(list, json_string(bound[i].text));
    return CLV_OK;
}

static clv_status open_monitor(const clv_parent_options *o, running *r, json_t *ready,
                               clv_error *err)
{
    clv_address bound;
    clv_watched watched = {.parent = &r->parent,
                           .relay = r->relay,
                           .engine = clv_store_engine_name(r->store),
                           .version = CLAVIGER_VERSION,
                           .started_ms = clv_monotonic_ms()};
    if (o->value[CLV_OPTION_METRICS] == NULL)
        return CLV_OK;
    CLV_TRY(clv_monitor_start(o->value[CLV_OPTION_METRICS], &watched, &r->monitor, &bound, err));
    json_object_set_new(ready, "metrics", json_string(bound.text));
    return CLV_OK;
}

static clv_status check_baseline(const clv_parent_options *o, clv_error *err)
{
    return clv_parent_check_baseline(o->value[CLV_OPTION_BASELINE], o->value[CLV_OPTION_SIGNATURE],
                                     err);
}

static void set_baseline(const clv_parent_options *o, running *r)
{
    clv_parent_set_baseline(&r->parent, o->value[CLV_OPTION_BASELINE],
                            o->value[CLV_OPTION_SIGNATURE]);
}

static clv_status open_all(const clv_parent_options *o, running *r, json_t *ready, clv_error *err)
{
    const char *source, *store;
    CLV_TRY(clv_parent_options_need(o, CLV_OPTION_CREDENTIALS, &source, err));
    CLV_TRY(clv_parent_options_need(o, CLV_OPTION_STORE, &store, err));
    CLV_TRY(check_baseline(o, err));
    set_baseline(o, r);
    CLV_TRY(clv_provider_new(source, &r->credentials, err));
    CLV_TRY(clv_store_open(store, &r->store, err));
    r->parent.credentials = r->credentials;
    r->parent.store = r->store;
    CLV_TRY(open_relay(o, r, ready, err));
    CLV_TRY(open_services(o, r, ready, err));
    CLV_TRY(open_monitor(o, r, ready, err));
    CLV_TRY(clv_inherited_all_taken(err));
    clv_log(CLV_LOG_INFO, "serving", NULL, "%zu relays; store %s", o->relay_count, store);
    return CLV_OK;
}

static clv_status write_ready(const clv_parent_options *o, json_t *ready, clv_error *err)
{
    const char *path = o->value[CLV_OPTION_READY];
    if (path == NULL)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    json_object_set_new(ready, "pid", json_integer(getpid()));
    CLV_TRY(clv_json_append(&text, ready, err));
    return clv_file_write(path, clv_buf_bytes(&text), 0644, err);
}

/* Everything is checked first, in the order in which it can still be refused; then it is in force.
 */
static clv_status take_changes(const clv_parent_options *now, running *r, clv_error *err)
{
    clv_relay_options relay = CLV_RELAY_DEFAULTS;
    const char *source;
    bool json;
    clv_log_level level;
    CLV_TRY(clv_parent_options_log(now, &json, &level, err));
    CLV_TRY(clv_parent_options_relay(now, &relay, err));
    CLV_TRY(clv_parent_options_need(now, CLV_OPTION_CREDENTIALS, &source, err));
    CLV_TRY(clv_provider_check(source, err));
    CLV_TRY(check_baseline(now, err));
    CLV_TRY(clv_relay_reload(r->relay, &relay, err));
    set_baseline(now, r);
    CLV_TRY(clv_provider_reload(r->credentials, source, err));
    clv_log_set_level(level);
    return CLV_OK;
}

/* The enclave asks this program for what it renews: it must have been reloaded first. */
static void pass_on(const clv_parent_options *o)
{
    const char *enclave = o->value[CLV_OPTION_ENCLAVE];
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    clv_error err = {.code = CLV_OK};
    if (enclave == NULL)
        return;
    if (clv_call_once(enclave, ENCLAVE_MS, "reload", CLV_BYTES(NULL, 0), &answer, &err) == CLV_OK)
        clv_log(CLV_LOG_INFO, "enclave.reloaded", NULL, "the enclave at %s", enclave);
    else
        clv_log_failure(CLV_LOG_ERROR, "enclave.reload-failed", NULL, &err);
}

static void reload(const clv_parent_options *line, clv_parent_options *then, running *r)
{
    clv_error err = {.code = CLV_OK};
    clv_auto(clv_parent_options) now = {.relay_count = 0};
    clv_notify_reloading();
    clv_status status = clv_parent_options_merge(line, &now, &err);
    if (status == CLV_OK)
        status = clv_parent_options_fixed(then, &now, &err);
    if (status == CLV_OK)
        status = take_changes(&now, r, &err);
    if (status == CLV_OK) {
        clv_log(CLV_LOG_INFO, "reloaded", NULL, "%zu relays", now.relay_count);
        pass_on(&now);
        clv_parent_options_drop(then);
        *then = now;
        now = (clv_parent_options){.relay_count = 0};
    } else {
        clv_log_failure(CLV_LOG_ERROR, "reload.failed", NULL, &err);
    }
    clv_relay_report(r->relay);
    clv_notify_ready();
}

static clv_status serve(const clv_parent_options *line, clv_error *err)
{
    clv_auto(clv_parent_options) options = {.relay_count = 0};
    clv_auto(running) r = {.store = NULL};
    clv_auto(clv_json) ready = json_object();
    bool json;
    clv_log_level level;
    clv_parent_init(&r.parent);
    CLV_TRY(clv_parent_options_merge(line, &options, err));
    CLV_TRY(clv_parent_options_log(&options, &json, &level, err));
    clv_log_start(PROGRAM, level, json);
    clv_signals_block();
    /* A file that may not grow is a write that fails, not the end of the store. */
    signal(SIGXFSZ, SIG_IGN);
    CLV_TRY(open_all(&options, &r, ready, err));
    CLV_TRY(write_ready(&options, ready, err));
    clv_notify_ready();
    while (clv_signals_wait() == SIGHUP)
        reload(line, &options, &r);
    clv_notify("STOPPING=1\nSTATUS=letting calls end");
    clv_relay_report(r.relay);
    return CLV_OK;
}

static clv_status setup(const clv_parent_options *line, const char *request, clv_error *err)
{
    clv_auto(clv_parent_options) o = {.relay_count = 0};
    CLV_TRY(clv_parent_options_merge(line, &o, err));
    clv_setup_options options = {.request = request, .document = o.value[CLV_OPTION_DOCUMENT]};
    CLV_TRY(clv_parent_options_need(&o, CLV_OPTION_ENCLAVE, &options.enclave, err));
    CLV_TRY(clv_parent_options_need(&o, CLV_OPTION_STORE, &options.store, err));
    return clv_setup_run(&options, err);
}

static clv_status run(int argc, char **argv, clv_error *err)
{
    clv_parent_options line = {.relay_count = 0};
    int first;
    CLV_TRY(clv_parent_options_parse(argc, argv, &line, &first, err));
    if (line.value[CLV_OPTION_HELP] != NULL || line.value[CLV_OPTION_VERSION] != NULL) {
        bool help = line.value[CLV_OPTION_HELP] != NULL;
        fputs(help ? usage_text : PROGRAM " " CLAVIGER_VERSION "\n", stdout);
        return CLV_OK;
    }
    int rest = argc - first;
    CLV_TRY(clv_secret_start(err));
    if (rest == 1 && strcmp(argv[first], "serve") == 0)
        return serve(&line, err);
    if (rest == 2 && strcmp(argv[first], "setup") == 0)
        return setup(&line, argv[first + 1], err);
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
        clv_log_end(PROGRAM, &err);
    return clv_status_exit(status);
}

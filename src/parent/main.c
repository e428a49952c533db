#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <base/file.h>
#include <base/log.h>
#include <channel/server.h>
#include <claviger/secret.h>
#include <parent/credentials.h>
#include <parent/relay.h>
#include <parent/services.h>
#include <parent/setup.h>

#define PROGRAM         "claviger-parent"
#define RELAYS_MAX      16
#define CONNECTIONS_MAX 256
#define IDLE_MS         30000

static const char usage_text[] =
    "usage: " PROGRAM " serve --services ADDRESS --relay ADDRESS=HOST:PORT … --store sqlite:FILE\n"
    "                       --credentials env|file:PATH [--enclave ADDRESS]\n"
    "                       [--baseline FILE --baseline-signature FILE.minisig]\n"
    "                       [--log text|json] [--ready-file FILE]\n"
    "       " PROGRAM " setup --enclave ADDRESS --store sqlite:FILE [--document FILE] REQUEST\n"
    "\n"
    "The parent's side: it carries bytes for an enclave and is trusted with none of them. `serve`\n"
    "offers the enclave its services and the relay to KMS; `setup` sends a key setup request\n"
    "(a JSON file, or - for standard input) and keeps the wrapped key that comes back.\n"
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
    DOCUMENT
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
    {NULL, 0, NULL, 0},
};

typedef struct arguments {
    const char *value[DOCUMENT + 1 - HELP]; /* by option */
    const char *relay[RELAYS_MAX];
    size_t relay_count;
} arguments;

static const char *value_of(const arguments *a, int option)
{
    return a->value[option - HELP];
}

static clv_status need(const arguments *a, int option, const char **out, clv_error *err)
{
    *out = value_of(a, option);
    if (*out != NULL)
        return CLV_OK;
    for (const struct option *o = option_table; o->name != NULL; o++) {
        if (o->val == option)
            return clv_fail(err, CLV_USAGE, "--%s: expected a value, found none", o->name);
    }
    return clv_fail(err, CLV_USAGE, "an option is missing");
}

static clv_status take_option(arguments *a, int option, clv_error *err)
{
    if (option == '?')
        return clv_fail(err, CLV_USAGE, "an option is not known (see --help)");
    if (option == RELAY && a->relay_count == RELAYS_MAX)
        return clv_fail(err, CLV_USAGE, "--relay: expected at most %d, found more", RELAYS_MAX);
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
    clv_store *store;
    clv_server *server;
    clv_relay *relay[RELAYS_MAX];
} running;

static void running_drop(running *r)
{
    for (size_t i = 0; i < RELAYS_MAX; i++)
        clv_relay_free(&r->relay[i]);
    clv_server_free(&r->server);
    clv_store_free(&r->store);
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
    return clv_server_start(fd, CONNECTIONS_MAX, IDLE_MS, clv_services_answer, parent, &r->server,
                            err);
}

static clv_status start_relays(const arguments *a, running *r, json_t *ready, clv_error *err)
{
    json_t *list = json_array();
    json_object_set_new(ready, "relay", list);
    for (size_t i = 0; i < a->relay_count; i++) {
        clv_address bound;
        CLV_TRY(clv_relay_start(a->relay[i], &r->relay[i], &bound, err));
        json_array_append_new(list, json_string(bound.text));
    }
    return CLV_OK;
}

static clv_status read_parent(const arguments *a, clv_parent *out, clv_error *err)
{
    out->baseline = value_of(a, BASELINE);
    out->baseline_sig = value_of(a, SIGNATURE);
    if ((out->baseline == NULL) != (out->baseline_sig == NULL))
        return clv_fail(err, CLV_USAGE,
                        "expected --baseline and --baseline-signature together, found one");
    CLV_TRY(need(a, CREDENTIALS, &out->credentials, err));
    return clv_credentials_source_check(out->credentials, err);
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

static clv_status serve(const arguments *a, clv_error *err)
{
    clv_parent parent = {NULL, NULL, NULL, NULL};
    clv_auto(running) r = {NULL, NULL, {NULL}};
    clv_auto(clv_json) ready = json_object();
    const char *store;
    sigset_t signals;
    int signal;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* and so in every thread */

    CLV_TRY(read_parent(a, &parent, err));
    CLV_TRY(need(a, STORE, &store, err));
    CLV_TRY(clv_store_open(store, &r.store, err));
    parent.store = r.store;
    CLV_TRY(start_relays(a, &r, ready, err));
    CLV_TRY(start_services(a, &parent, &r, ready, err));
    CLV_TRY(write_ready(a, ready, err));
    clv_log(CLV_LOG_INFO, "serving", NULL, "%zu relays; store %s", a->relay_count, store);
    sigwait(&signals, &signal);
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
    clv_status status = run(argc, argv, &err);
    if (status != CLV_OK)
        fprintf(stderr, PROGRAM ": %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

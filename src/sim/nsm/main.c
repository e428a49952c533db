#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/file.h>
#include <base/log.h>
#include <base/net.h>
#include <claviger/secret.h>
#include <sim/nsm/nsm.h>

#define PROGRAM        "claviger-nsm"
#define DEFAULT_MODULE "i-0c1a716e50f7a2e00-enc01c1a716e50f7a2e"
/* How long a CUSE device may take to appear once it is asked for. */
#define DEVICE_WAIT_MS 10000

static const char usage_text[] =
    "usage: " PROGRAM " init DIR [--module-id ID]\n"
    "       " PROGRAM " serve DIR --listen unix:/PATH [--pcrs FILE] [--cuse NAME]\n"
    "                    [--role-arn ARN] [--debug-mode] [--indefinite]\n"
    "                    [--clock-offset SECONDS] [--ready-file FILE]\n"
    "\n"
    "A software Nitro Secure Module: it answers the requests of the real one and signs documents\n"
    "under a root of its own, which `init` makes. Each start is a boot: fresh registers, FILE's\n"
    "values ({\"0\": \"hex\", …}) in 0 to 15, which are locked.\n";

typedef struct arguments {
    const char *directory, *listen, *cuse, *ready_file, *module_id;
    nsm_boot boot;
    bool indefinite;
    int64_t clock_offset_s;
} arguments;

enum {
    OPT_HELP = 1,
    OPT_VERSION,
    OPT_MODULE,
    OPT_LISTEN,
    OPT_PCRS,
    OPT_CUSE,
    OPT_ROLE,
    OPT_DEBUG,
    OPT_INDEFINITE,
    OPT_OFFSET,
    OPT_READY
};

static const struct option option_table[] = {
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {"module-id", required_argument, NULL, OPT_MODULE},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"pcrs", required_argument, NULL, OPT_PCRS},
    {"cuse", required_argument, NULL, OPT_CUSE},
    {"role-arn", required_argument, NULL, OPT_ROLE},
    {"debug-mode", no_argument, NULL, OPT_DEBUG},
    {"indefinite", no_argument, NULL, OPT_INDEFINITE},
    {"clock-offset", required_argument, NULL, OPT_OFFSET},
    {"ready-file", required_argument, NULL, OPT_READY},
    {NULL, 0, NULL, 0},
};

static clv_status read_offset(const char *text, int64_t *out, clv_error *err)
{
    char *end;
    *out = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0')
        return clv_fail(err, CLV_USAGE, "--clock-offset: expected seconds, found \"%.40s\"", text);
    return CLV_OK;
}

static clv_status take_option(arguments *a, int option, clv_error *err)
{
    switch (option) {
    case OPT_MODULE:
        a->module_id = optarg;
        return CLV_OK;
    case OPT_LISTEN:
        a->listen = optarg;
        return CLV_OK;
    case OPT_PCRS:
        a->boot.pcr_file = optarg;
        return CLV_OK;
    case OPT_CUSE:
        a->cuse = optarg;
        return CLV_OK;
    case OPT_ROLE:
        a->boot.role_arn = optarg;
        return CLV_OK;
    case OPT_DEBUG:
        a->boot.debug = true;
        return CLV_OK;
    case OPT_INDEFINITE:
        a->indefinite = true;
        return CLV_OK;
    case OPT_OFFSET:
        return read_offset(optarg, &a->clock_offset_s, err);
    case OPT_READY:
        a->ready_file = optarg;
        return CLV_OK;
    default:
        return clv_fail(err, CLV_USAGE, "an option is not known (see --help)");
    }
}

static clv_status write_ready(const arguments *a, const char *bound, clv_error *err)
{
    if (a->ready_file == NULL)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = json_pack("{s:i, s:s}", "pid", (int)getpid(), "listen", bound);
    CLV_TRY(clv_json_append(&text, json, err));
    return clv_file_write(a->ready_file, clv_buf_bytes(&text), 0644, err);
}

static clv_status start_device(nsm_module *module, const char *name, clv_error *err)
{
    char path[80];
    struct stat st;
    snprintf(path, sizeof path, "/dev/%s", name);
    CLV_TRY(nsm_cuse_start(module, name, err));
    for (int waited = 0; waited < DEVICE_WAIT_MS; waited += 10) {
        if (stat(path, &st) == 0)
            return CLV_OK;
        usleep(10000);
    }
    return clv_fail(err, CLV_NSM_OPEN, "%s did not appear: is the cuse module loaded?", path);
}

static clv_status serve(const arguments *a, clv_error *err)
{
    /* Static: connections may use it until the process ends. */
    static nsm_module module = {.lock = PTHREAD_MUTEX_INITIALIZER, .chain = NSM_CHAIN_INIT};
    clv_address address, bound;
    clv_auto(clv_fd) listening = -1;
    clv_auto(clv_fd) stop = -1;
    sigset_t signals;
    if (a->listen == NULL)
        return clv_fail(err, CLV_USAGE, "--listen: expected an address, found none");
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    stop = signalfd(-1, &signals, SFD_CLOEXEC);

    CLV_TRY(nsm_chain_load(a->directory, &module.chain, err));
    module.chain.offset_s = a->clock_offset_s;
    module.indefinite = a->indefinite;
    nsm_boot boot = a->boot;
    boot.module_id = module.chain.module_id;
    CLV_TRY(nsm_bank_boot(&module.bank, &boot, err));
    CLV_TRY(nsm_chain_refresh(&module.chain, err));
    CLV_TRY(clv_address_parse(a->listen, &address, err));
    CLV_TRY(clv_listen(&address, 0666, &listening, &bound, err)); /* the device's mode is 0666 */
    if (a->cuse != NULL)
        CLV_TRY(start_device(&module, a->cuse, err));
    CLV_TRY(write_ready(a, bound.text, err));
    clv_log(CLV_LOG_INFO, "serving", NULL, "module %s on %s", module.chain.module_id, bound.text);
    clv_status status = nsm_serve(&module, listening, stop, err);
    if (strncmp(a->listen, "unix:", 5) == 0)
        unlink(a->listen + 5);
    return status;
}

static clv_status run(int argc, char **argv, clv_error *err)
{
    arguments a = {.module_id = DEFAULT_MODULE};
    int option;
    while ((option = getopt_long(argc, argv, "", option_table, NULL)) != -1) {
        if (option == OPT_HELP || option == OPT_VERSION) {
            fputs(option == OPT_HELP ? usage_text : PROGRAM " " CLAVIGER_VERSION "\n", stdout);
            return CLV_OK;
        }
        CLV_TRY(take_option(&a, option, err));
    }
    if (argc - optind != 2)
        return clv_fail(err, CLV_USAGE, "expected init DIR or serve DIR (see --help)");
    a.directory = argv[optind + 1];
    CLV_TRY(clv_secret_start(err));
    if (strcmp(argv[optind], "init") == 0)
        return nsm_chain_init(a.directory, a.module_id, err);
    if (strcmp(argv[optind], "serve") == 0)
        return serve(&a, err);
    return clv_fail(err, CLV_USAGE, "expected init or serve, found \"%s\"", argv[optind]);
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

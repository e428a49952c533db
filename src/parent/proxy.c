#include <parent/proxy.h>

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/supervisor.h>
#include <parent/relay.h>

#define CONFIG         "/etc/nitro_enclaves/vsock-proxy.yaml"
#define WORKERS_DIGITS 6

static const char usage_text[] =
    "usage: vsock-proxy [-4|-6] [-w N] [--config FILE] LOCAL_PORT HOST PORT\n"
    "\n"
    "Relays connections to LOCAL_PORT (a vsock port, or vsock:CID:PORT, unix:/path, tcp:IP:PORT) "
    "to\n"
    "HOST:PORT, which the allowlist in FILE must have (default " CONFIG ").\n"
    "  -4, --ipv4 | -6, --ipv6   connect by this version of IP alone\n"
    "  -w, --num_workers N       accepted; connections do not need a worker each\n"
    "      --ready-file FILE     written once connections are taken\n"
    "SIGHUP reads the allowlist again.\n";

enum { CONFIG_OPTION = 256, READY_OPTION };

static const struct option option_table[] = {
    {"ipv4", no_argument, NULL, '4'},
    {"ipv6", no_argument, NULL, '6'},
    {"num_workers", required_argument, NULL, 'w'},
    {"config", required_argument, NULL, CONFIG_OPTION},
    {"ready-file", required_argument, NULL, READY_OPTION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static sigset_t serving_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

void clv_signals_block(void)
{
    sigset_t set = serving_signals();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int clv_signals_wait(void)
{
    sigset_t set = serving_signals();
    int found = SIGTERM;
    sigwait(&set, &found);
    return found;
}

typedef struct arguments {
    clv_relay_options relay;
    const char *ready;
    bool help;
    char rule[512];
} arguments;

static clv_status take_family(arguments *a, int family, clv_error *err)
{
    if (a->relay.family != AF_UNSPEC)
        return clv_fail(err, CLV_USAGE, "expected one of -4 and -6, found both");
    a->relay.family = family;
    return CLV_OK;
}

static clv_status take_option(arguments *a, int option, clv_error *err)
{
    switch (option) {
    case '4':
        return take_family(a, AF_INET, err);
    case '6':
        return take_family(a, AF_INET6, err);
    case 'w':
        if (strspn(optarg, "0123456789") == strlen(optarg) && strlen(optarg) <= WORKERS_DIGITS &&
            atoi(optarg) > 0)
            return CLV_OK;
        return clv_fail(err, CLV_USAGE, "-w: expected a number from 1, found \"%.20s\"", optarg);
    case CONFIG_OPTION:
        a->relay.allowlist = optarg;
        return CLV_OK;
    case READY_OPTION:
        a->ready = optarg;
        return CLV_OK;
    case 'h':
        a->help = true;
        return CLV_OK;
    default:
        return clv_fail(err, CLV_USAGE, "an option is not known (see --help)");
    }
}

static clv_status take_arguments(arguments *a, int argc, char **argv, clv_error *err)
{
    int option;
    while ((option = getopt_long(argc, argv, "46w:h", option_table, NULL)) != -1)
        CLV_TRY(take_option(a, option, err));
    if (a->help)
        return CLV_OK;
    if (argc - optind != 3)
        return clv_fail(err, CLV_USAGE, "expected LOCAL_PORT HOST PORT, found %d arguments",
                        argc - optind);
    const char *local = argv[optind], *host = argv[optind + 1];
    bool port = strspn(local, "0123456789") == strlen(local);
    bool v6 = strchr(host, ':') != NULL;
    snprintf(a->rule, sizeof a->rule, "%s%.160s=%s%.255s%s:%.10s", port ? "vsock:any:" : "", local,
             v6 ? "[" : "", host, v6 ? "]" : "", argv[optind + 2]);
    a->relay.rule[0] = a->rule;
    a->relay.rules = 1;
    return CLV_OK;
}

static clv_status write_ready(const char *path, const char *bound, clv_error *err)
{
    if (path == NULL)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = json_pack("{s:[s]}", "relay", bound);
    CLV_TRY(clv_json_append(&text, json, err));
    return clv_file_write(path, clv_buf_bytes(&text), 0644, err);
}

static void reload(clv_relay *relay, const clv_relay_options *options)
{
    clv_error err = {.code = CLV_OK};
    clv_notify_reloading();
    if (clv_relay_reload(relay, options, &err) == CLV_OK)
        clv_log(CLV_LOG_INFO, "reloaded", NULL, "the allowlist was read");
    else
        clv_log_failure(CLV_LOG_ERROR, "reload.failed", NULL, &err);
    clv_relay_report(relay);
    clv_notify_ready();
}

clv_status clv_proxy_run(int argc, char **argv, clv_error *err)
{
    arguments a = {.relay = CLV_RELAY_DEFAULTS};
    clv_address bound[CLV_RELAY_RULES_MAX];
    clv_auto_ptr(clv_relay) relay = NULL;
    a.relay.allowlist = CONFIG;
    CLV_TRY(take_arguments(&a, argc, argv, err));
    if (a.help) {
        fputs(usage_text, stdout);
        return CLV_OK;
    }
    clv_signals_block();
    CLV_TRY(clv_relay_start(&a.relay, &relay, bound, err));
    CLV_TRY(clv_inherited_all_taken(err));
    CLV_TRY(write_ready(a.ready, bound[0].text, err));
    clv_log(CLV_LOG_INFO, "serving", NULL, "%s", a.rule);
    clv_notify_ready();
    while (clv_signals_wait() == SIGHUP)
        reload(relay, &a.relay);
    clv_notify("STOPPING=1");
    clv_relay_report(relay);
    return CLV_OK;
}

/* clavigerd: the key service inside the enclave. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include <base/file.h>
#include <base/log.h>
#include <enclave/api.h>
#include <enclave/boot.h>
#include <enclave/control.h>

/* The parent makes few calls at a time; a slow one costs one slot. */
#define CONTROL_CONNECTIONS 16
#define CONTROL_IDLE_MS     30000

typedef struct listeners {
    clv_server *control;
    clv_api *api;
    clv_address control_at, agent_at;
} listeners;

static void listeners_drop(listeners *l)
{
    if (l->api != NULL)
        unlink(((const struct sockaddr_un *)&l->agent_at.sa)->sun_path);
    clv_api_free(&l->api);
    clv_server_free(&l->control);
}

static clv_status listen_at(const char *text, mode_t mode, int *fd, clv_address *bound,
                            clv_error *err)
{
    clv_address address;
    CLV_TRY(clv_address_parse(text, &address, err));
    return clv_listen(&address, mode, fd, bound, err);
}

/* From here on the enclave is open to its parent and its agents. */
static clv_status open_doors(clv_enclave *enclave, const clv_options *options, listeners *out,
                             clv_error *err)
{
    clv_auto(clv_fd) control = -1;
    clv_auto(clv_fd) agent = -1;
    CLV_TRY(listen_at(options->control, 0600, &control, &out->control_at, err));
    CLV_TRY(listen_at(options->agent, options->agent_mode, &agent, &out->agent_at, err));
    CLV_TRY(clv_server_start(control, CONTROL_CONNECTIONS, CONTROL_IDLE_MS, clv_control_answer,
                             enclave, &out->control, err));
    control = -1;
    CLV_TRY(clv_api_start(enclave, agent, &out->api, err));
    agent = -1;
    return CLV_OK;
}

static clv_status say_ready(const clv_options *options, const listeners *l, clv_error *err)
{
    clv_log(CLV_LOG_INFO, "boot.ready", NULL, "agents at %s, the parent at %s", l->agent_at.text,
            l->control_at.text);
    if (options->ready_file == NULL)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = json_pack("{s:i, s:s, s:s}", "pid", (int)getpid(), "control",
                                        l->control_at.text, "agent", l->agent_at.text);
    CLV_TRY(clv_json_append(&text, json, err));
    return clv_file_write(options->ready_file, clv_buf_bytes(&text), 0644, err);
}

/* Blocked before the first thread starts, so that only this thread takes them. */
static void block_stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static clv_status run(const clv_options *options, clv_error *err)
{
    sigset_t stop;
    int which;
    block_stop_signals(&stop);
    clv_auto(clv_enclave) enclave;
    clv_status status = clv_boot(&enclave, options, err);
    if (status != CLV_OK)
        return status;
    clv_auto(listeners) doors = {NULL};
    CLV_TRY(open_doors(&enclave, options, &doors, err));
    CLV_TRY(say_ready(options, &doors, err));
    sigwait(&stop, &which);
    clv_log(CLV_LOG_INFO, "stop", NULL, "told to stop");
    return CLV_OK;
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    clv_options options = {0};
    clv_status status = clv_secret_start(&err);
    if (status == CLV_OK)
        status = clv_options_parse(argc, argv, &options, &err);
    if (status == CLV_OK && options.help)
        return fputs(clv_options_usage(), stdout) < 0;
    if (status == CLV_OK && options.version)
        return puts("clavigerd " CLV_VERSION) < 0;
    if (status == CLV_OK) {
        clv_log_start("clavigerd", options.log_level, options.log_json);
        status = run(&options, &err);
    }
    if (status != CLV_OK)
        fprintf(stderr, "clavigerd: %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

/* clavigerd: the key service inside the enclave. */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include <base/file.h>
#include <base/log.h>
#include <base/supervisor.h>
#include <enclave/api.h>
#include <enclave/boot.h>
#include <enclave/control.h>

/* The parent makes few calls at a time; a slow one costs one slot. What it may send is small, so
 * that all of them together cannot fill the enclave's memory. */
static const clv_server_limits control_limits = {
    .connections = 16, .idle_ms = 30000, .data_max = 2 * CLV_FRAME_MAX};

/* The agents' doors: the option that names each, and what is spoken there. */
#define DOORS 3

typedef struct listeners {
    int control_fd; /* until a server has it; -1 */
    clv_server *control;
    clv_address control_at;
    struct door {
        int fd;
        clv_api *api;
        clv_address at;
    } door[DOORS];
} listeners;

#define LISTENERS_INIT                                                   \
    {                                                                    \
        .control_fd = -1, .door = { {.fd = -1}, {.fd = -1}, {.fd = -1} } \
    }

static void listeners_drop(listeners *l)
{
    for (size_t i = 0; i < DOORS; i++) {
        if (l->door[i].at.length > 0 && !clv_inherited(&l->door[i].at))
            unlink(((const struct sockaddr_un *)&l->door[i].at.sa)->sun_path);
        clv_api_free(&l->door[i].api);
        clv_fd_drop(&l->door[i].fd);
    }
    clv_server_free(&l->control);
    clv_fd_drop(&l->control_fd);
}

static clv_status listen_at(const char *text, mode_t mode, int *fd, clv_address *bound,
                            clv_error *err)
{
    clv_address address;
    CLV_TRY(clv_address_parse(text, &address, err));
    return clv_listen(&address, mode, fd, bound, err);
}

/* Who connects now waits until the doors open. */
static clv_status bind_doors(const clv_options *options, listeners *out, clv_error *err)
{
    const char *address[DOORS] = {
        [CLV_FRONT_AGENT] = options->agent,
        [CLV_FRONT_DSTACK] = options->dstack,
        [CLV_FRONT_ROFL] = options->rofl,
    };
    CLV_TRY(listen_at(options->control, 0600, &out->control_fd, &out->control_at, err));
    for (size_t i = 0; i < DOORS; i++) {
        if (address[i] != NULL)
            CLV_TRY(listen_at(address[i], options->agent_mode, &out->door[i].fd, &out->door[i].at,
                              err));
    }
    return CLV_OK;
}

/* From here on the enclave is open to its parent and its agents. */
static clv_status open_doors(clv_enclave *enclave, listeners *l, clv_error *err)
{
    CLV_TRY(clv_server_start(l->control_fd, &control_limits, clv_control_answer, enclave,
                             &l->control, err));
    l->control_fd = -1;
    for (size_t i = 0; i < DOORS; i++) {
        if (l->door[i].fd < 0)
            continue;
        CLV_TRY(clv_api_start(enclave, (clv_front)i, l->door[i].fd, &l->door[i].api, err));
        l->door[i].fd = -1;
    }
    return CLV_OK;
}

static clv_status say_ready(const clv_options *options, const listeners *l, clv_error *err)
{
    clv_log(CLV_LOG_INFO, "boot.ready", NULL, "agents at %s, the parent at %s", options->agent,
            l->control_at.text);
    if (options->ready_file == NULL)
        return CLV_OK;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_json) json = json_pack("{s:i, s:s, s:s, s:s*, s:s*}", "pid", (int)getpid(),
                                        "control", l->control_at.text, "agent", options->agent,
                                        "dstack", options->dstack, "rofl", options->rofl);
    CLV_TRY(clv_json_append(&text, json, err));
    return clv_file_write(options->ready_file, clv_buf_bytes(&text), 0644, err);
}

/* The system gets the memory of a large body back as soon as it is freed. The C library would learn
 * to keep such blocks, in each of many arenas, and no share of an agent's would bound what they add
 * up to (mallopt(3), M_MMAP_THRESHOLD). */
#define LARGE_BLOCK (256 * 1024)

/* Blocked before the first thread starts, so that only this thread takes them. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static clv_status prepare_sandbox(const clv_options *options, clv_error *err)
{
    bool landlocked;
    clv_sandbox_paths paths = {
        .ready_file = options->ready_file,
        .nsm = options->nsm,
        .sockets = {options->control, options->agent, options->dstack, options->rofl},
        .socket_count = 4,
    };
    CLV_TRY(clv_sandbox_prepare(&paths, &landlocked, err));
    if (!landlocked)
        clv_log(CLV_LOG_INFO, "sandbox.no_landlock", NULL,
                "this kernel has no Landlock: files are guarded by the system call filter alone");
    return CLV_OK;
}

/* Starting is over: what it needed is taken away. */
static clv_status enter_sandbox(const clv_options *options, clv_error *err)
{
    CLV_TRY(clv_sandbox_enter(&options->user, err));
    if (geteuid() == 0)
        clv_log(CLV_LOG_WARNING, "sandbox.root", NULL,
                "the daemon runs as root: name another user with --user");
    return CLV_OK;
}

static void reload(clv_enclave *enclave)
{
    clv_notify_reloading();
    clv_status logged = clv_reload(enclave, NULL);
    (void)logged;
    clv_notify_ready();
}

/* Until one of them says to stop. The log's level is turned from inside the enclave alone: the
 * parent must not be able to silence it. */
static void serve_signals(clv_enclave *enclave, const clv_options *options, const sigset_t *signals)
{
    bool debug = false;
    for (int which = 0; sigwait(signals, &which) == 0;) {
        if (which == SIGHUP) {
            reload(enclave);
        } else if (which == SIGUSR1) {
            debug = !debug;
            clv_log_set_level(debug ? CLV_LOG_DEBUG : options->log_level);
        } else {
            return;
        }
    }
}

/* A daemon whose release was revoked ends with that as its error. */
static clv_status still_allowed(clv_enclave *enclave, clv_error *err)
{
    uint64_t checked_ms;
    clv_error found;
    clv_review_read(&enclave->review, &checked_ms, &found);
    return found.code == CLV_BASELINE_REVOKED ? clv_fail(err, found.code, "%s", found.text)
                                              : CLV_OK;
}

static clv_status run(const clv_options *options, clv_error *err)
{
    sigset_t signals;
    block_signals(&signals);
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
    clv_descriptors_raise();
    clv_auto(clv_opener) opener;
    clv_status status = clv_opener_start(&options->user, &opener, err);
    if (status != CLV_OK)
        return status;
    CLV_TRY(prepare_sandbox(options, err));
    clv_auto(clv_enclave) enclave;
    status = clv_boot(&enclave, options, &opener, err);
    if (status != CLV_OK)
        return status;
    clv_auto(listeners) doors = LISTENERS_INIT;
    CLV_TRY(bind_doors(options, &doors, err));
    CLV_TRY(clv_inherited_all_taken(err));
    CLV_TRY(say_ready(options, &doors, err));
    CLV_TRY(enter_sandbox(options, err));
    CLV_TRY(open_doors(&enclave, &doors, err));
    clv_notify_ready();
    serve_signals(&enclave, options, &signals);
    clv_notify("STOPPING=1\nSTATUS=letting requests end");
    clv_log(CLV_LOG_INFO, "stop", NULL, "told to stop");
    atomic_store(&enclave.services.stopping, true);
    return still_allowed(&enclave, err);
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
        clv_log_end("clavigerd", &err);
    return clv_status_exit(status);
}

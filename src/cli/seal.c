/* claviger seal and unseal: a stream through the daemon, of any size. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <channel/frame.h>
#include <cli/agent.h>
#include <cli/command.h>
#include <cli/output.h>
#include <cli/progress.h>

#define PIECE_SIZE ((size_t)256 * 1024)
/* The daemon drops a silent agent after 30 s: an input that is slow sends empty frames instead. */
#define ALIVE_MS 10000

typedef struct settings {
    const char *agent, *key, *name, *output;
} settings;

/* The half that sends, on a thread of its own: the daemon answers while it still takes. */
typedef struct feeder {
    int input, stream;
    _Atomic uint64_t sent;
    clv_status status;
    clv_error err;
} feeder;

static clv_status wait_for_input(const feeder *f, clv_error *err)
{
    struct pollfd at[] = {{.fd = f->input, .events = POLLIN}, {.fd = f->stream}};
    for (;;) {
        int n = poll(at, 2, ALIVE_MS);
        if (n > 0 && at[1].revents != 0)
            return clv_fail(err, CLV_CLOSED, "the daemon closed the stream");
        if (n > 0 || (n < 0 && errno != EINTR))
            return CLV_OK;
        if (n == 0)
            CLV_TRY(clv_frame_write(f->stream, CLV_FRAME_DATA, CLV_BYTES(NULL, 0), err));
    }
}

static clv_status feed(feeder *f, clv_error *err)
{
    clv_auto(clv_buf) piece = CLV_BUF_INIT;
    uint8_t *room;
    CLV_TRY(clv_buf_reserve(&piece, PIECE_SIZE, &room, err));
    for (;;) {
        CLV_TRY(wait_for_input(f, err));
        ssize_t n = read(f->input, room, PIECE_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return clv_fail(err, CLV_SYSTEM, "the input cannot be read: %m");
        if (n == 0)
            return clv_frame_write(f->stream, CLV_FRAME_END, CLV_BYTES(NULL, 0), err);
        CLV_TRY(clv_frame_write(f->stream, CLV_FRAME_DATA, CLV_BYTES(room, (size_t)n), err));
        atomic_fetch_add(&f->sent, (uint64_t)n);
    }
}

static void *run_feeder(void *with)
{
    feeder *f = with;
    f->status = feed(f, &f->err);
    if (f->status != CLV_OK && f->status != CLV_CLOSED)
        shutdown(f->stream, SHUT_RDWR); /* the input failed: the message must not look whole */
    return NULL;
}

/* Until END: everything is there. Anything else is a failure. */
static clv_status collect(feeder *f, clv_output *output, clv_progress *progress, clv_error *err)
{
    clv_auto(clv_buf) piece = CLV_BUF_LIMITED(CLV_FRAME_MAX);
    for (;;) {
        clv_frame_type type;
        piece.n = 0;
        CLV_TRY(clv_frame_read(f->stream, &type, &piece, err));
        if (type == CLV_FRAME_END)
            return CLV_OK;
        if (type == CLV_FRAME_FAULT)
            return clv_fail_as_fault(clv_buf_bytes(&piece), err);
        if (type != CLV_FRAME_DATA)
            return clv_fail(err, CLV_FRAME_TYPE, "expected DATA, END or FAULT, found type %d",
                            (int)type);
        CLV_TRY(clv_output_write(output, clv_buf_bytes(&piece), err));
        clv_progress_show(progress, atomic_load(&f->sent));
    }
}

static uint64_t size_of(int fd)
{
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISREG(s.st_mode) ? (uint64_t)s.st_size : 0;
}

static clv_status carry(int input, int stream, const char *what, clv_output *output, clv_error *err)
{
    feeder f = {.input = input, .stream = stream};
    pthread_t thread;
    clv_progress progress;
    if (pthread_create(&thread, NULL, run_feeder, &f) != 0)
        return clv_fail(err, CLV_SYSTEM, "a thread cannot be started");
    clv_progress_start(&progress, what, size_of(input));
    clv_status status = collect(&f, output, &progress, err);
    clv_progress_end(&progress);
    if (status != CLV_OK)
        shutdown(stream, SHUT_RDWR); /* the thread may wait for an input that never comes */
    pthread_join(thread, NULL);
    /* What stopped the sending is why the answer broke off. */
    if (status == CLV_CLOSED && f.status != CLV_OK && f.status != CLV_CLOSED)
        return clv_fail(err, f.status, "%s", f.err.text);
    return status;
}

static clv_status open_input(const char *path, int *fd, clv_error *err)
{
    *fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    return *fd >= 0 ? CLV_OK : clv_fail(err, CLV_SYSTEM, "%s cannot be read: %m", path);
}

static clv_status run(const clv_command *command, int count, char **arguments, clv_error *err)
{
    settings s = {.agent = CLV_AGENT_ADDRESS, .output = "-"};
    int operand;
    clv_auto(clv_fd) input = -1;
    clv_auto(clv_fd) stream = -1;
    clv_auto(clv_output) output = CLV_OUTPUT_INIT;
    CLV_TRY(clv_command_options(command, count, arguments, &s, 0, 1, &operand, err));
    if (s.name == NULL)
        return clv_fail(err, CLV_USAGE, "expected --name NAME, found none");
    signal(SIGPIPE, SIG_IGN);
    CLV_TRY(open_input(operand < count ? arguments[operand] : "-", &input, err));
    CLV_TRY(clv_output_open(s.output, &output, err));
    CLV_TRY(clv_agent_stream(s.agent, command->name, s.key, s.name, &stream, err));
    const char *what = strcmp(command->name, "seal") == 0 ? "sealing" : "unsealing";
    CLV_TRY(carry(input, stream, what, &output, err));
    return clv_output_commit(&output, err);
}

#define TAKE(member)                                                               \
    static clv_status take_##member(void *into, const char *value, clv_error *err) \
    {                                                                              \
        (void)err;                                                                 \
        ((settings *)into)->member = value;                                        \
        return CLV_OK;                                                             \
    }
TAKE(agent)
TAKE(key)
TAKE(name)
TAKE(output)

static const clv_option options[] = {
    {"agent", "ADDRESS", "the daemon's agent socket (" CLV_AGENT_ADDRESS ")", take_agent},
    {"key", "KEY", "the policy's key; not needed where it has only one", take_key},
    {"name", "NAME", "what the message is called: it opens under this name only", take_name},
    {"output", "FILE|-", "where to write; the file appears whole or not at all", take_output},
    {NULL, NULL, NULL, NULL},
};

static clv_status run_seal(int count, char **arguments, clv_error *err)
{
    return run(&clv_command_seal, count, arguments, err);
}

static clv_status run_unseal(int count, char **arguments, clv_error *err)
{
    return run(&clv_command_unseal, count, arguments, err);
}

const clv_command clv_command_seal = {
    "seal", "[FILE|-]", "Seal a file or standard input through the daemon", options, run_seal,
};

const clv_command clv_command_unseal = {
    "unseal", "[FILE|-]", "Unseal what `claviger seal` made", options, run_unseal,
};

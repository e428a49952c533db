#include <enclave/stream.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <channel/frame.h>

/* A message that an agent keeps is of generation 0: see routes_seal.c. */
#define KEPT_BY_AGENT 0

/* Small frames are gathered to this many bytes; what is larger is sent as it is. */
#define OUTPUT_SIZE ((size_t)64 * 1024)

struct clv_stream {
    clv_enclave *enclave;
    const clv_policy_key *key;
    uint32_t uid;
    char name[sizeof((clv_request *)NULL)->full_name];
    char operation[CLV_OPERATION_ID_SIZE];
    int fd;                 /* -1 before the upgrade: output waits */
    clv_buf output;         /* what is to be sent */
    clv_sealer *sealer;     /* of a stream that seals */
    clv_buf header;         /* of the message that is unsealed, as far as it has come */
    clv_unsealer *unsealer; /* once the header is whole */
    uint64_t taken, given;  /* bytes */
    clv_stream *next, **at; /* in the enclave's list, while it runs */
};

void clv_stream_free(clv_stream **stream)
{
    clv_stream *s = *stream;
    if (s == NULL)
        return;
    clv_agents_give_bytes(&s->enclave->agents, s->uid, CLV_STREAM_MEMORY);
    clv_sealer_free(&s->sealer);
    clv_unsealer_free(&s->unsealer);
    clv_buf_drop(&s->output);
    clv_buf_drop(&s->header);
    free(s);
    *stream = NULL;
}

static clv_status put(clv_stream *s, clv_bytes piece, clv_error *err)
{
    CLV_TRY(clv_frame_write(s->fd, CLV_FRAME_DATA, piece, err));
    s->given += piece.n;
    return CLV_OK;
}

static clv_status flush(clv_stream *s, clv_error *err)
{
    if (s->output.n == 0)
        return CLV_OK;
    CLV_TRY(put(s, clv_buf_bytes(&s->output), err));
    s->output.n = 0;
    return CLV_OK;
}

/* The sink of both directions. */
static clv_status give(void *to, clv_bytes piece, clv_error *err)
{
    clv_stream *s = to;
    if (s->fd >= 0 && s->output.n + piece.n > OUTPUT_SIZE)
        CLV_TRY(flush(s, err));
    if (s->fd >= 0 && piece.n >= OUTPUT_SIZE)
        return put(s, piece, err);
    return clv_buf_append(&s->output, piece, err);
}

static clv_status open_stream(clv_request *request, clv_stream **out, clv_error *err)
{
    CLV_TRY(clv_agents_take_bytes(&request->enclave->agents, request->agent.uid, CLV_STREAM_MEMORY,
                                  err));
    clv_stream *s = calloc(1, sizeof *s);
    if (s == NULL) {
        clv_agents_give_bytes(&request->enclave->agents, request->agent.uid, CLV_STREAM_MEMORY);
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a stream");
    }
    s->enclave = request->enclave;
    s->key = request->key;
    s->uid = request->agent.uid;
    s->fd = -1;
    memcpy(s->name, request->full_name, sizeof s->name);
    memcpy(s->operation, request->operation, sizeof s->operation);
    *out = s;
    return CLV_OK;
}

static void answer_upgrade(clv_response *response, clv_stream **stream)
{
    response->status = 101;
    response->stream = *stream;
    *stream = NULL;
}

clv_status clv_route_stream_seal(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto_ptr(clv_stream) stream = NULL;
    CLV_TRY(open_stream(request, &stream, err));
    /* The message's header waits in the output until the connection is ours. */
    CLV_TRY(clv_state_sealer(stream->enclave->vault, stream->key, stream->name, KEPT_BY_AGENT,
                             CLV_STATE_STREAM_FRAME, give, stream, &stream->sealer, err));
    answer_upgrade(response, &stream);
    return CLV_OK;
}

clv_status clv_route_stream_unseal(clv_request *request, clv_response *response, clv_error *err)
{
    clv_auto_ptr(clv_stream) stream = NULL;
    CLV_TRY(open_stream(request, &stream, err));
    answer_upgrade(response, &stream);
    return CLV_OK;
}

static clv_status open_unsealer(clv_stream *s, const clv_seal_header *header, clv_error *err)
{
    return clv_state_unsealer(s->enclave->vault, s->key, s->name, KEPT_BY_AGENT, header, give, s,
                              &s->unsealer, NULL, err);
}

/* KMS is asked in one of the agent's turns, as for any request. */
static clv_status open_in_turn(clv_stream *s, const clv_seal_header *header, clv_error *err)
{
    CLV_TRY(clv_agents_begin_work(&s->enclave->agents, s->uid, err));
    clv_status status = open_unsealer(s, header, err);
    if (clv_keeper_can_help(status) && clv_keeper_refresh(s->enclave->keeper, NULL) == CLV_OK)
        status = open_unsealer(s, header, err);
    clv_agents_end_work(&s->enclave->agents, s->uid);
    return status;
}

/* Gather the header; what follows it is the body's beginning. */
static clv_status take_header(clv_stream *s, clv_bytes piece, clv_error *err)
{
    clv_auto(clv_seal_header) header = {0};
    CLV_TRY(clv_buf_append(&s->header, piece, err));
    clv_status status = clv_seal_header_parse(clv_buf_bytes(&s->header), &header, err);
    if (status == CLV_TRUNCATED)
        return CLV_OK;
    CLV_TRY(status);
    CLV_TRY(open_in_turn(s, &header, err));
    clv_cursor c = clv_cursor_of(clv_buf_bytes(&s->header));
    CLV_TRY(clv_cursor_take(&c, header.length, &piece, err));
    CLV_TRY(clv_unsealer_update(s->unsealer, c.rest, err));
    clv_seal_header_drop(&header);
    clv_buf_drop(&s->header);
    return CLV_OK;
}

static clv_status take(clv_stream *s, clv_bytes piece, clv_error *err)
{
    s->taken += piece.n;
    if (s->sealer != NULL)
        return clv_sealer_update(s->sealer, piece, err);
    if (s->unsealer != NULL)
        return clv_unsealer_update(s->unsealer, piece, err);
    return take_header(s, piece, err);
}

static clv_status finish(clv_stream *s, clv_error *err)
{
    if (s->sealer != NULL)
        CLV_TRY(clv_sealer_finish(s->sealer, err));
    else if (s->unsealer != NULL)
        CLV_TRY(clv_unsealer_finish(s->unsealer, err));
    else
        return clv_fail(err, CLV_TRUNCATED, "expected a message's header, found its end");
    return flush(s, err);
}

static clv_status carry(clv_stream *s, clv_error *err)
{
    clv_auto(clv_buf) piece = CLV_BUF_LIMITED(CLV_FRAME_MAX);
    for (;;) {
        clv_frame_type type;
        piece.n = 0;
        CLV_TRY(clv_frame_read(s->fd, &type, &piece, err));
        if (type == CLV_FRAME_END)
            return finish(s, err);
        if (type != CLV_FRAME_DATA)
            return clv_fail(err, CLV_FRAME_TYPE, "expected DATA or END, found type %d", (int)type);
        CLV_TRY(take(s, clv_buf_bytes(&piece), err));
    }
}

/* The library hands the socket over as it used it: not blocking. */
static clv_status prepare(int fd, clv_error *err)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return clv_fail(err, CLV_SYSTEM, "the stream's socket: %m");
    return clv_socket_timeout(fd, CLV_STREAM_IDLE_MS, err);
}

/* False when the daemon ends. */
static bool enlist(clv_stream *s)
{
    clv_streams *streams = &s->enclave->streams;
    pthread_mutex_lock(&streams->lock);
    bool runs = !streams->ended;
    if (runs) {
        s->next = streams->first;
        s->at = &streams->first;
        if (s->next != NULL)
            s->next->at = &s->next;
        streams->first = s;
    }
    pthread_mutex_unlock(&streams->lock);
    return runs;
}

static void delist(clv_stream *s)
{
    clv_streams *streams = &s->enclave->streams;
    pthread_mutex_lock(&streams->lock);
    *s->at = s->next;
    if (s->next != NULL)
        s->next->at = s->at;
    pthread_mutex_unlock(&streams->lock);
}

void clv_streams_end(clv_streams *streams)
{
    pthread_mutex_lock(&streams->lock);
    streams->ended = true;
    for (clv_stream *s = streams->first; s != NULL; s = s->next)
        shutdown(s->fd, SHUT_RDWR);
    pthread_mutex_unlock(&streams->lock);
}

static void run_listed(clv_stream *s, int fd)
{
    clv_error err = {0};
    clv_status status = prepare(fd, &err);
    if (status == CLV_OK)
        status = carry(s, &err);
    if (status == CLV_OK)
        status = clv_frame_write(fd, CLV_FRAME_END, CLV_BYTES(NULL, 0), &err);
    if (status == CLV_OK) {
        clv_log(CLV_LOG_INFO, "stream.ended", s->operation, "%s: %llu bytes in, %llu out", s->name,
                (unsigned long long)s->taken, (unsigned long long)s->given);
        return;
    }
    clv_log_failure(CLV_LOG_WARNING, "stream.failed", s->operation, &err);
    if (clv_call_fault(fd, &err, NULL) != CLV_OK)
        clv_log(CLV_LOG_DEBUG, "stream.lost", s->operation, "the agent is gone");
}

void clv_stream_run(clv_stream *s, int fd)
{
    s->fd = fd;
    if (!enlist(s))
        return;
    run_listed(s, fd);
    delist(s);
}

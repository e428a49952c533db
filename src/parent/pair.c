#include <parent/pair.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of one stream at one event: about 256 KiB. */
#define ROUNDS 4

void clv_pipes_drop(clv_pipes *pipes)
{
    for (size_t i = 0; i < pipes->count; i++) {
        close(pipes->spare[i][0]);
        close(pipes->spare[i][1]);
    }
    pipes->count = 0;
}

static bool borrow(clv_stream *s, clv_pipes *pipes)
{
    if (s->pipe[0] >= 0)
        return true;
    if (pipes->count == 0)
        return pipe2(s->pipe, O_NONBLOCK | O_CLOEXEC) == 0;
    pipes->count--;
    s->pipe[0] = pipes->spare[pipes->count][0];
    s->pipe[1] = pipes->spare[pipes->count][1];
    return true;
}

/* Only an empty pipe is spare: another pair's bytes must never be found in it. */
static void give_back(clv_stream *s, clv_pipes *pipes)
{
    if (s->pipe[0] < 0)
        return;
    if (s->held == 0 && pipes->count < sizeof pipes->spare / sizeof pipes->spare[0]) {
        pipes->spare[pipes->count][0] = s->pipe[0];
        pipes->spare[pipes->count][1] = s->pipe[1];
        pipes->count++;
    } else {
        close(s->pipe[0]);
        close(s->pipe[1]);
    }
    s->pipe[0] = s->pipe[1] = -1;
    s->held = 0;
}

typedef enum moved { MOVED, WAITING, FAILED } moved;

static moved failed(void)
{
    return errno == EAGAIN || errno == EINTR ? WAITING : FAILED;
}

static moved fill(clv_stream *s, int from, clv_pipes *pipes)
{
    if (s->ended || s->held > 0)
        return MOVED;
    if (!borrow(s, pipes))
        return FAILED;
    ssize_t n =
        splice(from, NULL, s->pipe[1], NULL, CLV_PIPE_SIZE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n < 0)
        return failed();
    s->ended = n == 0;
    s->held = (size_t)n;
    return MOVED;
}

static moved empty(clv_stream *s, int to)
{
    if (s->held == 0)
        return MOVED;
    ssize_t n = splice(s->pipe[0], NULL, to, NULL, s->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n < 0)
        return failed();
    s->held -= (size_t)n;
    s->moved += (uint64_t)n;
    return s->held == 0 ? MOVED : WAITING;
}

static moved move_stream(clv_stream *s, int from, int to, clv_pipes *pipes)
{
    moved result = MOVED;
    for (int round = 0; round < ROUNDS && result == MOVED && !s->passed; round++) {
        result = fill(s, from, pipes);
        if (result == MOVED)
            result = empty(s, to);
        if (result == MOVED && s->ended) {
            shutdown(to, SHUT_WR);
            s->passed = true;
        }
    }
    if (s->held == 0)
        give_back(s, pipes);
    return result;
}

clv_pair_state clv_pair_move(clv_pair *pair, clv_pipes *pipes)
{
    for (int i = 0; i < 2; i++) {
        if (move_stream(&pair->stream[i], pair->fd[i], pair->fd[1 - i], pipes) == FAILED)
            return CLV_PAIR_BROKEN;
    }
    return pair->stream[0].passed && pair->stream[1].passed ? CLV_PAIR_ENDED : CLV_PAIR_OPEN;
}

uint32_t clv_pair_interest(const clv_pair *pair, int side)
{
    const clv_stream *out = &pair->stream[side], *in = &pair->stream[1 - side];
    return (!out->ended && out->held == 0 ? (uint32_t)EPOLLIN : 0) |
           (in->held > 0 ? (uint32_t)EPOLLOUT : 0);
}

void clv_pair_close(clv_pair *pair, clv_pipes *pipes)
{
    for (int i = 0; i < 2; i++) {
        give_back(&pair->stream[i], pipes);
        if (pair->fd[i] >= 0)
            close(pair->fd[i]);
        pair->fd[i] = -1;
    }
}

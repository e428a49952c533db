/*
 * A pair of sockets and the two streams between them, moved by splice(2): bytes stay in the
 * kernel. A stream borrows a pipe only while bytes are on their way, so that an idle pair costs
 * two descriptors and nothing else. What the receiver does not take stays in the pipe (at most
 * CLV_PIPE_SIZE), and then the sender is not read: that is the whole of the back pressure.
 */
#ifndef CLV_PARENT_PAIR_H
#define CLV_PARENT_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLV_PIPE_SIZE 65536

/* Pipes between uses; not for more than one thread. */
typedef struct clv_pipes {
    size_t count;
    int spare[64][2];
} clv_pipes;
void clv_pipes_drop(clv_pipes *pipes);

typedef struct clv_stream {
    int pipe[2];    /* -1: none borrowed */
    size_t held;    /* bytes in the pipe */
    bool ended;     /* the sender closed its half */
    bool passed;    /* and the receiver was told */
    uint64_t moved; /* bytes in all */
} clv_stream;

/* Stream i goes from fd[i] to fd[1 - i]. */
typedef struct clv_pair {
    int fd[2];
    clv_stream stream[2];
} clv_pair;

#define CLV_PAIR_INIT                        \
    {                                        \
        {-1, -1},                            \
        {                                    \
            {{-1, -1}, 0, false, false, 0},  \
            {                                \
                {-1, -1}, 0, false, false, 0 \
            }                                \
        }                                    \
    }

typedef enum clv_pair_state {
    CLV_PAIR_OPEN,
    CLV_PAIR_ENDED,  /* both halves were closed and passed on */
    CLV_PAIR_BROKEN, /* a side reset, or a pipe cannot be had: errno says */
} clv_pair_state;

/* Move what can be moved without waiting, a bounded amount, so that one busy pair leaves room for
 * the others. SIGPIPE must be ignored or blocked. */
clv_pair_state clv_pair_move(clv_pair *pair, clv_pipes *pipes);

/* What to wait for on side i: EPOLLIN, EPOLLOUT, both or 0. */
uint32_t clv_pair_interest(const clv_pair *pair, int side);

/* Closes the sockets, gives the pipes back. */
void clv_pair_close(clv_pair *pair, clv_pipes *pipes);

#endif

/*
 * Who is at the other end of an agent's connection: what the kernel says (unix(7), SO_PEERCRED),
 * never what the agent says (R22).
 */
#ifndef CLV_ENCLAVE_AGENTS_H
#define CLV_ENCLAVE_AGENTS_H

#include <pthread.h>

#include <claviger/policy.h>

typedef struct clv_agent {
    uint32_t uid, gid;
    int32_t pid; /* for log lines only: numbers are used again */
    int socket;  /* the connection, which the agent does not own; -1: none */
    bool exe_measured;
    uint8_t exe_sha256[CLV_EXE_DIGEST_SIZE]; /* of executable.h, when it was measured */
} clv_agent;

/* The agent as the policy's table knows it; points into the agent. */
static inline clv_caller clv_agent_caller(const clv_agent *agent)
{
    return (clv_caller){agent->uid, agent->gid, agent->exe_measured ? agent->exe_sha256 : NULL};
}

/* The credentials that the peer had when it connected. */
CLV_NODISCARD clv_status clv_agent_of_socket(int fd, clv_agent *out, clv_error *err);

/*
 * How much of the daemon one uid may take, so that one agent cannot starve another: connections,
 * memory, work under way, and requests a second. The table has a row for each uid; the row of a uid
 * without connections is kept, so that connecting anew does not make its rate fresh, until another
 * uid needs it.
 *
 * Connections: an agent may have as many as are still free for all. Alone it gets half of them; n
 * greedy ones get 1/(n+1) each, and there is always room for one that comes late.
 *
 * Work: at most so many requests of an agent are worked on at a time, and its others wait. A call
 * to KMS costs an RSA key, and the processors go by threads, not by agents.
 */
#define CLV_AGENT_ROWS         128
#define CLV_CONNECTIONS_MAX    1024
#define CLV_AGENT_WORK_MAX     16
#define CLV_AGENT_PATIENCE_MS  30000 /* for its own requests to make room */
#define CLV_AGENT_MEMORY_MIB   256   /* when no other share is asked for */
#define CLV_AGENT_MEMORY_LEAST 128   /* three copies of the largest state */
#define CLV_AGENT_WAITING_MAX  16    /* requests that wait for a change */
#define CLV_AGENTS_WAITING_MAX 48    /* of all agents, as connections are; the parent takes 64 */

typedef struct clv_agents {
    double rate;          /* requests a second and agent; 0: no limit */
    size_t bytes_max;     /* of memory an agent */
    pthread_mutex_t lock; /* protects the rest */
    size_t connections;   /* of all rows */
    size_t waiting;       /* of all rows */
    struct clv_agent_row {
        bool used;
        uint32_t uid;
        size_t connections;
        size_t bytes;
        size_t waiting;
        size_t working;
        struct clv_turn *first; /* who waits to be worked on, in order */
        pthread_cond_t less_bytes;
        double tokens;        /* requests that may come at once */
        uint64_t refilled_ms; /* when tokens was right, by the monotonic clock */
    } row[CLV_AGENT_ROWS];
} clv_agents;

#define CLV_AGENT_BURST_S 2 /* a rested agent may send so many seconds' requests at once */

void clv_agents_init(clv_agents *agents, double rate, size_t bytes_max);
void clv_agents_drop(clv_agents *agents);

/* False when the agent, or the table, has no room for one more connection. */
bool clv_agents_connect(clv_agents *agents, uint32_t uid);
void clv_agents_disconnect(clv_agents *agents, uint32_t uid);

/* One more request of this agent: CLV_AGENT_RATE when it comes too soon. */
CLV_NODISCARD clv_status clv_agents_take_request(clv_agents *agents, uint32_t uid, clv_error *err);

/* Take n more bytes of memory for this agent: CLV_AGENT_BUSY when that exceeds its share. */
CLV_NODISCARD clv_status clv_agents_take_bytes(clv_agents *agents, uint32_t uid, size_t n,
                                               clv_error *err);
/* The same, but wait until its other requests have given enough back. Only for a request that holds
 * nothing yet: two that hold a part and wait for the rest would wait for each other. */
CLV_NODISCARD clv_status clv_agents_await_bytes(clv_agents *agents, uint32_t uid, size_t n,
                                                clv_error *err);
void clv_agents_give_bytes(clv_agents *agents, uint32_t uid, size_t n);

/* Wait for this agent's turn to have one more request worked on, in the order in which they ask:
 * CLV_AGENT_BUSY when it does not come. */
CLV_NODISCARD clv_status clv_agents_begin_work(clv_agents *agents, uint32_t uid, clv_error *err);
void clv_agents_end_work(clv_agents *agents, uint32_t uid);

/* One more request of this agent, which has a connection, waits: CLV_AGENT_BUSY when that exceeds
 * its share or all of it. */
CLV_NODISCARD clv_status clv_agents_take_wait(clv_agents *agents, uint32_t uid, clv_error *err);
void clv_agents_give_wait(clv_agents *agents, uint32_t uid);

#endif

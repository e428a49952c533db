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
} clv_agent;

/* The credentials that the peer had when it connected. */
CLV_NODISCARD clv_status clv_agent_of_socket(int fd, clv_agent *out, clv_error *err);

/*
 * How much of the daemon one uid holds at a time, so that one agent cannot starve another:
 * connections, and bytes of request and answer bodies. The table has a row for each uid that is
 * connected; a row is free again when its last connection has ended.
 */
#define CLV_AGENT_ROWS            128
#define CLV_AGENT_CONNECTIONS_MAX 320
#define CLV_AGENT_BYTES_MAX       ((size_t)192 * 1024 * 1024)

typedef struct clv_agents {
    pthread_mutex_t lock; /* protects row */
    struct clv_agent_row {
        bool used;
        uint32_t uid;
        size_t connections;
        size_t bytes;
    } row[CLV_AGENT_ROWS];
} clv_agents;

void clv_agents_init(clv_agents *agents);
void clv_agents_drop(clv_agents *agents);

/* False when the agent, or the table, has no room for one more connection. */
bool clv_agents_connect(clv_agents *agents, uint32_t uid);
void clv_agents_disconnect(clv_agents *agents, uint32_t uid);

/* Take n more bytes of memory for this agent: CLV_AGENT_BUSY when that exceeds its share. */
CLV_NODISCARD clv_status clv_agents_take_bytes(clv_agents *agents, uint32_t uid, size_t n,
                                               clv_error *err);
void clv_agents_give_bytes(clv_agents *agents, uint32_t uid, size_t n);

#endif

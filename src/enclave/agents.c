#include <enclave/agents.h>

#include <sys/socket.h>

clv_status clv_agent_of_socket(int fd, clv_agent *out, clv_error *err)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return clv_fail(err, CLV_SYSTEM, "the kernel does not say who the caller is: %m");
    *out = (clv_agent){.uid = peer.uid, .gid = peer.gid, .pid = peer.pid};
    return CLV_OK;
}

void clv_agents_init(clv_agents *agents)
{
    *agents = (clv_agents){.row = {{0}}};
    pthread_mutex_init(&agents->lock, NULL);
}

void clv_agents_drop(clv_agents *agents)
{
    pthread_mutex_destroy(&agents->lock);
}

/* The row of this uid, or a free one where `make` asks for it; NULL when there is none. The lock
 * is held. */
static struct clv_agent_row *row_of(clv_agents *agents, uint32_t uid, bool make)
{
    struct clv_agent_row *free_row = NULL;
    for (size_t i = 0; i < CLV_AGENT_ROWS; i++) {
        struct clv_agent_row *row = &agents->row[i];
        if (row->used && row->uid == uid)
            return row;
        if (make && !row->used && free_row == NULL)
            free_row = row;
    }
    if (free_row != NULL)
        *free_row = (struct clv_agent_row){.used = true, .uid = uid};
    return free_row;
}

bool clv_agents_connect(clv_agents *agents, uint32_t uid)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, true);
    bool room = row != NULL && row->connections < CLV_AGENT_CONNECTIONS_MAX;
    if (room)
        row->connections++;
    pthread_mutex_unlock(&agents->lock);
    return room;
}

void clv_agents_disconnect(clv_agents *agents, uint32_t uid)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    if (row != NULL && row->connections > 0)
        row->connections--;
    if (row != NULL && row->connections == 0)
        row->used = false;
    pthread_mutex_unlock(&agents->lock);
}

clv_status clv_agents_take_bytes(clv_agents *agents, uint32_t uid, size_t n, clv_error *err)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    bool room = row != NULL && n <= CLV_AGENT_BYTES_MAX - row->bytes;
    if (room)
        row->bytes += n;
    pthread_mutex_unlock(&agents->lock);
    if (!room)
        return clv_fail(err, CLV_AGENT_BUSY,
                        "expected at most %zu bytes under way for one agent, found more",
                        CLV_AGENT_BYTES_MAX);
    return CLV_OK;
}

void clv_agents_give_bytes(clv_agents *agents, uint32_t uid, size_t n)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    if (row != NULL)
        row->bytes -= n < row->bytes ? n : row->bytes;
    pthread_mutex_unlock(&agents->lock);
}

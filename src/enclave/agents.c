#include <enclave/agents.h>

#include <sys/socket.h>
#include <time.h>

#include <base/clock.h>

clv_status clv_agent_of_socket(int fd, clv_agent *out, clv_error *err)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return clv_fail(err, CLV_SYSTEM, "the kernel does not say who the caller is: %m");
    *out = (clv_agent){.uid = peer.uid, .gid = peer.gid, .pid = peer.pid, .socket = fd};
    return CLV_OK;
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void clv_agents_init(clv_agents *agents, double rate, size_t bytes_max)
{
    *agents = (clv_agents){.rate = rate, .bytes_max = bytes_max};
    pthread_mutex_init(&agents->lock, NULL);
    for (size_t i = 0; i < CLV_AGENT_ROWS; i++)
        init_condition(&agents->row[i].less_bytes);
}

void clv_agents_drop(clv_agents *agents)
{
    for (size_t i = 0; i < CLV_AGENT_ROWS; i++)
        pthread_cond_destroy(&agents->row[i].less_bytes);
    pthread_mutex_destroy(&agents->lock);
}

/* Whether the row can be given to another uid: a free one, or one that has rested longer. */
static bool is_better(const struct clv_agent_row *row, const struct clv_agent_row *than)
{
    if (row->used && (row->connections > 0 || row->bytes > 0))
        return false;
    if (than == NULL || !row->used)
        return than == NULL || than->used;
    return than->used && row->refilled_ms < than->refilled_ms;
}

/* The row of this uid, or another one where `make` asks for it; NULL when there is none. The lock
 * is held. */
static struct clv_agent_row *row_of(clv_agents *agents, uint32_t uid, bool make)
{
    struct clv_agent_row *spare = NULL;
    for (size_t i = 0; i < CLV_AGENT_ROWS; i++) {
        struct clv_agent_row *row = &agents->row[i];
        if (row->used && row->uid == uid)
            return row;
        if (make && is_better(row, spare))
            spare = row;
    }
    if (spare != NULL) { /* nothing of it is held, and nobody waits on its conditions */
        spare->used = true;
        spare->uid = uid;
        spare->tokens = agents->rate * CLV_AGENT_BURST_S;
        spare->refilled_ms = clv_monotonic_ms();
    }
    return spare;
}

bool clv_agents_connect(clv_agents *agents, uint32_t uid)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, true);
    size_t left = CLV_CONNECTIONS_MAX - agents->connections;
    bool room = row != NULL && row->connections < left;
    if (room) {
        row->connections++;
        agents->connections++;
    }
    pthread_mutex_unlock(&agents->lock);
    return room;
}

void clv_agents_disconnect(clv_agents *agents, uint32_t uid)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    if (row != NULL && row->connections > 0) {
        row->connections--;
        agents->connections--;
    }
    pthread_mutex_unlock(&agents->lock);
}

clv_status clv_agents_take_request(clv_agents *agents, uint32_t uid, clv_error *err)
{
    if (agents->rate <= 0)
        return CLV_OK;
    pthread_mutex_lock(&agents->lock);
    bool room = false;
    struct clv_agent_row *row = row_of(agents, uid, true);
    if (row != NULL) {
        uint64_t now = clv_monotonic_ms();
        double most = agents->rate * CLV_AGENT_BURST_S;
        row->tokens += agents->rate * (double)(now - row->refilled_ms) / 1000;
        row->tokens = row->tokens < most ? row->tokens : most;
        row->refilled_ms = now;
        room = row->tokens >= 1;
        row->tokens -= room ? 1 : 0;
    }
    pthread_mutex_unlock(&agents->lock);
    if (!room)
        return clv_fail(err, CLV_AGENT_RATE, "expected at most %.0f requests a second, found more",
                        agents->rate);
    return CLV_OK;
}

/* Wait on one of the row's conditions; the lock is held. False when it is time to give up. */
static bool wait_for(clv_agents *agents, pthread_cond_t *condition, const struct timespec *until)
{
    return pthread_cond_timedwait(condition, &agents->lock, until) == 0;
}

static struct timespec patience(void)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLV_AGENT_PATIENCE_MS / 1000;
    return until;
}

static clv_status take_bytes(clv_agents *agents, uint32_t uid, size_t n, bool wait, clv_error *err)
{
    struct timespec until = patience();
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    while (wait && row != NULL && n > agents->bytes_max - row->bytes)
        wait = wait_for(agents, &row->less_bytes, &until);
    bool room = row != NULL && n <= agents->bytes_max - row->bytes;
    if (room)
        row->bytes += n;
    pthread_mutex_unlock(&agents->lock);
    if (!room)
        return clv_fail(err, CLV_AGENT_BUSY,
                        "expected at most %zu bytes under way for one agent, found more",
                        agents->bytes_max);
    return CLV_OK;
}

clv_status clv_agents_take_bytes(clv_agents *agents, uint32_t uid, size_t n, clv_error *err)
{
    return take_bytes(agents, uid, n, false, err);
}

clv_status clv_agents_await_bytes(clv_agents *agents, uint32_t uid, size_t n, clv_error *err)
{
    return take_bytes(agents, uid, n, true, err);
}

void clv_agents_give_bytes(clv_agents *agents, uint32_t uid, size_t n)
{
    if (n == 0)
        return;
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    if (row != NULL) {
        row->bytes -= n < row->bytes ? n : row->bytes;
        pthread_cond_broadcast(&row->less_bytes);
    }
    pthread_mutex_unlock(&agents->lock);
}

/* A request that waits for its turn, on its own thread's stack. */
struct clv_turn {
    pthread_cond_t given;
    bool has;
    struct clv_turn *next;
};

/* The lock is held. False when the time is over, and the request waits no longer. */
static bool wait_in_line(clv_agents *agents, struct clv_agent_row *row)
{
    struct timespec until = patience();
    struct clv_turn mine = {.has = false}, **at = &row->first;
    init_condition(&mine.given);
    while (*at != NULL)
        at = &(*at)->next;
    *at = &mine;
    while (!mine.has && wait_for(agents, &mine.given, &until))
        continue;
    if (!mine.has) {
        for (at = &row->first; *at != &mine;)
            at = &(*at)->next;
        *at = mine.next;
    }
    pthread_cond_destroy(&mine.given);
    return mine.has;
}

clv_status clv_agents_begin_work(clv_agents *agents, uint32_t uid, clv_error *err)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    bool turn = row != NULL && row->working < CLV_AGENT_WORK_MAX;
    if (turn)
        row->working++;
    else if (row != NULL)
        turn = wait_in_line(agents, row);
    pthread_mutex_unlock(&agents->lock);
    if (!turn)
        return clv_fail(err, CLV_AGENT_BUSY,
                        "expected at most %d requests of one agent at work, found more for %d s",
                        CLV_AGENT_WORK_MAX, CLV_AGENT_PATIENCE_MS / 1000);
    return CLV_OK;
}

/* The turn goes to who waits longest: what is given up for anyone to take, the quickest thread
 * takes again and again. */
void clv_agents_end_work(clv_agents *agents, uint32_t uid)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    struct clv_turn *next = row != NULL ? row->first : NULL;
    if (next != NULL) {
        row->first = next->next;
        next->has = true;
        pthread_cond_signal(&next->given);
    } else if (row != NULL && row->working > 0) {
        row->working--;
    }
    pthread_mutex_unlock(&agents->lock);
}

clv_status clv_agents_take_wait(clv_agents *agents, uint32_t uid, clv_error *err)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    bool room = row != NULL && row->waiting < CLV_AGENT_WAITING_MAX &&
                row->waiting < CLV_AGENTS_WAITING_MAX - agents->waiting;
    if (room) {
        row->waiting++;
        agents->waiting++;
    }
    pthread_mutex_unlock(&agents->lock);
    if (!room)
        return clv_fail(err, CLV_AGENT_BUSY,
                        "expected at most %d requests that wait, %d of all agents, found more",
                        CLV_AGENT_WAITING_MAX, CLV_AGENTS_WAITING_MAX);
    return CLV_OK;
}

void clv_agents_give_wait(clv_agents *agents, uint32_t uid)
{
    pthread_mutex_lock(&agents->lock);
    struct clv_agent_row *row = row_of(agents, uid, false);
    if (row != NULL)
        row->waiting--;
    agents->waiting--;
    pthread_mutex_unlock(&agents->lock);
}

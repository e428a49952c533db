/* The Unix socket: each message is a u32 length and that many bytes of CBOR. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/log.h>
#include <base/net.h>
#include <sim/nsm/nsm.h>

#define CONNECTIONS_MAX 64
#define IDLE_MS         600000

/* A daemon keeps its connection for life: a slot is given back when its peer goes. */
typedef struct connection {
    nsm_module *module;
    clv_fd fd;
    _Atomic int *open;
} connection;

static clv_status serve_one(nsm_module *module, int fd, clv_error *err)
{
    uint8_t head[4], request[NSM_REQUEST_MAX];
    uint32_t length;
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    clv_auto(clv_buf) frame = CLV_BUF_INIT;
    CLV_TRY(clv_read_full(fd, head, sizeof head, err));
    clv_cursor c = clv_cursor_of(CLV_BYTES(head, sizeof head));
    CLV_TRY(clv_cursor_u32(&c, &length, err));
    if (length > sizeof request)
        return clv_fail(err, CLV_TOO_LARGE, "expected a request of at most %zu bytes, found %u",
                        sizeof request, length);
    CLV_TRY(clv_read_full(fd, request, length, err));
    CLV_TRY(nsm_handle(module, CLV_BYTES(request, length), &answer, err));
    CLV_TRY(clv_buf_u32(&frame, (uint32_t)answer.n, err));
    CLV_TRY(clv_buf_append(&frame, clv_buf_bytes(&answer), err));
    return clv_write_full(fd, clv_buf_bytes(&frame), err);
}

static void *run_connection(void *context)
{
    connection *c = context;
    clv_error err = {.code = CLV_OK};
    while (serve_one(c->module, c->fd, &err) == CLV_OK)
        continue;
    if (err.code != CLV_CLOSED)
        clv_log_failure(CLV_LOG_WARNING, "connection.dropped", NULL, &err);
    clv_fd_drop(&c->fd);
    (*c->open)--;
    free(c);
    return NULL;
}

static void start_connection(nsm_module *module, int fd, _Atomic int *open)
{
    connection *c = malloc(sizeof *c);
    pthread_t thread;
    if (c == NULL || *open >= CONNECTIONS_MAX || clv_socket_timeout(fd, IDLE_MS, NULL) != CLV_OK) {
        free(c);
        close(fd);
        return;
    }
    *c = (connection){module, fd, open};
    (*open)++;
    if (pthread_create(&thread, NULL, run_connection, c) != 0) {
        (*open)--;
        clv_fd_drop(&c->fd);
        free(c);
        return;
    }
    pthread_detach(thread);
}

clv_status nsm_serve(nsm_module *module, int listen_fd, int stop_fd, clv_error *err)
{
    /* Connections may outlive this loop until the process ends, and so does their count. */
    static _Atomic int open;
    struct pollfd wait[] = {{.fd = listen_fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
    for (;;) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return clv_fail(err, CLV_SYSTEM, "poll failed: %m");
        if (wait[1].revents != 0)
            return CLV_OK;
        if (wait[0].revents == 0)
            continue;
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            start_connection(module, fd, &open);
    }
}

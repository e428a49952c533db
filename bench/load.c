/*
 * The load for bench_api.py.
 *
 *     load serve SOCKET BYTES                        the floor: a libmicrohttpd handler that
 * answers so many constant bytes, set up as the API is load run SOCKET CLIENTS SECONDS METHOD
 * TARGET [BODY-FILE [MEDIA-TYPE]]
 *
 * run keeps CLIENTS connections busy, one thread each, and prints one JSON object: requests a
 * second, the 50th and 99th percentile in microseconds, and how many answers were not 2xx.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <microhttpd.h>

#include <base/clock.h>
#include <base/file.h>
#include <base/net.h>

#define TIMEOUT_MS   30000
#define ANSWER_MAX   65536
#define CLIENT_CALLS 400000

typedef struct client {
    const clv_address *address;
    clv_bytes request;
    const atomic_bool *stop;
    uint32_t *us; /* the latency of each answer */
    size_t count, failed;
} client;

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* One whole answer by its Content-Length; its status, or 0. */
static int read_answer(int fd)
{
    static _Thread_local char text[ANSWER_MAX];
    size_t n = 0;
    for (;;) {
        ssize_t got = read(fd, text + n, sizeof text - 1 - n);
        if (got <= 0)
            return 0;
        n += (size_t)got;
        text[n] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "\r\ncontent-length:");
        if (end == NULL || length == NULL)
            continue;
        size_t whole = (size_t)(end - text) + 4 + strtoul(length + 17, NULL, 10);
        if (whole >= sizeof text)
            return 0;
        if (n >= whole)
            return atoi(text + strlen("HTTP/1.1 "));
    }
}

static void *work(void *of)
{
    client *c = of;
    clv_auto(clv_fd) fd = -1;
    if (clv_dial(c->address, TIMEOUT_MS, &fd, NULL) != CLV_OK) {
        c->failed++;
        return NULL;
    }
    while (!atomic_load(c->stop) && c->count < CLIENT_CALLS) {
        uint64_t began = now_us();
        if (clv_write_full(fd, c->request, NULL) != CLV_OK)
            break;
        int status = read_answer(fd);
        c->us[c->count++] = (uint32_t)(now_us() - began);
        c->failed += status / 100 != 2;
        if (status == 0)
            break;
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report(client *all, size_t clients, double seconds)
{
    size_t total = 0, failed = 0, at = 0;
    for (size_t i = 0; i < clients; i++) {
        total += all[i].count;
        failed += all[i].failed;
    }
    uint32_t *us = calloc(total + 1, sizeof *us);
    for (size_t i = 0; us != NULL && i < clients; i++) {
        memcpy(us + at, all[i].us, all[i].count * sizeof *us);
        at += all[i].count;
    }
    if (us == NULL)
        exit(1);
    qsort(us, total, sizeof *us, compare);
    printf("{\"rps\": %.2f, \"p50_us\": %u, \"p99_us\": %u, \"failed\": %zu}\n",
           (double)total / seconds, us[total / 2], us[total * 99 / 100], failed);
    free(us);
}

static clv_status make_request(char **word, int words, clv_buf *out, clv_error *err)
{
    clv_auto(clv_buf) body = CLV_BUF_INIT;
    if (words > 2)
        CLV_TRY(clv_file_read(word[2], CLV_BUF_LIMIT, &body, err));
    CLV_TRY(clv_buf_printf(out, err, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n",
                           word[0], word[1], body.n));
    if (words > 3)
        CLV_TRY(clv_buf_printf(out, err, "Content-Type: %s\r\n", word[3]));
    CLV_TRY(clv_buf_append_text(out, "\r\n", err));
    return clv_buf_append(out, clv_buf_bytes(&body), err);
}

static clv_status run(char **word, int words, clv_error *err)
{
    clv_address address;
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    size_t clients = strtoul(word[1], NULL, 10);
    double seconds = strtod(word[2], NULL);
    atomic_bool stop = false;
    CLV_TRY(clv_address_parse(word[0], &address, err));
    CLV_TRY(make_request(word + 3, words - 3, &request, err));
    client *all = calloc(clients, sizeof *all);
    pthread_t *thread = calloc(clients, sizeof *thread);
    if (all == NULL || thread == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for %zu clients", clients);

    uint64_t began = now_us();
    for (size_t i = 0; i < clients; i++) {
        all[i] = (client){.address = &address,
                          .request = clv_buf_bytes(&request),
                          .stop = &stop,
                          .us = calloc(CLIENT_CALLS, sizeof(uint32_t))};
        if (all[i].us == NULL || pthread_create(&thread[i], NULL, work, &all[i]) != 0)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for client %zu", i);
    }
    usleep((useconds_t)(seconds * 1e6));
    atomic_store(&stop, true);
    for (size_t i = 0; i < clients; i++)
        pthread_join(thread[i], NULL);
    report(all, clients, (double)(now_us() - began) / 1e6);
    for (size_t i = 0; i < clients; i++)
        free(all[i].us);
    free(all);
    free(thread);
    return CLV_OK;
}

static enum MHD_Result answer(void *with, struct MHD_Connection *connection, const char *path,
                              const char *method, const char *version, const char *data, size_t *n,
                              void **context)
{
    static int begun;
    (void)path, (void)method, (void)version, (void)data;
    if (*context == NULL) {
        *context = &begun;
        return MHD_YES;
    }
    if (*n > 0) {
        *n = 0;
        return MHD_YES;
    }
    return MHD_queue_response(connection, 200, with);
}

static clv_status serve(char **word, clv_error *err)
{
    clv_address address;
    int fd = -1;
    CLV_TRY(clv_address_parse(word[0], &address, err));
    CLV_TRY(clv_listen(&address, 0600, &fd, NULL, err));
    size_t n = strtoul(word[1], NULL, 10);
    char *bytes = calloc(1, n + 1);
    if (bytes == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for %zu bytes", n);
    memset(bytes, 'x', n);
    struct MHD_Response *response =
        MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE);
    unsigned flags = MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD |
                     MHD_USE_POLL | MHD_USE_ITC;
    struct MHD_Daemon *daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, answer, response, MHD_OPTION_LISTEN_SOCKET, fd,
                         MHD_OPTION_CONNECTION_LIMIT, 512U, MHD_OPTION_END);
    if (daemon == NULL)
        return clv_fail(err, CLV_SYSTEM, "libmicrohttpd cannot start");
    pause();
    return CLV_OK;
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    clv_status status = CLV_USAGE;
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        status = serve(argv + 2, &err);
    else if (argc >= 7 && strcmp(argv[1], "run") == 0)
        status = run(argv + 2, argc - 2, &err);
    if (status != CLV_OK)
        fprintf(stderr, "load: %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

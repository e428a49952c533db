/*
 * The relay against socat and against no relay at all, in one run on loopback: TLS calls (connect,
 * a full TLS 1.3 handshake, 1 KiB there, 1 KiB back, close) by 1, 30 and 500 callers at a time, and
 * one plain stream of bytes. Callers, upstream and relay share the machine's processors.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include <base/net.h>

#define CALL_BYTES   1024
#define CALLS        3000 /* of all callers together, at most; BENCH_CALLS says how many */
#define STREAM_BYTES ((size_t)1024 * 1024 * 1024)
#define PIECE        ((size_t)256 * 1024)
#define CALLERS_MAX  500
#define TIMEOUT_MS   30000

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* -- TLS -------------------------------------------------------------------------------------- */

static SSL_CTX *server_tls, *client_tls;

/* A certificate of its own, for an hour. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"bench", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    if (X509_sign(cert, key, EVP_sha256()) == 0)
        die("certificate");
    return cert;
}

static void start_tls(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = make_certificate(key);
    server_tls = SSL_CTX_new(TLS_server_method());
    client_tls = SSL_CTX_new(TLS_client_method());
    if (server_tls == NULL || client_tls == NULL ||
        SSL_CTX_use_certificate(server_tls, cert) != 1 ||
        SSL_CTX_use_PrivateKey(server_tls, key) != 1 || SSL_CTX_set_num_tickets(server_tls, 0) != 1)
        die("TLS");
    X509_free(cert);
    EVP_PKEY_free(key);
}

static bool read_exactly(SSL *ssl, char *to, size_t n)
{
    for (size_t done = 0, got; done < n; done += got) {
        if (SSL_read_ex(ssl, to + done, n - done, &got) != 1)
            return false;
    }
    return true;
}

static bool exchange(SSL *ssl, bool asks)
{
    char bytes[CALL_BYTES] = "x";
    size_t put;
    if (asks)
        return SSL_write_ex(ssl, bytes, sizeof bytes, &put) == 1 &&
               read_exactly(ssl, bytes, sizeof bytes);
    return read_exactly(ssl, bytes, sizeof bytes) &&
           SSL_write_ex(ssl, bytes, sizeof bytes, &put) == 1;
}

static bool speak_tls(int fd, bool asks)
{
    int on = 1;
    SSL *ssl = SSL_new(asks ? client_tls : server_tls);
    /* As every HTTPS client and server does: otherwise a delayed acknowledgement is measured. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bool ok = ssl != NULL && SSL_set_fd(ssl, fd) == 1 &&
              (asks ? SSL_connect(ssl) : SSL_accept(ssl)) == 1 && exchange(ssl, asks);
    SSL_free(ssl);
    return ok;
}

/* -- the upstream ----------------------------------------------------------------------------- */

static int listen_on_loopback(clv_address *bound)
{
    clv_address address;
    int fd = -1;
    if (clv_address_parse("tcp:127.0.0.1:0", &address, NULL) != CLV_OK ||
        clv_listen(&address, 0, &fd, bound, NULL) != CLV_OK)
        die("listen");
    return fd;
}

/* A long stream is read to its end, which is answered with one byte. */
static void swallow(int fd)
{
    char *piece = malloc(PIECE);
    while (piece != NULL && read(fd, piece, PIECE) > 0)
        continue;
    free(piece);
    if (clv_write_full(fd, CLV_BYTES("", 1), NULL) != CLV_OK)
        fputs("the stream's end was not answered\n", stderr);
}

/* A TLS record of a handshake begins with 22 (RFC 8446 section 5.1); a stream is all zeros. */
static void *serve(void *argument)
{
    int fd = (int)(intptr_t)argument;
    char first = 0;
    if (recv(fd, &first, 1, MSG_PEEK) == 1 && first == 22)
        speak_tls(fd, false);
    else if (first == 0)
        swallow(fd);
    close(fd);
    return NULL;
}

static void *run_upstream(void *argument)
{
    int listener = (int)(intptr_t)argument, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0)
            die("thread");
        pthread_detach(thread);
    }
    return NULL;
}

typedef struct caller {
    const clv_address *target;
    pthread_barrier_t *start;
    double *seconds;
    size_t calls, failed;
} caller;

static bool call_once(const clv_address *target)
{
    clv_auto(clv_fd) fd = -1;
    return clv_dial(target, TIMEOUT_MS, &fd, NULL) == CLV_OK && speak_tls(fd, true);
}

static void *run_caller(void *argument)
{
    caller *c = argument;
    pthread_barrier_wait(c->start);
    for (size_t i = 0; i < c->calls; i++) {
        double start = now();
        c->failed += !call_once(c->target);
        c->seconds[i] = now() - start;
    }
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure_calls(const char *name, const clv_address *target, size_t callers)
{
    static double seconds[CALLS];
    static caller c[CALLERS_MAX];
    pthread_t thread[CALLERS_MAX];
    pthread_barrier_t start;
    const char *asked = getenv("BENCH_CALLS");
    size_t calls = asked != NULL ? strtoul(asked, NULL, 10) : CALLS;
    size_t each = (calls < callers ? callers : calls < CALLS ? calls : CALLS) / callers;
    size_t failed = 0;
    pthread_barrier_init(&start, NULL, (unsigned)callers + 1);
    for (size_t i = 0; i < callers; i++) {
        c[i] = (caller){target, &start, seconds + i * each, each, 0};
        if (pthread_create(&thread[i], NULL, run_caller, &c[i]) != 0)
            die("thread");
    }
    pthread_barrier_wait(&start);
    double begin = now();
    for (size_t i = 0; i < callers; i++) {
        pthread_join(thread[i], NULL);
        failed += c[i].failed;
    }
    double all = now() - begin;
    size_t n = each * callers;
    qsort(seconds, n, sizeof *seconds, by_size);
    printf("%-10s %4zu callers: %8.0f calls/s, p50 %8.2f ms, p99 %8.2f ms, %zu failed\n", name,
           callers, (double)n / all, seconds[n / 2] * 1e3, seconds[n * 99 / 100] * 1e3, failed);
    pthread_barrier_destroy(&start);
}

static void measure_stream(const char *name, const clv_address *target)
{
    clv_auto(clv_fd) fd = -1;
    char *piece = calloc(1, PIECE), byte;
    bool ok = piece != NULL && clv_dial(target, TIMEOUT_MS, &fd, NULL) == CLV_OK;
    double begin = now();
    for (size_t done = 0; ok && done < STREAM_BYTES; done += PIECE)
        ok = clv_write_full(fd, CLV_BYTES(piece, PIECE), NULL) == CLV_OK;
    ok = ok && shutdown(fd, SHUT_WR) == 0 && clv_read_full(fd, &byte, 1, NULL) == CLV_OK;
    free(piece);
    if (ok)
        printf("%-10s one stream: %7.2f GB/s\n", name,
               (double)STREAM_BYTES / 1e9 / (now() - begin));
    else
        printf("%-10s one stream: failed\n", name);
}

static void measure(const char *name, const clv_address *target)
{
    static const size_t callers[] = {1, 30, 500};
    for (size_t i = 0; i < sizeof callers / sizeof *callers; i++)
        measure_calls(name, target, callers[i]);
    measure_stream(name, target);
}

static pid_t start(const char *const argv[])
{
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child > 0)
        return child;
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    dup2(null, 2);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    _exit(127);
}

/* Processor seconds of children that have ended, and of theirs. */
static double children_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Measure a relay of this command line, which listens on target; false: it is not there. */
static bool measure_relay(const char *name, const char *const argv[], const clv_address *target)
{
    double before = children_seconds();
    pid_t child = start(argv);
    bool up = false;
    for (int i = 0; i < 100 && !up && waitpid(child, NULL, WNOHANG) == 0; i++) {
        usleep(50000);
        up = call_once(target);
    }
    if (up)
        measure(name, target);
    kill(child, SIGTERM);
    waitpid(child, NULL, 0);
    if (up)
        printf("%-10s processor time for all of that: %.2f s\n", name, children_seconds() - before);
    return up;
}

/* "tcp:127.0.0.1:PORT" of a port that is free just now. */
static const char *free_address(clv_address *out)
{
    close(listen_on_loopback(out));
    return strrchr(out->text, ':') + 1;
}

int main(void)
{
    char self[400], program[512], list[] = "/tmp/bench-relay-XXXXXX", from[128], to[64];
    clv_address upstream, target;
    pthread_t thread;
    signal(SIGPIPE, SIG_IGN);
    start_tls();
    int listener = listen_on_loopback(&upstream);
    if (pthread_create(&thread, NULL, run_upstream, (void *)(intptr_t)listener) != 0)
        die("thread");
    const char *port = strrchr(upstream.text, ':') + 1;
    measure("direct", &upstream);

    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(program, sizeof program, "%s/../src/parent/claviger-parent", self);
    int fd = mkstemp(list);
    dprintf(fd, "allowlist:\n- {address: 127.0.0.1, port: %s}\n", port);
    close(fd);
    free_address(&target);
    const char *relay[] = {program,     "proxy",     "--config", list,
                           target.text, "127.0.0.1", port,       NULL};
    if (!measure_relay("claviger", relay, &target))
        puts("claviger-parent does not run: no figures");
    unlink(list);

    snprintf(from, sizeof from, "TCP-LISTEN:%s,bind=127.0.0.1,fork,reuseaddr,backlog=1024,nodelay",
             free_address(&target));
    snprintf(to, sizeof to, "TCP:127.0.0.1:%s,nodelay", port);
    const char *socat[] = {"socat", from, to, NULL};
    if (!measure_relay("socat", socat, &target))
        puts("socat is not installed: no figures");
    puts("AWS's vsock-proxy is reported to take about 7 s for 30 concurrent calls; it is not run "
         "here");
    return 0;
}

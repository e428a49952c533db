/* Names of upstreams, against a resolver and a clock that a test holds in its hands. */
#include "../check.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/clock.h>
#include <parent/relay.h>
#include <parent/upstream.h>

/* The linker leads calls of these to the functions below (--wrap). */
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out);
uint64_t __wrap_clv_monotonic_ms(void);

/* An address, or two with a comma, or NULL: the name does not resolve. */
static _Atomic(const char *) answer;
static atomic_int asked;
static atomic_bool hanging;
static _Atomic uint64_t now_ms = 1000; /* 0: the real clock */
uint64_t __real_clv_monotonic_ms(void);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out)
{
    if ((hints->ai_flags & AI_NUMERICHOST) != 0)
        return __real_getaddrinfo(host, port, hints, out);
    asked++;
    while (hanging)
        usleep(1000);
    const char *text = answer;
    if (text == NULL)
        return EAI_AGAIN;
    const char *comma = strchr(text, ',');
    if (comma == NULL)
        return __real_getaddrinfo(text, port, hints, out);
    char first[64] = "";
    memcpy(first, text, (size_t)(comma - text));
    int failure = __real_getaddrinfo(first, port, hints, out);
    return failure != 0 ? failure : __real_getaddrinfo(comma + 1, port, hints, &(*out)->ai_next);
}

uint64_t __wrap_clv_monotonic_ms(void)
{
    return now_ms != 0 ? now_ms : __real_clv_monotonic_ms();
}

typedef struct stage {
    int wake_fd;
    clv_upstream *upstream;
} stage;

static void start(stage *s, const char *host)
{
    asked = 0;
    s->wake_fd = eventfd(0, EFD_CLOEXEC);
    assert_ok(clv_upstream_new(host, "443", AF_UNSPEC, s->wake_fd, &s->upstream, err));
}

static void stop(stage *s)
{
    clv_upstream_free(&s->upstream);
    close(s->wake_fd);
}

/* Until the resolver has answered once more. */
static void wait_answer(const stage *s)
{
    struct pollfd wait = {.fd = s->wake_fd, .events = POLLIN};
    uint64_t count;
    assert_int_equal(poll(&wait, 1, 20000), 1);
    assert_int_equal(read(s->wake_fd, &count, sizeof count), sizeof count);
}

/* The first address, as its last part in parentheses says it; "" while there is none. */
static void resolve(const stage *s, bool again, clv_resolution expected, const char *address)
{
    clv_address found[CLV_UPSTREAM_ADDRESSES];
    size_t count = 0;
    clv_error err = {.code = CLV_OK};
    assert_int_equal(clv_upstream_resolve(s->upstream, again, found, &count, &err), expected);
    if (expected == CLV_RESOLUTION_READY) {
        assert_in_range(count, 1, CLV_UPSTREAM_ADDRESSES);
        assert_non_null(strstr(found[0].text, address));
    }
    if (expected == CLV_RESOLUTION_FAILED)
        assert_non_null(strstr(err.text, "kms.example:443 cannot be resolved"));
}

/* A name that has the address 192.0.2.1. */
static void start_resolved(stage *s)
{
    answer = "192.0.2.1";
    start(s, "kms.example");
    resolve(s, false, CLV_RESOLUTION_PENDING, "");
    wait_answer(s);
}

static void addresses_are_refreshed_in_time_and_used_meanwhile(void **state)
{
    (void)state;
    stage s;
    start_resolved(&s);
    resolve(&s, true, CLV_RESOLUTION_READY, "(192.0.2.1)");
    answer = "192.0.2.2";
    now_ms += CLV_UPSTREAM_FRESH_MS - 1;
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)");
    assert_int_equal(asked, 1);
    now_ms += 1;
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)"); /* nobody waits for the refresh */
    wait_answer(&s);
    assert_int_equal(asked, 2);
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.2)");
    stop(&s);
}

static void a_resolver_that_is_out_leaves_the_old_addresses_and_is_not_stormed(void **state)
{
    (void)state;
    stage s;
    start_resolved(&s);
    answer = NULL;
    now_ms += CLV_UPSTREAM_FRESH_MS;
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)");
    wait_answer(&s);
    for (int i = 0; i < 100; i++) {
        resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)");
        usleep(1000); /* in which it could be asked */
    }
    assert_int_equal(asked, 2);
    answer = "192.0.2.3";
    now_ms += CLV_UPSTREAM_RETRY_MS;
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)");
    wait_answer(&s);
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.3)");
    stop(&s);
}

static void a_name_that_never_resolved_fails_and_may_resolve_later(void **state)
{
    (void)state;
    stage s;
    answer = NULL;
    start(&s, "kms.example");
    resolve(&s, false, CLV_RESOLUTION_PENDING, "");
    wait_answer(&s);
    resolve(&s, true, CLV_RESOLUTION_FAILED, "");
    answer = "192.0.2.1";
    resolve(&s, false, CLV_RESOLUTION_PENDING, ""); /* another connection asks anew */
    wait_answer(&s);
    resolve(&s, true, CLV_RESOLUTION_READY, "(192.0.2.1)");
    stop(&s);
}

static void a_resolver_that_hangs_is_not_waited_for(void **state)
{
    (void)state;
    stage s;
    answer = "192.0.2.1";
    hanging = true;
    start(&s, "kms.example");
    resolve(&s, false, CLV_RESOLUTION_PENDING, "");
    while (asked == 0)
        usleep(1000);
    resolve(&s, true, CLV_RESOLUTION_PENDING, "");
    stop(&s);        /* returns at once: what is left ends with its thread */
    hanging = false; /* and touches nothing that was freed */
    usleep(50000);
}

static void a_literal_address_asks_no_resolver(void **state)
{
    (void)state;
    static const char *const literal[] = {"192.0.2.9", "2001:db8::9"};
    for (size_t i = 0; i < ROWS(literal); i++) {
        stage s;
        start(&s, literal[i]);
        resolve(&s, false, CLV_RESOLUTION_READY, literal[i]);
        now_ms += 10 * CLV_UPSTREAM_FRESH_MS;
        resolve(&s, false, CLV_RESOLUTION_READY, literal[i]);
        assert_int_equal(asked, 0);
        stop(&s);
    }
}

/* A listener that takes no more: what is sent to it is not answered. */
static void fill_backlog(int port, clv_fd *listener, clv_fd filler[8])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(*listener, 0), 0);
    for (int i = 0; i < 8; i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int under_way = connect(filler[i], (struct sockaddr *)&at, sizeof at);
        assert_true(under_way == 0 || errno == EINPROGRESS);
    }
}

static void an_address_that_swallows_packets_leaves_its_turn_to_the_next(void **state)
{
    (void)state;
    clv_auto_ptr(clv_relay) relay = NULL;
    clv_auto(clv_fd) swallowing = -1, serving = -1, client = -1, upstream = -1;
    clv_fd filler[8];
    clv_address address, bound[CLV_RELAY_RULES_MAX];
    char rule[128];
    now_ms = 0;
    answer = "127.0.0.1,127.0.0.2";
    assert_ok(clv_address_parse("tcp:127.0.0.2:0", &address, err));
    assert_ok(clv_listen(&address, 0, &serving, &address, err));
    const char *port = strrchr(address.text, ':') + 1;
    fill_backlog(atoi(port), &swallowing, filler);
    snprintf(rule, sizeof rule, "tcp:127.0.0.3:0=kms.example:%s", port);
    clv_relay_options options = CLV_RELAY_DEFAULTS;
    options.rule[0] = rule;
    options.rules = 1;
    assert_ok(clv_relay_start(&options, &relay, bound, err));

    assert_ok(clv_dial(&bound[0], 5000, &client, err));
    assert_ok(clv_write_full(client, clv_bytes_of("x"), err));
    struct pollfd wait = {.fd = serving, .events = POLLIN};
    assert_int_equal(poll(&wait, 1, 9000), 1);
    upstream = accept4(serving, NULL, NULL, SOCK_CLOEXEC);
    char byte = 0;
    assert_ok(clv_read_full(upstream, &byte, 1, err));
    assert_int_equal(byte, 'x');
    for (int i = 0; i < 8; i++)
        clv_fd_drop(&filler[i]);
    now_ms = 1000;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_refreshed_in_time_and_used_meanwhile),
        cmocka_unit_test(a_resolver_that_is_out_leaves_the_old_addresses_and_is_not_stormed),
        cmocka_unit_test(a_name_that_never_resolved_fails_and_may_resolve_later),
        cmocka_unit_test(a_resolver_that_hangs_is_not_waited_for),
        cmocka_unit_test(a_literal_address_asks_no_resolver),
        cmocka_unit_test(an_address_that_swallows_packets_leaves_its_turn_to_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

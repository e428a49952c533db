/* Names of upstreams, against a resolver and a clock that a test holds in its hands. */
#include "../check.h"

#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <base/clock.h>
#include <parent/upstream.h>

/* The linker leads calls of these to the functions below (--wrap). */
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out);
uint64_t __wrap_clv_monotonic_ms(void);

static _Atomic(const char *) answer; /* an address, or NULL: the name does not resolve */
static atomic_int asked;
static atomic_bool hanging;
static _Atomic uint64_t now_ms = 1000;

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                       struct addrinfo **out)
{
    if ((hints->ai_flags & AI_NUMERICHOST) != 0)
        return __real_getaddrinfo(host, port, hints, out);
    asked++;
    while (hanging)
        usleep(1000);
    const char *text = answer;
    return text == NULL ? EAI_AGAIN : __real_getaddrinfo(text, port, hints, out);
}

uint64_t __wrap_clv_monotonic_ms(void)
{
    return now_ms;
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

static void addresses_are_refreshed_in_time_and_used_meanwhile(void **state)
{
    (void)state;
    stage s;
    answer = "192.0.2.1";
    start(&s, "kms.example");
    resolve(&s, false, CLV_RESOLUTION_PENDING, "");
    wait_answer(&s);
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
    answer = "192.0.2.1";
    start(&s, "kms.example");
    resolve(&s, false, CLV_RESOLUTION_PENDING, "");
    wait_answer(&s);
    answer = NULL;
    now_ms += CLV_UPSTREAM_FRESH_MS;
    resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)");
    wait_answer(&s);
    for (int i = 0; i < 100; i++)
        resolve(&s, false, CLV_RESOLUTION_READY, "(192.0.2.1)");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_refreshed_in_time_and_used_meanwhile),
        cmocka_unit_test(a_resolver_that_is_out_leaves_the_old_addresses_and_is_not_stormed),
        cmocka_unit_test(a_name_that_never_resolved_fails_and_may_resolve_later),
        cmocka_unit_test(a_resolver_that_hangs_is_not_waited_for),
        cmocka_unit_test(a_literal_address_asks_no_resolver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Errors, secrets, the clock, addresses and files. */
#include "../check.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/file.h>
#include <base/net.h>
#include <claviger/secret.h>

static void every_code_has_its_own_slug(void **state)
{
    (void)state;
    for (int i = 0; i < CLV_STATUS_COUNT; i++)
        assert_int_equal(clv_status_of_slug(clv_status_slug((clv_status)i)), i);
    assert_int_equal(clv_status_of_slug("no-such-code"), CLV_STATUS_COUNT);
}

static void blame_puts_the_place_in_front(void **state)
{
    (void)state;
    clv_error err = {0};
    clv_status status = clv_fail(&err, CLV_TRUNCATED, "expected %d bytes", 4);
    assert_int_equal(clv_blame(&err, status, "file %s", "x"), CLV_TRUNCATED);
    assert_string_equal(err.text, "file x: expected 4 bytes");
    assert_int_equal(clv_fail(NULL, CLV_USAGE, "nobody listens"), CLV_USAGE);
    assert_int_equal(clv_blame(NULL, CLV_USAGE, "nobody listens"), CLV_USAGE);
}

static void secrets_are_bounded_compared_and_cut(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) a = NULL;
    clv_auto_ptr(clv_secret) b = NULL;
    assert_code(clv_secret_new(0, &a, err), CLV_TOO_LARGE);
    assert_code(clv_secret_new(CLV_SECRET_MAX + 1, &a, err), CLV_TOO_LARGE);
    assert_null(a);
    assert_ok(clv_secret_copy(clv_bytes_of("0123456789abcdef"), &a, err));
    assert_ok(clv_secret_copy(clv_bytes_of("0123456789abcdef"), &b, err));
    assert_true(clv_secret_equal(a, b));
    clv_secret_shrink(b, 15);
    assert_int_equal(clv_secret_length(b), 15);
    assert_false(clv_secret_equal(a, b));
    clv_secret_free(&b);
    assert_null(b);
    assert_ok(clv_secret_random(16, &b, err));
    assert_false(clv_secret_equal(a, b));
}

static void a_forked_child_finds_secrets_empty(void **state)
{
    (void)state;
    clv_auto_ptr(clv_secret) secret = NULL;
    assert_ok(clv_secret_copy(clv_bytes_of("only the parent's"), &secret, err));
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0)
        _exit(clv_bytes_all_zero(clv_secret_bytes(secret)) ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_bytes(clv_secret_bytes(secret), "only the parent's");
}

static void clock_carries_attested_time_forward(void **state)
{
    (void)state;
    clv_auto(clv_clock) clock;
    clv_clock_init(&clock);
    uint64_t now, monotonic = clv_monotonic_ms();
    assert_code(clv_clock_now(&clock, &now, err), CLV_CLOCK_UNSET);
    assert_ok(clv_clock_advance(&clock, 1700000000000, monotonic - 5000, err));
    assert_ok(clv_clock_now(&clock, &now, err));
    assert_in_range(now, 1700000005000, 1700000015000);
}

static void clock_refuses_time_that_runs_backwards_or_jumps(void **state)
{
    (void)state;
    const uint64_t t = 1700000000000, m = 1000000;
    static const struct {
        int64_t attested, monotonic;
        clv_status expected;
    } row[] = {
        {+1000, +1000, CLV_OK},           {-500, 0, CLV_OK}, /* two documents that crossed */
        {-1001, 0, CLV_CLOCK_BACKWARDS},  {-3600000, +1000, CLV_CLOCK_BACKWARDS},
        {0, +61000, CLV_CLOCK_BACKWARDS}, /* stands still: an old document again */
        {+61000, 0, CLV_CLOCK_JUMP},      {+86400000, +1000, CLV_CLOCK_JUMP},
        {+86400000, +86400000, CLV_OK},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_auto(clv_clock) clock;
        clv_clock_init(&clock);
        assert_ok(clv_clock_advance(&clock, t, m, err));
        uint64_t attested = t + (uint64_t)row[i].attested;
        uint64_t monotonic = m + (uint64_t)row[i].monotonic;
        if (row[i].expected == CLV_OK) {
            assert_ok(clv_clock_advance(&clock, attested, monotonic, err));
        } else {
            assert_code(clv_clock_advance(&clock, attested, monotonic, err), row[i].expected);
            assert_int_equal(clock.attested_ms, t);
        }
    }
}

static void times_are_written_and_read_in_one_form(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"2021-03-05T17:01:49.526Z", 1614963709526},
        {"2021-03-05T17:01:49Z", 1614963709000},
        {"1614963709", 1614963709000},
        {"1614963709.5", 1614963709500},
        {"2024-02-29T00:00:00Z", 1709164800000},
    };
    static const char *const bad[] = {
        "",   "now",  "2021-03-05", "2021-02-30T00:00:00Z", "2021-03-05T17:01:49", "-1",
        "1x", "1e99", " 5",         "99999999999999999999",
    };
    for (size_t i = 0; i < ROWS(good); i++) {
        uint64_t ms;
        assert_ok(clv_time_parse(good[i].text, &ms, err));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ROWS(bad); i++) {
        uint64_t ms;
        assert_code(clv_time_parse(bad[i], &ms, err), CLV_BAD_TIME);
    }
    char text[CLV_TIME_TEXT_SIZE];
    clv_time_text(1614963709526, text);
    assert_string_equal(text, "2021-03-05T17:01:49Z");
}

static void addresses_have_three_forms_and_no_other(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int family;
    } good[] = {
        {"unix:/tmp/x", AF_UNIX},   {"tcp:127.0.0.1:80", AF_INET}, {"tcp:[::1]:80", AF_INET6},
        {"vsock:3:5000", AF_VSOCK}, {"vsock:any:1", AF_VSOCK},
    };
    static const char *const bad[] = {
        "",
        "/tmp/x",
        "unix:",
        "unix:relative",
        "tcp:localhost:80",
        "tcp:1.2.3:1",
        "tcp:1.2.3.4",
        "tcp:1.2.3.4:65536",
        "tcp:1.2.3.4:-1",
        "tcp:1.2.3.4:",
        "vsock:x:1",
        "vsock:3",
        "vsock:99999999999:1",
        "udp:1.2.3.4:5",
    };
    for (size_t i = 0; i < ROWS(good); i++) {
        clv_address address;
        assert_ok(clv_address_parse(good[i].text, &address, err));
        assert_int_equal(address.sa.ss_family, good[i].family);
    }
    for (size_t i = 0; i < ROWS(bad); i++) {
        clv_address address;
        assert_code(clv_address_parse(bad[i], &address, err), CLV_BAD_ADDRESS);
    }
}

static void listening_reports_the_port_that_was_chosen(void **state)
{
    (void)state;
    clv_address address, bound;
    clv_auto(clv_fd) server = -1;
    clv_auto(clv_fd) client = -1;
    assert_ok(clv_address_parse("tcp:127.0.0.1:0", &address, err));
    assert_ok(clv_listen(&address, 0, &server, &bound, err));
    assert_ok(clv_address_parse(bound.text, &address, err));
    assert_ok(clv_dial(&address, 1000, &client, err));
    char byte;
    assert_ok(clv_socket_timeout(client, 20, err));
    assert_code(clv_read_full(client, &byte, 1, err), CLV_DEADLINE);
    clv_fd_drop(&server);
    clv_auto(clv_fd) refused = -1;
    assert_code(clv_dial(&address, 1000, &refused, err), CLV_UNREACHABLE);
}

static void a_stale_socket_is_replaced_and_a_live_one_is_not(void **state)
{
    const char *directory = *state;
    char text[120];
    snprintf(text, sizeof text, "unix:%s/s", directory);
    clv_address address;
    clv_auto(clv_fd) first = -1;
    clv_auto(clv_fd) second = -1;
    assert_ok(clv_address_parse(text, &address, err));
    assert_ok(clv_listen(&address, 0600, &first, NULL, err));
    struct stat st;
    assert_int_equal(stat(text + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_code(clv_listen(&address, 0600, &second, NULL, err), CLV_SYSTEM);
    clv_fd_drop(&first);
    assert_ok(clv_listen(&address, 0600, &second, NULL, err));
}

static void a_file_is_written_whole_or_not_at_all(void **state)
{
    const char *directory = *state;
    char path[120];
    snprintf(path, sizeof path, "%s/file", directory);
    clv_auto(clv_buf) back = CLV_BUF_INIT;
    assert_ok(clv_file_write(path, clv_bytes_of("one"), 0640, err));
    assert_ok(clv_file_write(path, clv_bytes_of("three"), 0640, err));
    assert_ok(clv_file_read(path, 5, &back, err));
    assert_bytes(clv_buf_bytes(&back), "three");
    back.n = 0;
    assert_code(clv_file_read(path, 4, &back, err), CLV_TOO_LARGE);
    snprintf(path, sizeof path, "%s/none/file", directory);
    assert_code(clv_file_write(path, clv_bytes_of("x"), 0600, err), CLV_SYSTEM);
    assert_code(clv_file_read(path, 4, &back, err), CLV_SYSTEM);
}

static int make_directory(void **state)
{
    static char directory[] = "/tmp/claviger-test-XXXXXX";
    *state = mkdtemp(directory);
    return *state != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    static const char *const name[] = {"s", "file", NULL};
    char path[120];
    for (size_t i = 0; name[i] != NULL; i++) {
        snprintf(path, sizeof path, "%s/%s", (const char *)*state, name[i]);
        unlink(path);
    }
    return rmdir(*state);
}

int main(void)
{
    clv_error err = {0};
    if (clv_secret_start(&err) != CLV_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_own_slug),
        cmocka_unit_test(blame_puts_the_place_in_front),
        cmocka_unit_test(secrets_are_bounded_compared_and_cut),
        cmocka_unit_test(a_forked_child_finds_secrets_empty),
        cmocka_unit_test(clock_carries_attested_time_forward),
        cmocka_unit_test(clock_refuses_time_that_runs_backwards_or_jumps),
        cmocka_unit_test(times_are_written_and_read_in_one_form),
        cmocka_unit_test(addresses_have_three_forms_and_no_other),
        cmocka_unit_test(listening_reports_the_port_that_was_chosen),
        cmocka_unit_test(a_stale_socket_is_replaced_and_a_live_one_is_not),
        cmocka_unit_test(a_file_is_written_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

/* Frames and calls against a peer that sends whatever a test tells it to. */
#include "../check.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <channel/server.h>

/* Both ends of a connection; what is written to peer is read by the code under test at fd. */
static void connect_pair(clv_fd *fd, clv_fd *peer)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *fd = pair[0];
    *peer = pair[1];
    assert_ok(clv_socket_timeout(*fd, 200, err));
}

/* Hex on the wire: 01 version, type, 0000, length, payload. */
static const struct {
    const char *what;
    const char *wire;
    bool close; /* the peer closes behind it */
    clv_status expected;
} call_table[] = {
    {"a whole call",
     "0101000000000002"
     "7b7d"
     "0103000000000000",
     false, CLV_OK},
    {"a call with data",
     "0101000000000002"
     "7b7d"
     "0102000000000003"
     "616263"
     "0103000000000000",
     false, CLV_OK},
    {"nothing", "", true, CLV_CLOSED},
    {"half a header", "01010000", true, CLV_CLOSED},
    {"silence", "01010000", false, CLV_DEADLINE},
    {"half a payload",
     "0101000000000010"
     "7b7d",
     true, CLV_CLOSED},
    {"version 2",
     "0201000000000002"
     "7b7d",
     false, CLV_FRAME_FORMAT},
    {"type 0", "0100000000000000", false, CLV_FRAME_FORMAT},
    {"type 6", "0106000000000000", false, CLV_FRAME_FORMAT},
    {"bits in the reserved field",
     "0101000100000002"
     "7b7d",
     false, CLV_FRAME_FORMAT},
    {"a length beyond the limit", "0101000000100001", false, CLV_TOO_LARGE},
    {"the longest length there is", "01010000ffffffff", false, CLV_TOO_LARGE},
    {"data where a call must be",
     "0102000000000001"
     "61",
     false, CLV_FRAME_TYPE},
    {"an end where a call must be", "0103000000000000", false, CLV_FRAME_TYPE},
    {"a result where a call must be",
     "0104000000000002"
     "7b7d",
     false, CLV_FRAME_TYPE},
    {"a call that is no JSON",
     "0101000000000002"
     "7b7b",
     false, CLV_JSON_MALFORMED},
    {"a call that is a list",
     "0101000000000002"
     "5b5d",
     false, CLV_JSON_TYPE},
    {"an empty call", "0101000000000000", false, CLV_JSON_MALFORMED},
    {"a member twice",
     "010100000000000d"
     "7b2261223a312c2261223a327d",
     false, CLV_JSON_MALFORMED},
    {"a call behind a call",
     "0101000000000002"
     "7b7d"
     "0101000000000002"
     "7b7d",
     false, CLV_FRAME_TYPE},
    {"an end with a payload",
     "0101000000000002"
     "7b7d"
     "0103000000000001"
     "61",
     false, CLV_FRAME_TYPE},
    {"an empty piece of data",
     "0101000000000002"
     "7b7d"
     "0102000000000000",
     false, CLV_FRAME_TYPE},
    {"no end",
     "0101000000000002"
     "7b7d",
     true, CLV_CLOSED},
    {"no end, and silence",
     "0101000000000002"
     "7b7d",
     false, CLV_DEADLINE},
};

static void each_call_on_the_wire_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(call_table); i++) {
        clv_auto(clv_fd) fd = -1;
        clv_auto(clv_fd) peer = -1;
        clv_auto(clv_message) call = CLV_MESSAGE_INIT;
        clv_auto(clv_buf) wire = CLV_BUF_INIT;
        clv_error fault = {.code = CLV_OK};
        connect_pair(&fd, &peer);
        assert_ok(clv_hex_decode(clv_bytes_of(call_table[i].wire), &wire, err));
        assert_ok(clv_write_full(peer, clv_buf_bytes(&wire), err));
        if (call_table[i].close)
            clv_fd_drop(&peer);
        clv_status found = clv_call_read(fd, &call, &fault);
        if (found != call_table[i].expected)
            fail_msg("%s: expected %s, found %s: %s", call_table[i].what,
                     clv_status_slug(call_table[i].expected), clv_status_slug(found), fault.text);
    }
}

static const struct {
    const char *what;
    clv_frame_type type;
    const char *json;
    clv_status expected;
} answer_table[] = {
    {"a fault of a known code", CLV_FRAME_FAULT, "{\"code\":\"state-conflict\",\"message\":\"m\"}",
     CLV_STATE_CONFLICT},
    {"a fault of no known code", CLV_FRAME_FAULT, "{\"code\":\"oops\",\"message\":\"m\"}",
     CLV_FRAME_FORMAT},
    {"a fault that says all is well", CLV_FRAME_FAULT, "{\"code\":\"ok\",\"message\":\"m\"}",
     CLV_FRAME_FORMAT},
    {"a fault without a code", CLV_FRAME_FAULT, "{\"message\":\"m\"}", CLV_JSON_MISSING},
    {"a fault with more members", CLV_FRAME_FAULT, "{\"code\":\"ok\",\"message\":\"m\",\"x\":1}",
     CLV_JSON_UNKNOWN},
    {"a fault that is a list", CLV_FRAME_FAULT, "[]", CLV_JSON_TYPE},
    {"a call in place of an answer", CLV_FRAME_CALL, "{}", CLV_FRAME_TYPE},
    {"a result that is no JSON", CLV_FRAME_RESULT, "{", CLV_JSON_MALFORMED},
};

static void each_answer_on_the_wire_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(answer_table); i++) {
        clv_auto(clv_fd) fd = -1;
        clv_auto(clv_fd) peer = -1;
        clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
        clv_auto(clv_json) call = json_object();
        clv_error fault = {.code = CLV_OK};
        connect_pair(&fd, &peer);
        assert_ok(
            clv_frame_write(peer, answer_table[i].type, clv_bytes_of(answer_table[i].json), err));
        clv_status found = clv_call(fd, call, CLV_BYTES(NULL, 0), &answer, &fault);
        if (found != answer_table[i].expected)
            fail_msg("%s: expected %s, found %s: %s", answer_table[i].what,
                     clv_status_slug(answer_table[i].expected), clv_status_slug(found), fault.text);
    }
}

static void data_beyond_the_readers_limit_is_refused(void **state)
{
    (void)state;
    clv_auto(clv_fd) fd = -1;
    clv_auto(clv_fd) peer = -1;
    clv_auto(clv_message) call = CLV_MESSAGE_INIT;
    call.data.limit = 4;
    connect_pair(&fd, &peer);
    assert_ok(clv_frame_write(peer, CLV_FRAME_CALL, clv_bytes_of("{}"), err));
    assert_ok(clv_frame_write(peer, CLV_FRAME_DATA, clv_bytes_of("abc"), err));
    assert_ok(clv_frame_write(peer, CLV_FRAME_DATA, clv_bytes_of("de"), err));
    assert_code(clv_call_read(fd, &call, err), CLV_TOO_LARGE);
}

#define DATA_MAX (4 * CLV_FRAME_MAX)

/* Echoes the data; a call that names a code fails with it. */
static clv_status echo(void *context, const clv_message *call, clv_message *answer, clv_error *err)
{
    (void)context;
    clv_json_reader r;
    const char *code = NULL;
    CLV_TRY(clv_json_open(&r, call->json, "", err));
    CLV_TRY(clv_json_text(&r, "fail", &code, err));
    CLV_TRY(clv_json_done(&r, err));
    if (code != NULL)
        return clv_fail(err, clv_status_of_slug(code), "as asked");
    answer->json = json_object();
    return clv_buf_append(&answer->data, clv_buf_bytes(&call->data), err);
}

typedef struct stage {
    clv_server *server;
    clv_address bound;
} stage;

static void start_server(stage *s, size_t connections, int idle_ms)
{
    clv_address address;
    int fd = -1;
    assert_ok(clv_address_parse("tcp:127.0.0.1:0", &address, err));
    assert_ok(clv_listen(&address, 0, &fd, &s->bound, err));
    clv_server_limits limits = {connections, idle_ms, DATA_MAX};
    assert_ok(clv_server_start(fd, &limits, echo, NULL, &s->server, err));
}

static clv_status call_once(const stage *s, const char *fail, clv_bytes data, clv_message *answer,
                            clv_error *err)
{
    clv_auto(clv_fd) fd = -1;
    clv_auto(clv_json) call = json_pack("{s:s*}", "fail", fail);
    CLV_TRY(clv_dial(&s->bound, 5000, &fd, err));
    return clv_call(fd, call, data, answer, err);
}

static void a_server_answers_data_of_every_size(void **state)
{
    (void)state;
    static const size_t size[] = {
        0, 1, CLV_FRAME_MAX - 1, CLV_FRAME_MAX, CLV_FRAME_MAX + 1, 3 * CLV_FRAME_MAX};
    stage s;
    start_server(&s, 4, 5000);
    for (size_t i = 0; i < ROWS(size); i++) {
        clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
        uint8_t *data = test_malloc(size[i] + 1);
        memset(data, (int)i + 1, size[i] + 1);
        assert_ok(call_once(&s, NULL, CLV_BYTES(data, size[i]), &answer, err));
        assert_true(clv_bytes_equal(clv_buf_bytes(&answer.data), CLV_BYTES(data, size[i])));
        test_free(data);
    }
    clv_server_free(&s.server);
}

static void a_server_takes_no_more_data_than_it_was_told(void **state)
{
    (void)state;
    stage s;
    start_server(&s, 4, 5000);
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    uint8_t *data = test_calloc(1, DATA_MAX + 1);
    assert_ok(call_once(&s, NULL, CLV_BYTES(data, DATA_MAX), &answer, err));
    /* The refusal may meet the rest of what was sent on its way: then the connection is reset. */
    clv_auto(clv_message) none = CLV_MESSAGE_INIT;
    clv_status found = call_once(&s, NULL, CLV_BYTES(data, DATA_MAX + 1), &none, NULL);
    assert_true(found == CLV_TOO_LARGE || found == CLV_CLOSED);
    test_free(data);
    clv_server_free(&s.server);
}

static void *stop_server(void *argument)
{
    clv_server_free(argument);
    return NULL;
}

/* Whoever got through the door is answered: a restart loses nothing. */
static void a_server_that_stops_answers_who_has_connected(void **state)
{
    (void)state;
    stage s;
    pthread_t stopper;
    clv_auto(clv_fd) fresh = -1;
    clv_auto(clv_fd) half = -1;
    clv_auto(clv_message) first = CLV_MESSAGE_INIT;
    clv_auto(clv_message) second = CLV_MESSAGE_INIT;
    clv_auto(clv_json) call = json_object();
    start_server(&s, 4, 5000);
    assert_ok(clv_dial(&s.bound, 5000, &half, err));
    assert_ok(clv_dial(&s.bound, 5000, &fresh, err));
    assert_ok(clv_frame_write(half, CLV_FRAME_CALL, clv_bytes_of("{}"), err));
    usleep(100000); /* both are accepted */
    assert_int_equal(pthread_create(&stopper, NULL, stop_server, &s.server), 0);
    usleep(200000);
    assert_ok(clv_call(fresh, call, clv_bytes_of("x"), &first, err));
    usleep(1000 * 1000 * CLV_SERVER_GRACE_S);
    assert_ok(clv_frame_write(half, CLV_FRAME_END, CLV_BYTES(NULL, 0), err));
    clv_frame_type type;
    assert_ok(clv_frame_read(half, &type, &second.data, err));
    assert_int_equal(type, CLV_FRAME_RESULT);
    clv_fd_drop(&half);
    pthread_join(stopper, NULL);
}

static void a_failed_call_travels_with_its_code(void **state)
{
    (void)state;
    stage s;
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    start_server(&s, 4, 5000);
    assert_code(call_once(&s, "state-not-found", CLV_BYTES(NULL, 0), &answer, err),
                CLV_STATE_NOT_FOUND);
    clv_server_free(&s.server);
}

static void idle_peers_are_dropped_and_then_service_resumes(void **state)
{
    (void)state;
    stage s;
    clv_fd idle[3] = {-1, -1, -1};
    char byte;
    start_server(&s, ROWS(idle), 200);
    for (size_t i = 0; i < ROWS(idle); i++)
        assert_ok(clv_dial(&s.bound, 5000, &idle[i], err));
    /* Every slot is taken by a peer that says nothing: each is closed by the server. */
    for (size_t i = 0; i < ROWS(idle); i++)
        assert_code(clv_read_full(idle[i], &byte, 1, err), CLV_CLOSED);
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    assert_ok(call_once(&s, NULL, clv_bytes_of("x"), &answer, err));
    for (size_t i = 0; i < ROWS(idle); i++)
        clv_fd_drop(&idle[i]);
    clv_server_free(&s.server);
}

/* Frames of one byte of data, each well within the idle time, for ever. */
static void a_peer_that_is_never_silent_and_never_done_is_dropped(void **state)
{
    (void)state;
    stage s;
    clv_auto(clv_fd) slow = -1;
    start_server(&s, 1, 200);
    assert_ok(clv_dial(&s.bound, 5000, &slow, err));
    assert_ok(clv_frame_write(slow, CLV_FRAME_CALL, clv_bytes_of("{}"), err));
    int frames = 0;
    while (frames < 200 &&
           clv_frame_write(slow, CLV_FRAME_DATA, clv_bytes_of("x"), NULL) == CLV_OK) {
        usleep(50000);
        frames++;
    }
    assert_in_range(frames, 200 * CLV_CALL_IDLES / 50 / 2, 100);
    usleep(200000); /* the slot is given back once its thread has seen the end */
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    assert_ok(call_once(&s, NULL, clv_bytes_of("x"), &answer, err));
    clv_server_free(&s.server);
}

static void a_flood_beyond_the_slots_is_refused_at_once(void **state)
{
    (void)state;
    stage s;
    clv_auto(clv_fd) first = -1;
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    clv_auto(clv_message) again = CLV_MESSAGE_INIT;
    clv_auto(clv_json) call = json_object();
    start_server(&s, 1, 5000);
    assert_ok(clv_dial(&s.bound, 5000, &first, err));
    assert_ok(clv_call(first, call, CLV_BYTES(NULL, 0), &answer, err));
    clv_auto(clv_fd) second = -1;
    assert_ok(clv_dial(&s.bound, 5000, &second, err));
    char byte;
    assert_code(clv_read_full(second, &byte, 1, err), CLV_CLOSED);
    assert_ok(clv_call(first, call, CLV_BYTES(NULL, 0), &again, err));
    clv_fd_drop(&first);
    clv_server_free(&s.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_on_the_wire_has_its_verdict),
        cmocka_unit_test(each_answer_on_the_wire_has_its_verdict),
        cmocka_unit_test(data_beyond_the_readers_limit_is_refused),
        cmocka_unit_test(a_server_answers_data_of_every_size),
        cmocka_unit_test(a_server_takes_no_more_data_than_it_was_told),
        cmocka_unit_test(a_server_that_stops_answers_who_has_connected),
        cmocka_unit_test(a_failed_call_travels_with_its_code),
        cmocka_unit_test(idle_peers_are_dropped_and_then_service_resumes),
        cmocka_unit_test(a_peer_that_is_never_silent_and_never_done_is_dropped),
        cmocka_unit_test(a_flood_beyond_the_slots_is_refused_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

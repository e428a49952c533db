/* The NSM client against a peer that answers whatever a test tells it to. */
#include "../check.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/cbor.h>
#include <base/net.h>
#include <claviger/nsm.h>

/* One scripted answer for each request; the last request is kept for inspection. */
typedef struct fake {
    char address[120];
    clv_fd listening;
    pthread_t thread;
    clv_bytes answer;
    clv_buf request;
} fake;

static bool answer_one(fake *f, int fd)
{
    uint8_t head[4], body[CLV_NSM_REQUEST_MAX];
    if (clv_read_full(fd, head, sizeof head, NULL) != CLV_OK)
        return false;
    size_t n = (size_t)head[2] << 8 | head[3];
    clv_auto(clv_buf) frame = CLV_BUF_INIT;
    f->request.n = 0;
    return clv_read_full(fd, body, n, NULL) == CLV_OK &&
           clv_buf_append(&f->request, CLV_BYTES(body, n), NULL) == CLV_OK &&
           clv_buf_u32(&frame, (uint32_t)f->answer.n, NULL) == CLV_OK &&
           clv_buf_append(&frame, f->answer, NULL) == CLV_OK &&
           clv_write_full(fd, clv_buf_bytes(&frame), NULL) == CLV_OK;
}

static void *run_fake(void *context)
{
    fake *f = context;
    clv_auto(clv_fd) fd = accept(f->listening, NULL, NULL);
    while (fd >= 0 && answer_one(f, fd))
        continue;
    return NULL;
}

static void fake_start(fake *f, const char *directory, clv_bytes answer, clv_nsm **nsm)
{
    clv_address address;
    *f = (fake){.listening = -1, .answer = answer, .request = CLV_BUF_INIT};
    snprintf(f->address, sizeof f->address, "unix:%s/nsm.sock", directory);
    assert_ok(clv_address_parse(f->address, &address, err));
    assert_ok(clv_listen(&address, 0600, &f->listening, NULL, err));
    assert_int_equal(pthread_create(&f->thread, NULL, run_fake, f), 0);
    assert_ok(clv_nsm_open(f->address, nsm, err));
}

static void fake_stop(fake *f, clv_nsm **nsm)
{
    clv_nsm_free(nsm);
    pthread_join(f->thread, NULL);
    clv_fd_drop(&f->listening);
    clv_buf_drop(&f->request);
    unlink(f->address + 5);
}

enum ask { DESCRIBE, DESCRIBE_PCR, EXTEND, LOCK, LOCKS, ATTEST, RANDOM };

static clv_status ask(clv_nsm *nsm, enum ask what, clv_error *err)
{
    clv_nsm_description description;
    clv_nsm_pcr pcr;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_binding binding = {.nonce = {true, clv_bytes_of("n")}};
    uint8_t random[16];
    switch (what) {
    case DESCRIBE:
        return clv_nsm_describe(nsm, &description, err);
    case DESCRIBE_PCR:
        return clv_nsm_describe_pcr(nsm, 16, &pcr, err);
    case EXTEND:
        return clv_nsm_extend_pcr(nsm, 16, clv_bytes_of("x"), NULL, err);
    case LOCK:
        return clv_nsm_lock_pcr(nsm, 16, err);
    case LOCKS:
        return clv_nsm_lock_pcrs(nsm, 32, err);
    case ATTEST:
        return clv_nsm_attest(nsm, &binding, &document, err);
    case RANDOM:
        return clv_nsm_random(nsm, random, sizeof random, err);
    }
    return CLV_INTERNAL;
}

#define PCR_48                                         \
    "5830"                                             \
    "000000000000000000000000000000000000000000000000" \
    "000000000000000000000000000000000000000000000000"

/* Each answer as hex with what the client must make of it. */
static const struct {
    const char *what;
    enum ask ask;
    const char *answer;
    clv_status expected;
} answer_table[] = {
    {"lock", LOCK, "674c6f636b504352", CLV_OK},
    {"locks", LOCKS, "684c6f636b50435273", CLV_OK},
    {"document", ATTEST, "a16b4174746573746174696f6ea168646f63756d656e7443616263", CLV_OK},
    {"describe pcr", DESCRIBE_PCR, "a16b4465736372696265504352a2646c6f636bf56464617461" PCR_48,
     CLV_OK},
    {"describe pcr, fields in the other order", DESCRIBE_PCR,
     "a16b4465736372696265504352a26464617461" PCR_48 "646c6f636bf4", CLV_OK},
    {"extend", EXTEND, "a169457874656e64504352a16464617461" PCR_48, CLV_OK},
    {"InvalidArgument", LOCK, "a1654572726f726f496e76616c6964417267756d656e74",
     CLV_NSM_INVALID_ARGUMENT},
    {"InvalidIndex", LOCK, "a1654572726f726c496e76616c6964496e646578", CLV_NSM_INVALID_INDEX},
    {"InvalidResponse", LOCK, "a1654572726f726f496e76616c6964526573706f6e7365",
     CLV_NSM_INVALID_RESPONSE},
    {"ReadOnlyIndex", EXTEND, "a1654572726f726d526561644f6e6c79496e646578",
     CLV_NSM_READ_ONLY_INDEX},
    {"InvalidOperation", LOCK, "a1654572726f7270496e76616c69644f7065726174696f6e",
     CLV_NSM_INVALID_OPERATION},
    {"BufferTooSmall", ATTEST, "a1654572726f726e427566666572546f6f536d616c6c",
     CLV_NSM_BUFFER_TOO_SMALL},
    {"InputTooLarge", ATTEST, "a1654572726f726d496e707574546f6f4c61726765",
     CLV_NSM_INPUT_TOO_LARGE},
    {"InternalError", ATTEST, "a1654572726f726d496e7465726e616c4572726f72", CLV_NSM_INTERNAL_ERROR},
    {"an error of no known name", LOCK, "a1654572726f72634f6f70", CLV_NSM_RESPONSE},
    {"an error that is not text", LOCK, "a1654572726f7201", CLV_NSM_RESPONSE},
    {"bytes behind an error", LOCK, "a1654572726f726c496e76616c6964496e64657800", CLV_NSM_RESPONSE},
    {"nothing", LOCK, "", CLV_NSM_RESPONSE},
    {"an integer", LOCK, "01", CLV_NSM_RESPONSE},
    {"cut CBOR", LOCK, "674c6f636b5043", CLV_NSM_RESPONSE},
    {"the answer to another request", LOCK, "684c6f636b50435273", CLV_NSM_RESPONSE},
    {"bytes behind a bare answer", LOCK, "674c6f636b50435200", CLV_NSM_RESPONSE},
    {"a map of two", ATTEST, "a26b4174746573746174696f6ea168646f63756d656e7441610102",
     CLV_NSM_RESPONSE},
    {"a map of indefinite length", ATTEST, "bf6b4174746573746174696f6ea168646f63756d656e744161ff",
     CLV_NSM_RESPONSE},
    {"a bare text where fields must be", ATTEST, "6b4174746573746174696f6e", CLV_NSM_RESPONSE},
    {"no fields", ATTEST, "a16b4174746573746174696f6ea0", CLV_NSM_RESPONSE},
    {"another field", ATTEST, "a16b4174746573746174696f6ea16564756d6d794161", CLV_NSM_RESPONSE},
    {"a field too many", ATTEST, "a16b4174746573746174696f6ea268646f63756d656e744161616101",
     CLV_NSM_RESPONSE},
    {"a document that is text", ATTEST, "a16b4174746573746174696f6ea168646f63756d656e746161",
     CLV_NSM_RESPONSE},
    {"a document of indefinite length", ATTEST,
     "a16b4174746573746174696f6ea168646f63756d656e745f4161ff", CLV_NSM_RESPONSE},
    {"bytes behind the fields", ATTEST, "a16b4174746573746174696f6ea168646f63756d656e74416100",
     CLV_NSM_RESPONSE},
    {"a field twice", DESCRIBE_PCR, "a16b4465736372696265504352a2646c6f636bf5646c6f636bf5",
     CLV_NSM_RESPONSE},
    {"a lock that is a number", DESCRIBE_PCR,
     "a16b4465736372696265504352a2646c6f636b016464617461" PCR_48, CLV_NSM_RESPONSE},
    {"a register of 47 bytes", DESCRIBE_PCR,
     "a16b4465736372696265504352a2646c6f636bf56464617461582f"
     "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "0",
     CLV_NSM_RESPONSE},
    {"a short register after extend", EXTEND, "a169457874656e64504352a164646174614100",
     CLV_NSM_RESPONSE},
    {"no random bytes", RANDOM, "a16947657452616e646f6da16672616e646f6d40", CLV_NSM_RESPONSE},
    {"a description that lacks fields", DESCRIBE,
     "a16b44657363726962654e534da16d76657273696f6e5f6d616a6f7201", CLV_NSM_RESPONSE},
};

static void each_answer_has_its_meaning(void **state)
{
    for (size_t i = 0; i < ROWS(answer_table); i++) {
        clv_auto(clv_buf) answer = CLV_BUF_INIT;
        clv_nsm *nsm = NULL;
        clv_error fault = {.code = CLV_OK};
        fake f;
        assert_ok(clv_hex_decode(clv_bytes_of(answer_table[i].answer), &answer, err));
        fake_start(&f, *state, clv_buf_bytes(&answer), &nsm);
        clv_status found = ask(nsm, answer_table[i].ask, &fault);
        fake_stop(&f, &nsm);
        if (found != answer_table[i].expected)
            fail_msg("%s: expected %s, found %s: %s", answer_table[i].what,
                     clv_status_slug(answer_table[i].expected), clv_status_slug(found), fault.text);
    }
}

static void a_description_is_read_whole(void **state)
{
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    clv_nsm *nsm = NULL;
    clv_nsm_description d;
    fake f;
    assert_ok(clv_hex_decode(
        clv_bytes_of("a16b44657363726962654e534da76d76657273696f6e5f6d616a6f72016d76657273696f6e5f"
                     "6d696e6f72026d76657273696f6e5f706174636803696d6f64756c655f69646369"
                     "2d31686d61785f7063727318206b6c6f636b65645f706372738300011818"
                     "6664696765737466534841333834"),
        &answer, err));
    fake_start(&f, *state, clv_buf_bytes(&answer), &nsm);
    assert_ok(clv_nsm_describe(nsm, &d, err));
    fake_stop(&f, &nsm);
    assert_int_equal(d.version_major * 100 + d.version_minor * 10 + d.version_patch, 123);
    assert_string_equal(d.module_id, "i-1");
    assert_int_equal(d.max_pcrs, 32);
    assert_int_equal(d.locked, UINT32_C(1) << 0 | UINT32_C(1) << 1 | UINT32_C(1) << 24);
    assert_string_equal(d.digest, "SHA384");
}

static void a_register_beyond_31_in_a_description_is_refused(void **state)
{
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    clv_nsm *nsm = NULL;
    clv_nsm_description d;
    fake f;
    assert_ok(clv_hex_decode(
        clv_bytes_of("a16b44657363726962654e534da76d76657273696f6e5f6d616a6f72016d76657273696f6e5f"
                     "6d696e6f72026d76657273696f6e5f706174636803696d6f64756c655f69646369"
                     "2d31686d61785f7063727318206b6c6f636b65645f70637273811820"
                     "6664696765737466534841333834"),
        &answer, err));
    fake_start(&f, *state, clv_buf_bytes(&answer), &nsm);
    assert_code(clv_nsm_describe(nsm, &d, err), CLV_NSM_RESPONSE);
    fake_stop(&f, &nsm);
}

static void requests_are_the_documented_bytes(void **state)
{
    static const struct {
        enum ask ask;
        const char *request;
    } row[] = {
        {DESCRIBE, "6b44657363726962654e534d"},
        {RANDOM, "6947657452616e646f6d"},
        {DESCRIBE_PCR, "a16b4465736372696265504352a165696e64657810"},
        {EXTEND, "a169457874656e64504352a265696e646578106464617461"
                 "4178"},
        {LOCK, "a1674c6f636b504352a165696e64657810"},
        {LOCKS, "a1684c6f636b50435273a16572616e67651820"},
        {ATTEST, "a16b4174746573746174696f6ea369757365725f64617461f6656e6f6e6365416e"
                 "6a7075626c69635f6b6579f6"},
    };
    for (size_t i = 0; i < ROWS(row); i++) {
        clv_auto(clv_buf) expected = CLV_BUF_INIT;
        clv_nsm *nsm = NULL;
        clv_error fault = {.code = CLV_OK};
        fake f;
        assert_ok(clv_hex_decode(clv_bytes_of(row[i].request), &expected, err));
        fake_start(&f, *state, clv_bytes_of("\x01"), &nsm);
        assert_int_equal(ask(nsm, row[i].ask, &fault), CLV_NSM_RESPONSE);
        clv_nsm_free(&nsm);
        pthread_join(f.thread, NULL);
        assert_int_equal(f.request.n, expected.n);
        assert_memory_equal(f.request.p, expected.p, expected.n);
        clv_fd_drop(&f.listening);
        clv_buf_drop(&f.request);
        unlink(f.address + 5);
    }
}

static void requests_beyond_the_modules_limits_are_not_sent(void **state)
{
    static const uint8_t big[CLV_NSM_REQUEST_MAX + 1];
    clv_nsm *nsm = NULL;
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    fake f;
    fake_start(&f, *state, clv_bytes_of("\x01"), &nsm);
    clv_binding row[] = {
        {.user_data = {true, CLV_BYTES(big, CLV_OPTIONAL_ASK_MAX + 1)}},
        {.nonce = {true, CLV_BYTES(big, CLV_OPTIONAL_ASK_MAX + 1)}},
        {.public_key = {true, CLV_BYTES(big, CLV_OPTIONAL_MAX + 1)}},
    };
    for (size_t i = 0; i < ROWS(row); i++)
        assert_code(clv_nsm_attest(nsm, &row[i], &document, err), CLV_NSM_REQUEST);
    assert_code(clv_nsm_extend_pcr(nsm, 16, CLV_BYTES(big, sizeof big), NULL, err),
                CLV_NSM_REQUEST);
    assert_int_equal(f.request.n, 0);
    fake_stop(&f, &nsm);
}

static void addresses_that_lead_nowhere_say_so(void **state)
{
    (void)state;
    clv_nsm *nsm = NULL;
    assert_code(clv_nsm_open("device:/nonexistent/nsm", &nsm, err), CLV_NSM_OPEN);
    assert_code(clv_nsm_open("unix:/nonexistent/nsm", &nsm, err), CLV_NSM_OPEN);
    assert_code(clv_nsm_open("tcp:127.0.0.1:1", &nsm, err), CLV_BAD_ADDRESS);
    assert_code(clv_nsm_open("/dev/nsm", &nsm, err), CLV_BAD_ADDRESS);
    assert_null(nsm);
}

static int make_directory(void **state)
{
    static char directory[] = "/tmp/claviger-nsm-XXXXXX";
    *state = mkdtemp(directory);
    return *state != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
    return rmdir(*state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_answer_has_its_meaning),
        cmocka_unit_test(a_description_is_read_whole),
        cmocka_unit_test(a_register_beyond_31_in_a_description_is_refused),
        cmocka_unit_test(requests_are_the_documented_bytes),
        cmocka_unit_test(requests_beyond_the_modules_limits_are_not_sent),
        cmocka_unit_test(addresses_that_lead_nowhere_say_so),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

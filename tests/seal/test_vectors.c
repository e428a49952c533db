/*
 * The published test vectors of the message format version 2 ("AWS Encryption SDK - Message Format
 * V2 Test Vectors", 2020-09-18: github.com/aws/aws-encryption-sdk-python,
 * test/resources/commitment-test-vectors.json), those of suite 0x0478. No package of npm carries
 * them. The other half of that file is of the signed suite, which is refused here.
 */
#include "messages.h"

#include <seal/suite.h>

/* Vectors 1 and 2: whole messages, whose data key a static provider holds. */
static const char good_key[] = "+p6+whPVw9kOrYLZFMRBJ2n6Vli6T/7TkjDouS+25s0=";
static const char good_message[] = "AgR4TfvRMU2dVZJbgXIyxeNtbj5eIw8BiTDiwsHyQ/"
                                   "Z9wXkAAAABAAxQcm92aWRlck5hbWUAGUtleUlkAAAAgAAAAAz45sc3"
                                   "cDvJZ7D4P3sAMKE7d/w8ziQt2C0qHsy1Qu2E2q92eIGE/kLnF/"
                                   "Y003HKvTxx7xv2Zv83YuOdwHML5QIAABAAF88I9zPbUQSf"
                                   "OlzLXv+uIY2+m/E6j2PMsbgeHVH/L0wLqQlY+5CL0z3xnNOMIZae/////"
                                   "wAAAAEAAAAAAAAAAAAAAAEAAAAOSZBKHHRpTwXO"
                                   "FTQVGapXXj5CwXBMouBB2ucaIJVm";
static const char bad_key[] = "8Bu+AFAu9ZT8BwYK+QAKXKQ2iaySSiQwlPUrKMf6fdo=";
static const char bad_message[] =
    "AgR4b1/"
    "73X5ErILpj0aSQIx6wNnHLEcNLxPzA0m6vYRr7kAAAAABAAxQcm92aWRlck5hbWUAGUtleUlkAAAAgAAAAAypJmXw"
    "yizUr3/pyvIAMHLU/i5GhZlGayeYC5w/CjUobyGwN4QpeMB0XpNDGTM0f1Zx72V4uM2H5wMjy/"
    "hm2wIAABAAAAECAwQFBgcI"
    "CQoLDA0ODxAREhMUFRYXGBkaGxwdHh/pQM2VSvliz2Qgi5JZf2ta/////"
    "wAAAAEAAAAAAAAAAAAAAAEAAAANS4Id4+dVHhPr"
    "vuJHEiOswo6YGSRjSGX3VDrt+0s=";

/* Vectors 4, 6, 8, 10: what the data key and the message id must come to. Each message is one final
 * frame, "testing12". Three of the four carry an IV that is not the sequence number. */
#define ZERO        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define EXAMPLE_KEY "Sfdon2EodFWiGY6ITvIDJZXhzKZPj2IQCi+1x/tw2ho="
#define EXAMPLE_ID  "PKWpyXOBmk4yDyakq0VRlXuStoPoaQ0n0tO1i/9LdVs="
static const struct {
    const char *data_key, *message_id, *commitment, *frame;
} derivations[] = {
    {ZERO, ZERO, "Qz2Df1nLfpvGM00VSv+DEQnGNy2Y+LWshYi/9++rplE=",
     "/////wAAAAEAAAAAAAAAAAAAAAEAAAAJQqfqwDB4rishq9CkZowwugu01wLwMLRY0Q=="},
    {ZERO, EXAMPLE_ID, "Apfij7czGOoR2HlxWsLApRGgoK8GT9zcTHLZllYHeII=",
     "/////wAAAAH//////////wAAAAEAAAAJS+cGlK1P9Uok1Rn7XbeiPqIj9/NYhB4/cQ=="},
    {EXAMPLE_KEY, ZERO, "QoChYbw/b0wnt9pA+NkCz4+2pLAEqD9U9NjeGs+ZaZI=",
     "/////wAAAAH//////////wAAAAEAAAAJfUPqTiD+hJarwoj8u6zgN+nUJ8sjhoOOtw=="},
    {EXAMPLE_KEY, EXAMPLE_ID, "8bFcmKfev4aSvhT5vqcuBh4rFTHKOpzO6Ax69PDwcoo=",
     "/////wAAAAH//////////wAAAAEAAAAJyHiCZSD8Gxa3Btt9ilhrITCfftYCrm5ZzA=="},
};

static void decode(const char *text, clv_buf *out)
{
    assert_ok(clv_base64_decode(clv_bytes_of(text), out, err));
}

static void key_of(const char *text, clv_secret **out)
{
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    decode(text, &bytes);
    assert_ok(clv_secret_copy(clv_buf_bytes(&bytes), out, err));
}

static clv_status unseal(const char *key_text, const char *message_text, clv_buf *opened)
{
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) message = CLV_BUF_INIT;
    key_of(key_text, &key);
    decode(message_text, &message);
    return test_unseal(key, clv_buf_bytes(&message), 0, opened, NULL);
}

static void opens_the_published_message(void **state)
{
    (void)state;
    clv_auto(clv_buf) opened = CLV_BUF_INIT;
    assert_int_equal(unseal(good_key, good_message, &opened), CLV_OK);
    assert_bytes(clv_buf_bytes(&opened), "GoodCommitment");
}

static void refuses_the_published_message_of_a_wrong_commitment(void **state)
{
    (void)state;
    clv_auto(clv_buf) opened = CLV_BUF_INIT;
    assert_int_equal(unseal(bad_key, bad_message, &opened), CLV_SEAL_COMMITMENT);
    assert_int_equal(opened.n, 0);
}

/* End marker, number, IV, length; then content and tag: data-format/message-body.md. */
static void open_final_frame(clv_suite *suite, clv_bytes frame)
{
    clv_cursor c = clv_cursor_of(frame);
    uint32_t marker;
    uint32_t sequence;
    uint32_t length;
    clv_bytes iv;
    clv_bytes content;
    uint8_t to[16];
    assert_ok(clv_cursor_u32(&c, &marker, err));
    assert_ok(clv_cursor_u32(&c, &sequence, err));
    assert_ok(clv_cursor_take(&c, CLV_SEAL_IV_SIZE, &iv, err));
    assert_ok(clv_cursor_u32(&c, &length, err));
    assert_true(length <= sizeof to);
    assert_ok(clv_cursor_take(&c, length, &content, err));
    assert_int_equal(c.rest.n, CLV_SEAL_TAG_SIZE);
    assert_ok(clv_suite_open_frame(suite, true, sequence, iv, content, c.rest, to, err));
    assert_bytes(CLV_BYTES(to, length), "testing12");
}

static void derives_the_published_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(derivations); i++) {
        clv_auto_ptr(clv_secret) key = NULL;
        clv_auto_ptr(clv_suite) suite = NULL;
        clv_auto(clv_buf) id = CLV_BUF_INIT;
        clv_auto(clv_buf) commitment = CLV_BUF_INIT;
        clv_auto(clv_buf) frame = CLV_BUF_INIT;
        key_of(derivations[i].data_key, &key);
        decode(derivations[i].message_id, &id);
        decode(derivations[i].commitment, &commitment);
        decode(derivations[i].frame, &frame);
        assert_ok(clv_suite_new(key, clv_buf_bytes(&id), CLV_SUITE_OPEN, &suite, err));
        assert_true(clv_bytes_equal(clv_suite_commitment(suite), clv_buf_bytes(&commitment)));
        open_final_frame(suite, clv_buf_bytes(&frame));
    }
}

int main(void)
{
    if (clv_secret_start(NULL) != CLV_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_the_published_message),
        cmocka_unit_test(refuses_the_published_message_of_a_wrong_commitment),
        cmocka_unit_test(derives_the_published_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

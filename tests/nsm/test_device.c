/*
 * The device transport: what reaches ioctl(). The call is caught here (linked with
 * -Wl,--wrap=ioctl), so that the request's layout can be held against the kernel's header; that a
 * real device node answers is shown by tools/check-qemu.
 */
#include "../check.h"

#include <errno.h>

#include <claviger/nsm.h>

/* linux/nsm.h, written out: NSM_IOCTL_RAW and struct nsm_raw. */
#define KERNEL_NSM_IOCTL_RAW 0xC0200A00UL
struct kernel_nsm_raw {
    uint64_t request_addr, request_len, response_addr, response_len;
};

static struct {
    clv_bytes answer;
    int error;
    unsigned interrupted; /* how often to say EINTR first */
    uint64_t response_len;
    unsigned calls;
} script;

int __wrap_ioctl(int fd, unsigned long request, struct kernel_nsm_raw *raw);
int __wrap_ioctl(int fd, unsigned long request, struct kernel_nsm_raw *raw)
{
    assert_true(fd >= 0);
    assert_int_equal(request, KERNEL_NSM_IOCTL_RAW);
    assert_int_equal(raw->response_len, CLV_NSM_RESPONSE_MAX);
    static const char lock[] = "\xa1\x67LockPCR\xa1\x65index\x10";
    assert_int_equal(raw->request_len, sizeof lock - 1);
    assert_memory_equal((const void *)(uintptr_t)raw->request_addr, lock, sizeof lock - 1);
    script.calls++;
    if (script.calls <= script.interrupted) {
        errno = EINTR;
        return -1;
    }
    if (script.error != 0) {
        errno = script.error;
        return -1;
    }
    memcpy((void *)(uintptr_t)raw->response_addr, script.answer.p, script.answer.n);
    raw->response_len = script.response_len != 0 ? script.response_len : script.answer.n;
    return 0;
}

static clv_status lock(clv_error *err)
{
    clv_nsm *nsm = NULL;
    CLV_TRY(clv_nsm_open("device:/dev/null", &nsm, err));
    clv_status status = clv_nsm_lock_pcr(nsm, 16, err);
    clv_nsm_free(&nsm);
    return status;
}

static void the_ioctl_is_the_kernels(void **state)
{
    (void)state;
    memset(&script, 0, sizeof script);
    script.answer = clv_bytes_of("\x67LockPCR");
    assert_ok(lock(err));
    assert_int_equal(script.calls, 1);
}

static void an_interrupted_call_is_made_again(void **state)
{
    (void)state;
    memset(&script, 0, sizeof script);
    script.answer = clv_bytes_of("\x67LockPCR");
    script.interrupted = 3;
    assert_ok(lock(err));
    assert_int_equal(script.calls, 4);
}

static void the_drivers_refusals_are_reported(void **state)
{
    (void)state;
    static const int row[] = {EMSGSIZE, EFAULT, EIO, ENOTTY, ENOMEM};
    for (size_t i = 0; i < ROWS(row); i++) {
        memset(&script, 0, sizeof script);
        script.error = row[i];
        assert_code(lock(err), CLV_NSM_TRANSPORT);
    }
}

static void a_length_beyond_the_buffer_is_refused(void **state)
{
    (void)state;
    memset(&script, 0, sizeof script);
    script.answer = clv_bytes_of("\x67LockPCR");
    script.response_len = CLV_NSM_RESPONSE_MAX + 1;
    assert_code(lock(err), CLV_NSM_RESPONSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_ioctl_is_the_kernels),
        cmocka_unit_test(an_interrupted_call_is_made_again),
        cmocka_unit_test(the_drivers_refusals_are_reported),
        cmocka_unit_test(a_length_beyond_the_buffer_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

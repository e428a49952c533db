/*
 * /dev/NAME through CUSE (libfuse3, cuse_lowlevel.h): the ioctl of the kernel's nsm driver, so that
 * a client opens the same device node and makes the same call as inside an enclave.
 *
 * The request and response are pointers inside the ioctl's argument. A CUSE server reads a caller's
 * memory by asking the kernel to retry the call with the ranges it names: first the argument, then
 * the request it points to.
 */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <cuse_lowlevel.h>
#include <fuse_opt.h>

#include <base/log.h>
#include <sim/nsm/nsm.h>

/* linux/nsm.h */
struct nsm_iovec {
    uint64_t addr;
    uint64_t len;
};

struct nsm_raw {
    struct nsm_iovec request;
    struct nsm_iovec response;
};

#define NSM_IOCTL_RAW 0xC0200A00u

static void on_open(fuse_req_t req, struct fuse_file_info *info)
{
    fuse_reply_open(req, info);
}

static void answer_ioctl(fuse_req_t req, nsm_module *module, const struct nsm_raw *raw,
                         clv_bytes request)
{
    clv_error err = {.code = CLV_OK};
    clv_auto(clv_buf) answer = CLV_BUF_INIT;
    if (nsm_handle(module, request, &answer, &err) != CLV_OK) {
        clv_log_failure(CLV_LOG_ERROR, "request.failed", NULL, &err);
        fuse_reply_err(req, EIO);
        return;
    }
    /* The driver truncates to the room given, and writes the length back. */
    struct nsm_raw back = *raw;
    size_t n = answer.n < raw->response.len ? answer.n : (size_t)raw->response.len;
    back.response.len = n;
    struct iovec out[] = {{&back, sizeof back}, {answer.p, n}};
    fuse_reply_ioctl_iov(req, 0, out, 2);
}

static void on_ioctl(fuse_req_t req, int command, void *argument, struct fuse_file_info *info,
                     unsigned flags, const void *in, size_t in_size, size_t out_size)
{
    (void)info;
    (void)flags;
    nsm_module *module = fuse_req_userdata(req);
    struct iovec whole = {argument, sizeof(struct nsm_raw)};
    struct nsm_raw raw;
    if ((unsigned)command != NSM_IOCTL_RAW) {
        fuse_reply_err(req, ENOTTY);
        return;
    }
    if (in_size < sizeof raw) {
        fuse_reply_ioctl_retry(req, &whole, 1, NULL, 0);
        return;
    }
    memcpy(&raw, in, sizeof raw);
    if (raw.request.len > NSM_REQUEST_MAX) {
        fuse_reply_err(req, EMSGSIZE);
        return;
    }
    struct iovec input[] = {whole, {(void *)(uintptr_t)raw.request.addr, raw.request.len}};
    struct iovec output[] = {
        whole,
        {(void *)(uintptr_t)raw.response.addr,
         raw.response.len < NSM_RESPONSE_MAX ? raw.response.len : NSM_RESPONSE_MAX}};
    if (in_size < sizeof raw + raw.request.len || out_size == 0) {
        fuse_reply_ioctl_retry(req, input, 2, output, 2);
        return;
    }
    answer_ioctl(req, module, &raw,
                 CLV_BYTES((const uint8_t *)in + sizeof raw, (size_t)raw.request.len));
}

static const struct cuse_lowlevel_ops operations = {.open = on_open, .ioctl = on_ioctl};

typedef struct cuse_device {
    nsm_module *module;
    char name[64];
} cuse_device;

static void *run_device(void *context)
{
    cuse_device *device = context;
    char name[sizeof device->name + 16];
    snprintf(name, sizeof name, "DEVNAME=%s", device->name);
    const char *info[] = {name};
    struct cuse_info cuse = {
        .dev_info_argc = 1, .dev_info_argv = info, .flags = CUSE_UNRESTRICTED_IOCTL};
    char program[] = "claviger-nsm", foreground[] = "-f", one_thread[] = "-s";
    char *argv[] = {program, foreground, one_thread, NULL};
    if (cuse_lowlevel_main(3, argv, &cuse, &operations, device->module) != 0)
        clv_log(CLV_LOG_ERROR, "cuse.ended", NULL, "/dev/%s is no longer served", device->name);
    free(device);
    return NULL;
}

clv_status nsm_cuse_start(nsm_module *module, const char *name, clv_error *err)
{
    pthread_t thread;
    cuse_device *device = calloc(1, sizeof *device);
    if (device == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a device");
    device->module = module;
    snprintf(device->name, sizeof device->name, "%s", name);
    if (pthread_create(&thread, NULL, run_device, device) != 0) {
        free(device);
        return clv_fail(err, CLV_SYSTEM, "no thread for /dev/%s: %m", name);
    }
    pthread_detach(thread);
    return CLV_OK;
}

/* claviger measure: the registers that an image will have, in the form of nitro-cli. */
#include <cli/command.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <base/net.h>
#include <cli/eif.h>
#include <cli/report.h>

static const clv_option options[] = {
    {NULL, NULL, NULL, NULL},
};

/* Images are large: mapped rather than read. */
static clv_status map(const char *path, clv_bytes *out, clv_error *err)
{
    struct stat st;
    clv_auto(clv_fd) fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be opened: %m", path);
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return clv_fail(err, CLV_EIF_FORMAT, "%s: expected an image file, found %s", path,
                        S_ISREG(st.st_mode) ? "an empty one" : "something else");
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (at == MAP_FAILED)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be mapped: %m", path);
    *out = CLV_BYTES(at, (size_t)st.st_size);
    return CLV_OK;
}

static clv_status print(const clv_pcrs *pcrs, clv_error *err)
{
    clv_auto(clv_json) values = json_object();
    json_object_set_new(values, "HashAlgorithm", json_string("Sha384 { ... }"));
    for (unsigned i = 0; i < CLV_PCR_COUNT; i++) {
        clv_auto(clv_buf) hex = CLV_BUF_INIT;
        const char *text;
        char name[8];
        if ((pcrs->present >> i & 1) == 0)
            continue;
        CLV_TRY(clv_hex_append(&hex, CLV_BYTES(pcrs->value[i], CLV_PCR_SIZE), err));
        CLV_TRY(clv_buf_text(&hex, &text, err));
        snprintf(name, sizeof name, "PCR%u", i);
        json_object_set_new(values, name, json_string(text));
    }
    clv_auto(clv_json) json = json_pack("{s:O}", "Measurements", values);
    return json != NULL ? clv_print_json(json, err)
                        : clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
}

static clv_status run(int count, char **arguments, clv_error *err)
{
    int operand;
    clv_bytes image;
    clv_pcrs pcrs;
    CLV_TRY(clv_command_options(&clv_command_measure, count, arguments, NULL, 1, 1, &operand, err));
    CLV_TRY(map(arguments[operand], &image, err));
    clv_status status = clv_eif_measure(image, &pcrs, err);
    munmap((void *)image.p, image.n);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s", arguments[operand]);
    return print(&pcrs, err);
}

const clv_command clv_command_measure = {
    "measure", "FILE.eif", "Compute the PCRs that an enclave image will have", options, run,
};

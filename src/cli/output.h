/*
 * Where a command's result goes: standard output, or a file that appears whole or not at all. The
 * bytes stand in a file without a name until clv_output_commit(); an older file of the same name
 * is kept until then.
 */
#ifndef CLV_CLI_OUTPUT_H
#define CLV_CLI_OUTPUT_H

#include <claviger/bytes.h>

typedef struct clv_output {
    int fd;
    const char *path;
    bool direct;       /* standard output, a device, a pipe: nothing to put in its place */
    char beside[4096]; /* where the file system has no files without names: the name meanwhile */
} clv_output;

#define CLV_OUTPUT_INIT  \
    {                    \
        -1, NULL, false, \
        {                \
            0            \
        }                \
    }

/*
 * "-" is standard output. The file is readable by its owner alone. What stands there and is no
 * file, a device or a pipe, is written to as it is.
 */
CLV_NODISCARD clv_status clv_output_open(const char *path, clv_output *out, clv_error *err);
CLV_NODISCARD clv_status clv_output_write(clv_output *output, clv_bytes bytes, clv_error *err);
/* All of it, durably. */
CLV_NODISCARD clv_status clv_output_commit(clv_output *output, clv_error *err);
/* Without a commit before, nothing is left behind. */
void clv_output_drop(clv_output *output);

#endif

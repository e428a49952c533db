#include <cli/output.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/net.h>

#define MODE 0600

static clv_status fail(const clv_output *output, const char *what, clv_error *err)
{
    return clv_fail(err, CLV_SYSTEM, "%s %s: %m", output->path, what);
}

static clv_status open_directory(const char *path, int *fd, clv_error *err)
{
    clv_auto(clv_text) copy = NULL;
    CLV_TRY(clv_text_dup(clv_bytes_of(path), &copy, err));
    *fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return clv_fail(err, CLV_SYSTEM, "the directory of %s cannot be opened: %m", path);
    return CLV_OK;
}

static bool stands_there_and_is_no_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && !S_ISREG(s.st_mode);
}

static clv_status open_direct(clv_output *out, clv_error *err)
{
    out->direct = true;
    out->fd = strcmp(out->path, "-") == 0 ? dup(STDOUT_FILENO)
                                          : open(out->path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    return out->fd >= 0 ? CLV_OK : fail(out, "cannot be written", err);
}

clv_status clv_output_open(const char *path, clv_output *out, clv_error *err)
{
    *out = (clv_output)CLV_OUTPUT_INIT;
    out->path = path;
    if (strcmp(path, "-") == 0 || stands_there_and_is_no_file(path))
        return open_direct(out, err);
    clv_auto(clv_fd) directory = -1;
    CLV_TRY(open_directory(path, &directory, err));
    out->fd = openat(directory, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, MODE);
    if (out->fd >= 0)
        return CLV_OK;
    if (snprintf(out->beside, sizeof out->beside, "%s.XXXXXX", path) >= (int)sizeof out->beside)
        return clv_fail(err, CLV_TOO_LARGE, "the path %.60s… is too long", path);
    out->fd = mkostemp(out->beside, O_CLOEXEC);
    if (out->fd >= 0)
        return CLV_OK;
    out->beside[0] = '\0';
    return fail(out, "cannot be written", err);
}

clv_status clv_output_write(clv_output *output, clv_bytes bytes, clv_error *err)
{
    clv_cursor c = clv_cursor_of(bytes);
    clv_bytes taken;
    while (c.rest.n > 0) {
        ssize_t n = write(output->fd, c.rest.p, c.rest.n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(output, "cannot be written", err);
        CLV_TRY(clv_cursor_take(&c, (size_t)n, &taken, err));
    }
    return CLV_OK;
}

/* Give the file a name of its own first: linkat() replaces nothing. */
static clv_status name_it(clv_output *output, clv_error *err)
{
    char self[64];
    if (output->beside[0] != '\0')
        return CLV_OK;
    snprintf(self, sizeof self, "/proc/self/fd/%d", output->fd);
    if (snprintf(output->beside, sizeof output->beside, "%s.%ld", output->path, (long)getpid()) >=
        (int)sizeof output->beside) {
        output->beside[0] = '\0';
        return clv_fail(err, CLV_TOO_LARGE, "the path %.60s… is too long", output->path);
    }
    unlink(output->beside);
    if (linkat(AT_FDCWD, self, AT_FDCWD, output->beside, AT_SYMLINK_FOLLOW) == 0)
        return CLV_OK;
    output->beside[0] = '\0';
    return fail(output, "cannot be named", err);
}

clv_status clv_output_commit(clv_output *output, clv_error *err)
{
    if (output->direct)
        return CLV_OK;
    clv_auto(clv_fd) directory = -1;
    CLV_TRY(open_directory(output->path, &directory, err));
    if (fsync(output->fd) != 0)
        return fail(output, "cannot be made durable", err);
    CLV_TRY(name_it(output, err));
    if (rename(output->beside, output->path) != 0)
        return fail(output, "cannot be put in its place", err);
    output->beside[0] = '\0';
    return fsync(directory) == 0 ? CLV_OK : fail(output, "cannot be made durable", err);
}

void clv_output_drop(clv_output *output)
{
    if (output->beside[0] != '\0')
        unlink(output->beside);
    if (output->fd >= 0)
        close(output->fd);
    *output = (clv_output)CLV_OUTPUT_INIT;
}

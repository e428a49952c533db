#include <base/file.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/net.h>

/* How much is asked of one read(). */
#define READ_PIECE 65536

clv_status clv_file_read(const char *path, size_t max, clv_buf *out, clv_error *err)
{
    bool standard = strcmp(path, "-") == 0;
    clv_auto(clv_fd) fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be opened: %m", path);
    size_t before = out->n;
    for (;;) {
        uint8_t *to;
        CLV_TRY(clv_buf_reserve(out, READ_PIECE, &to, err));
        ssize_t got = read(fd, to, READ_PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return clv_fail(err, CLV_SYSTEM, "%s cannot be read: %m", path);
        if (got == 0)
            return CLV_OK;
        out->n += (size_t)got;
        if (out->n - before > max)
            return clv_fail(err, CLV_TOO_LARGE, "%s: expected at most %zu bytes, found more", path,
                            max);
    }
}

static clv_status write_and_sync(int fd, const char *path, clv_bytes content, clv_error *err)
{
    for (size_t done = 0; done < content.n;) {
        ssize_t put = write(fd, content.p + done, content.n - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return clv_fail(err, CLV_SYSTEM, "%s cannot be written: %m", path);
        done += (size_t)put;
    }
    if (fsync(fd) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be made durable: %m", path);
    return CLV_OK;
}

/* A rename is durable only once its directory is. */
static clv_status sync_directory(const char *path, clv_error *err)
{
    clv_auto(clv_text) copy = NULL;
    CLV_TRY(clv_text_dup(clv_bytes_of(path), &copy, err));
    clv_auto(clv_fd) fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        return clv_fail(err, CLV_SYSTEM, "the directory of %s cannot be made durable: %m", path);
    return CLV_OK;
}

clv_status clv_file_write(const char *path, clv_bytes content, mode_t mode, clv_error *err)
{
    char beside[PATH_MAX];
    if (snprintf(beside, sizeof beside, "%s.XXXXXX", path) >= (int)sizeof beside)
        return clv_fail(err, CLV_TOO_LARGE, "the path %.60s… is too long", path);
    clv_auto(clv_fd) fd = mkostemp(beside, O_CLOEXEC);
    if (fd < 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be written: %m", path);
    clv_status status = write_and_sync(fd, path, content, err);
    if (status == CLV_OK && (fchmod(fd, mode) != 0 || rename(beside, path) != 0))
        status = clv_fail(err, CLV_SYSTEM, "%s cannot be written: %m", path);
    if (status != CLV_OK) {
        unlink(beside);
        return status;
    }
    return sync_directory(path, err);
}

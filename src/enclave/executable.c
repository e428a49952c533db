#include <enclave/executable.h>

#include <sys/stat.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/crypto.h>
#include <base/net.h>

#define PIECE    65536
#define RESTED_S 1

void clv_executables_init(clv_executables *executables, clv_opener *opener)
{
    executables->opener = opener;
    for (size_t i = 0; i < CLV_POLICY_AGENTS_MAX; i++) {
        executables->row[i] = (struct clv_executable_row){.next = 0};
        pthread_mutex_init(&executables->row[i].turn, NULL);
    }
}

void clv_executables_drop(clv_executables *executables)
{
    for (size_t i = 0; i < CLV_POLICY_AGENTS_MAX; i++)
        pthread_mutex_destroy(&executables->row[i].turn);
}

typedef EVP_MD_CTX *md_context;
static void md_context_drop(md_context *context)
{
    EVP_MD_CTX_free(*context);
}

static clv_status hash_file(int fd, uint8_t sha256[CLV_EXE_DIGEST_SIZE], clv_error *err)
{
    static const char what[] = "an executable cannot be hashed";
    uint8_t piece[PIECE];
    clv_auto(md_context) context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
        return clv_fail_openssl(err, CLV_INTERNAL, what);
    for (off_t at = 0;;) {
        ssize_t got = pread(fd, piece, sizeof piece, at);
        if (got < 0)
            return clv_fail(err, CLV_SYSTEM, "an executable cannot be read: %m");
        if (got == 0)
            break;
        if (EVP_DigestUpdate(context, piece, (size_t)got) != 1)
            return clv_fail_openssl(err, CLV_INTERNAL, what);
        at += got;
        if (at > CLV_EXECUTABLE_MAX)
            return clv_fail(err, CLV_TOO_LARGE, "expected an executable of at most %lld bytes",
                            (long long)CLV_EXECUTABLE_MAX);
    }
    return EVP_DigestFinal_ex(context, sha256, NULL) == 1
               ? CLV_OK
               : clv_fail_openssl(err, CLV_INTERNAL, what);
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_file(const struct clv_executable *known, const struct stat *file)
{
    return known->used && known->device == file->st_dev && known->inode == file->st_ino &&
           known->size == file->st_size && same_time(known->written, file->st_mtim) &&
           same_time(known->changed, file->st_ctim);
}

/* Its times tell it from what is written into it from now on: the kernel counts them in ticks of a
 * few milliseconds, and two writes within one look the same. */
static bool has_rested(const struct stat *file, uint64_t now_ms)
{
    return file->st_ctim.tv_sec >= 0 && (uint64_t)file->st_ctim.tv_sec + RESTED_S < now_ms / 1000;
}

/* The row's turn is held. */
static clv_status measure(struct clv_executable_row *row, int fd, uint8_t *sha256, clv_error *err)
{
    struct stat file;
    if (fstat(fd, &file) != 0)
        return clv_fail(err, CLV_SYSTEM, "an executable cannot be looked at: %m");
    for (size_t i = 0; i < CLV_EXECUTABLES; i++) {
        if (is_file(&row->known[i], &file)) {
            memcpy(sha256, row->known[i].sha256, CLV_EXE_DIGEST_SIZE);
            return CLV_OK;
        }
    }
    uint64_t now_ms = clv_wall_ms();
    CLV_TRY(hash_file(fd, sha256, err));
    if (!has_rested(&file, now_ms))
        return CLV_OK;
    struct clv_executable *at = &row->known[row->next++ % CLV_EXECUTABLES];
    *at = (struct clv_executable){.used = true,
                                  .device = file.st_dev,
                                  .inode = file.st_ino,
                                  .size = file.st_size,
                                  .written = file.st_mtim,
                                  .changed = file.st_ctim};
    memcpy(at->sha256, sha256, CLV_EXE_DIGEST_SIZE);
    return CLV_OK;
}

clv_status clv_executables_measure(clv_executables *executables, size_t row, int socket,
                                   uint8_t sha256[CLV_EXE_DIGEST_SIZE], clv_error *err)
{
    clv_auto(clv_fd) exe = -1;
    CLV_TRY(clv_opener_open(executables->opener, socket, &exe, err));
    struct clv_executable_row *at = &executables->row[row];
    pthread_mutex_lock(&at->turn);
    clv_status status = measure(at, exe, sha256, err);
    pthread_mutex_unlock(&at->turn);
    return status;
}

/* Whole files, read and written with limits and without half-written results. */
#ifndef CLV_BASE_FILE_H
#define CLV_BASE_FILE_H

#include <sys/types.h>

#include <claviger/bytes.h>

/* The whole file, or standard input for "-". CLV_TOO_LARGE beyond max bytes. */
CLV_NODISCARD clv_status clv_file_read(const char *path, size_t max, clv_buf *out, clv_error *err);

/* Write beside the target, fsync, rename, fsync the directory: all of it or nothing. */
CLV_NODISCARD clv_status clv_file_write(const char *path, clv_bytes content, mode_t mode,
                                        clv_error *err);

#endif

/*
 * Times as text. All times of the project are milliseconds since 1970-01-01T00:00:00Z, as in
 * attestation documents. Nothing here reads a clock: see clock.h.
 */
#ifndef CLV_BASE_TIME_H
#define CLV_BASE_TIME_H

#include <claviger/bytes.h>

/* 9999-12-31T23:59:59Z: the last time that every format here can carry. */
#define CLV_TIME_MAX_MS UINT64_C(253402300799000)

/* "2026-11-23T21:32:05Z" (CLV_TIME_TEXT_SIZE with its NUL). */
#define CLV_TIME_TEXT_SIZE 21
void clv_time_text(uint64_t ms, char out[CLV_TIME_TEXT_SIZE]);

/* The form above, with optional fraction, or decimal seconds since 1970. CLV_BAD_TIME. */
CLV_NODISCARD clv_status clv_time_parse(const char *text, uint64_t *ms, clv_error *err);

#endif

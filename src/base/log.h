/*
 * Structured logs on standard error: one line an event, as text or as JSON lines. No secret is
 * ever an argument here. The level and the form are the program's only global mutable state.
 */
#ifndef CLV_BASE_LOG_H
#define CLV_BASE_LOG_H

#include <stdbool.h>

#include <claviger/error.h>

typedef enum clv_log_level {
    CLV_LOG_ERROR,
    CLV_LOG_WARNING,
    CLV_LOG_INFO,
    CLV_LOG_DEBUG,
} clv_log_level;

/*
 * program: the name on each line. json: JSON lines instead of text. Where standard error is the
 * journal's, lines begin with their priority (sd-daemon(3)), and text leaves out what the journal
 * adds by itself: the time and the program.
 */
void clv_log_start(const char *program, clv_log_level level, bool json);

/* At any time, by any thread. */
void clv_log_set_level(clv_log_level level);

/* The level of this name: "error", "warning", "info" or "debug". */
bool clv_log_level_of(const char *name, clv_log_level *out);

/* What came from outside may not forge a line or steer a terminal: each control character becomes a
 * space. Every line of a log is printed so. */
void clv_log_printable(char *text);

/* The last line of a program that fails: "program: sentence (code)". */
void clv_log_end(const char *program, const clv_error *err);

/*
 * event: a stable name ("boot.verified"). operation: the id that ties the lines of one operation
 * and the answer to the caller together, or NULL. The sentence is for people.
 */
void clv_log(clv_log_level level, const char *event, const char *operation, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* An error as a log line: its slug and its sentence. */
void clv_log_failure(clv_log_level level, const char *event, const char *operation,
                     const clv_error *err);

/* A fresh operation id: 16 lower-case hex digits and a NUL. */
#define CLV_OPERATION_ID_SIZE 17
void clv_operation_id(char out[CLV_OPERATION_ID_SIZE]);

#endif

/* A bar on standard error for long work, when that is a terminal; nothing otherwise. */
#ifndef CLV_CLI_PROGRESS_H
#define CLV_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct clv_progress {
    const char *what;
    uint64_t total; /* bytes; 0: not known */
    uint64_t started_ms, shown_ms;
    bool shown;
} clv_progress;

void clv_progress_start(clv_progress *progress, const char *what, uint64_t total);
/* Redraws a few times a second. */
void clv_progress_show(clv_progress *progress, uint64_t done);
/* The same for things that are counted. */
void clv_progress_count(clv_progress *progress, uint64_t done, uint64_t total);
/* Takes the bar off the line again. */
void clv_progress_end(clv_progress *progress);

#endif

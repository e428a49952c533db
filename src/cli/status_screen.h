/* What `claviger status` found, as a page for people. */
#ifndef CLV_CLI_STATUS_SCREEN_H
#define CLV_CLI_STATUS_SCREEN_H

#include <base/json.h>

/* One source: what it said, or why it said nothing. Counters of before give rates. */
typedef struct clv_status_view {
    const char *name;   /* "enclave", "parent" */
    const json_t *said; /* NULL: see problem */
    const char *problem;
    const json_t *before;
    double seconds; /* between the two */
} clv_status_view;

/* Text, lines ended by \n. colour: with ANSI colours. */
CLV_NODISCARD clv_status clv_status_screen(const clv_status_view *view, bool colour, clv_buf *out,
                                           clv_error *err);

#endif

/* What every bench program needs: a stopwatch and OpenSSL's own figure to stand against. */
#ifndef CLV_BENCH_BENCH_H
#define CLV_BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>

/* Seconds of processor time that this process has used: what `openssl speed` counts too. */
double bench_now(void);

/*
 * Run `openssl speed -mr` with these arguments and copy the first line of its output that begins
 * with prefix. Ends the process when there is none.
 */
void bench_openssl_speed(const char *arguments, const char *prefix, char *line, size_t size);

#endif

/*
 * Allocators that wipe every block before it is given back, for the libraries that let us name
 * theirs: OpenSSL and jansson (clv_secret_start) and libcurl (the kms room). What such a library
 * copied of a secret does not outlive its free().
 */
#ifndef CLV_BASE_WIPE_H
#define CLV_BASE_WIPE_H

#include <stddef.h>

void *clv_wiping_malloc(size_t n);
void *clv_wiping_calloc(size_t count, size_t size);
void *clv_wiping_realloc(void *p, size_t n);
char *clv_wiping_strdup(const char *text);
void clv_wiping_free(void *p);

#endif

#include <base/wipe.h>

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

void *clv_wiping_malloc(size_t n)
{
    return malloc(n);
}

void *clv_wiping_calloc(size_t count, size_t size)
{
    return calloc(count, size);
}

void *clv_wiping_realloc(void *p, size_t n)
{
    if (p == NULL)
        return malloc(n);
    if (n == 0) {
        clv_wiping_free(p);
        return NULL;
    }

    size_t held = malloc_usable_size(p);
    void *moved = malloc(n);
    if (moved == NULL)
        return NULL;
    memcpy(moved, p, held < n ? held : n);
    clv_wiping_free(p);
    return moved;
}

char *clv_wiping_strdup(const char *text)
{
    return strdup(text);
}

void clv_wiping_free(void *p)
{
    if (p == NULL)
        return;
    sodium_memzero(p, malloc_usable_size(p));
    free(p);
}

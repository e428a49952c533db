#include <claviger/secret.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/crypto.h>
#include <sodium.h>

#include <base/wipe.h>

/* Room for the private keys of a few dozen vouchers: an RSA-2048 key takes about 2 KiB of it. */
#define SECURE_HEAP_SIZE ((size_t)512 * 1024)
#define SECURE_HEAP_MIN  32

struct clv_secret {
    size_t n;
    uint8_t *p;   /* from sodium_malloc() */
    size_t place; /* bytes there */
};

/*
 * Guarded places that are empty, for the next secret of the same size. Making one and giving it up
 * takes a dozen system calls that change the address space, which threads can only do one after the
 * other; the places themselves stay guarded, locked and out of forked children, and are wiped
 * before they are kept.
 */
#define PLACES_MAX 64
#define PLACE_MAX  ((size_t)1024)

static struct places {
    pthread_mutex_t lock; /* protects the rest */
    size_t count;
    struct place {
        size_t n;
        uint8_t *p;
    } place[PLACES_MAX];
} places = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint8_t *take_place(size_t n)
{
    uint8_t *found = NULL;
    pthread_mutex_lock(&places.lock);
    for (size_t i = 0; found == NULL && i < places.count; i++) {
        if (places.place[i].n == n) {
            found = places.place[i].p;
            places.place[i] = places.place[--places.count];
        }
    }
    pthread_mutex_unlock(&places.lock);
    return found;
}

/* False when there are enough of them. The place is wiped. */
static bool keep_place(uint8_t *p, size_t n)
{
    pthread_mutex_lock(&places.lock);
    bool keep = n <= PLACE_MAX && places.count < PLACES_MAX;
    if (keep)
        places.place[places.count++] = (struct place){n, p};
    pthread_mutex_unlock(&places.lock);
    return keep;
}

static void *openssl_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return clv_wiping_malloc(n);
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return clv_wiping_realloc(p, n);
}

static void openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    clv_wiping_free(p);
}

clv_status clv_secret_start(clv_error *err)
{
    if (sodium_init() < 0)
        return clv_fail(err, CLV_NO_ENTROPY, "libsodium cannot start");
    if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
        return clv_fail(err, CLV_INTERNAL, "OpenSSL was used before its allocators were set");
    /* 1: locked and guarded; 2: usable, but without one of the two. */
    if (CRYPTO_secure_malloc_init(SECURE_HEAP_SIZE, SECURE_HEAP_MIN) != 1)
        return clv_fail(err, CLV_SYSTEM,
                        "expected %zu bytes of lockable memory for private keys (ulimit -l), found "
                        "less",
                        (size_t)SECURE_HEAP_SIZE);
    json_set_alloc_funcs(clv_wiping_malloc, clv_wiping_free);
    return CLV_OK;
}

/* sodium_malloc() does not say when the memory could not be locked, nor does it guard forks. */
static clv_status guard(uint8_t *p, size_t n, clv_error *err)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = (uintptr_t)p & ~(page - 1);
    size_t length = (uintptr_t)p + n - from;
    if (mlock((void *)from, length) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "expected %zu bytes of lockable memory (ulimit -l): %m",
                        length);
    if (madvise((void *)from, (length + page - 1) & ~(page - 1), MADV_WIPEONFORK) != 0)
        return clv_fail(err, CLV_SYSTEM, "memory cannot be kept from forked children: %m");
    return CLV_OK;
}

static clv_status make_place(clv_secret *secret, clv_error *err)
{
    secret->p = sodium_malloc(secret->n);
    if (secret->p == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no guarded memory for %zu bytes: %m", secret->n);
    clv_status status = guard(secret->p, secret->n, err);
    if (status != CLV_OK) { /* not one to be kept */
        sodium_free(secret->p);
        secret->p = NULL;
        return status;
    }
    sodium_memzero(secret->p, secret->n);
    return CLV_OK;
}

clv_status clv_secret_new(size_t n, clv_secret **out, clv_error *err)
{
    if (n == 0 || n > CLV_SECRET_MAX)
        return clv_fail(err, CLV_TOO_LARGE, "expected a secret of 1 to %zu bytes, found %zu",
                        (size_t)CLV_SECRET_MAX, n);
    clv_auto_ptr(clv_secret) secret = calloc(1, sizeof *secret);
    if (secret == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a secret");
    secret->n = secret->place = n;
    secret->p = take_place(n);
    if (secret->p == NULL)
        CLV_TRY(make_place(secret, err));
    *out = secret;
    secret = NULL;
    return CLV_OK;
}

void clv_secret_free(clv_secret **secret)
{
    if (*secret == NULL)
        return;
    if ((*secret)->p != NULL) {
        sodium_memzero((*secret)->p, (*secret)->place);
        if (!keep_place((*secret)->p, (*secret)->place))
            sodium_free((*secret)->p);
    }
    free(*secret);
    *secret = NULL;
}

size_t clv_secret_length(const clv_secret *secret)
{
    return secret->n;
}

clv_bytes clv_secret_bytes(const clv_secret *secret)
{
    return CLV_BYTES(secret->p, secret->n);
}

uint8_t *clv_secret_writable(clv_secret *secret)
{
    return secret->p;
}

void clv_secret_shrink(clv_secret *secret, size_t n)
{
    if (n >= secret->n)
        return;
    sodium_memzero(secret->p + n, secret->n - n);
    secret->n = n;
}

clv_status clv_secret_copy(clv_bytes from, clv_secret **out, clv_error *err)
{
    CLV_TRY(clv_secret_new(from.n, out, err));
    memcpy((*out)->p, from.p, from.n);
    return CLV_OK;
}

clv_status clv_secret_random(size_t n, clv_secret **out, clv_error *err)
{
    CLV_TRY(clv_secret_new(n, out, err));
    randombytes_buf((*out)->p, n);
    return CLV_OK;
}

bool clv_secret_equal(const clv_secret *a, const clv_secret *b)
{
    return clv_bytes_equal_secret(clv_secret_bytes(a), clv_secret_bytes(b));
}

void clv_wipe(void *p, size_t n)
{
    sodium_memzero(p, n);
}

/*
 * Secrets: bytes in guarded memory with one owner.
 *
 * The memory comes from libsodium (sodium_malloc: guard pages, locked, excluded from core dumps)
 * and is also kept out of forked children. The struct is opaque: a secret cannot be copied by
 * assignment, printed or compared by accident. It is wiped when it is freed.
 */
#ifndef CLAVIGER_SECRET_H
#define CLAVIGER_SECRET_H

#include <claviger/bytes.h>

typedef struct clv_secret clv_secret;

/*
 * Once, first thing in main(): starts libsodium, makes OpenSSL keep private keys in its locked
 * secure heap, and makes OpenSSL and jansson wipe every block they free (libcurl: the kms room).
 * CLV_SYSTEM when memory cannot be locked, CLV_INTERNAL when OpenSSL was used before.
 */
CLV_NODISCARD clv_status clv_secret_start(clv_error *err);

/* n zero bytes of guarded memory, 1 to CLV_SECRET_MAX. CLV_NO_MEMORY when it cannot be locked. */
#define CLV_SECRET_MAX ((size_t)1024 * 1024)
CLV_NODISCARD clv_status clv_secret_new(size_t n, clv_secret **out, clv_error *err);

/* Wipes, frees and sets *secret to NULL. NULL is fine. */
void clv_secret_free(clv_secret **secret);

size_t clv_secret_length(const clv_secret *secret);
clv_bytes clv_secret_bytes(const clv_secret *secret);

/* For the one function that fills it. */
uint8_t *clv_secret_writable(clv_secret *secret);

/* Make it shorter; the bytes cut off are wiped. n must not exceed the length. */
void clv_secret_shrink(clv_secret *secret, size_t n);

/* A new secret with a copy of the bytes; wiping the source is the caller's part. */
CLV_NODISCARD clv_status clv_secret_copy(clv_bytes from, clv_secret **out, clv_error *err);

/* Random bytes from the kernel (getrandom through libsodium). */
CLV_NODISCARD clv_status clv_secret_random(size_t n, clv_secret **out, clv_error *err);

/* Same content, in constant time; different lengths are unequal. */
bool clv_secret_equal(const clv_secret *a, const clv_secret *b);

/* Wipe memory in a way that the compiler keeps. */
void clv_wipe(void *p, size_t n);

#endif

/*
 * The verifier on any bytes: no crash, no leak, no undefined behaviour, and no verdict that
 * changes. Each input is tried under the AWS root, under its own first certificate as root (which
 * reaches the chain), as a lone certificate, and once more while an allocation fails.
 */
#include <stdlib.h>

#include <openssl/crypto.h>

#include <base/crypto.h>
#include <claviger/attestation.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *count, char ***arguments);

/* Allocations left before the one that fails; 0: none does. OpenSSL's and ours count alike. */
static size_t until_failure;

static bool fails_now(void)
{
    return until_failure > 0 && --until_failure == 0;
}

/* The linker's --wrap sends our own calls here (fuzz/meson.build). */
void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);

void *__wrap_malloc(size_t n)
{
    return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return fails_now() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return fails_now() ? NULL : __real_realloc(p, n);
}

static void *openssl_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_malloc(n);
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_realloc(p, n);
}

static void openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count;
    (void)arguments;
    return CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) == 1 ? 0 : 1;
}

static clv_status verify(clv_bytes bytes, bool own_root)
{
    clv_verify_options options;
    clv_document document;
    clv_error err = {0};
    clv_verify_options_init(&options);
    clv_status status = clv_document_parse(bytes, &document, &err);
    if (status != CLV_OK)
        return status;
    options.kind = document.kind;
    if (own_root && clv_sha256(document.bundle[0], options.root_sha256, &err) != CLV_OK)
        return CLV_INTERNAL;
    return clv_document_verify(bytes, &options, &document, &err);
}

static void must(bool held)
{
    if (!held)
        abort();
}

/* Views of what was parsed stay inside of what was given. */
static void check_views(clv_bytes bytes)
{
    clv_document d;
    if (clv_document_parse(bytes, &d, NULL) != CLV_OK)
        return;
    const clv_bytes views[] = {d.protected_header, d.payload,         d.signature,
                               d.module_id,        d.certificate,     d.bundle[d.bundle_count - 1],
                               d.public_key.bytes, d.user_data.bytes, d.nonce.bytes};
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++)
        must(views[i].n == 0 || (views[i].p >= bytes.p && views[i].n <= bytes.n &&
                                 (size_t)(views[i].p - bytes.p) <= bytes.n - views[i].n));
    must(d.bundle_count >= 1 && d.bundle_count <= CLV_BUNDLE_MAX && d.pcrs.present != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    clv_bytes bytes = CLV_BYTES(data, size);
    clv_certificate_facts facts;
    check_views(bytes);
    clv_status aws = verify(bytes, false), own = verify(bytes, true);
    must(clv_certificate_describe(bytes, &facts, NULL) < CLV_STATUS_COUNT);
    must(verify(bytes, true) == own);
    must(aws != CLV_OK || own == CLV_OK);

    /* Which allocation fails follows from the input, so that a finding can be run again. */
    until_failure =
        size > 2 ? 1 + ((size_t)data[size - 1] | (size_t)data[size / 2] << 8) % 2048 : 1;
    clv_status starved = verify(bytes, true);
    until_failure = 0;
    must(own == CLV_OK || starved != CLV_OK);
    return 0;
}

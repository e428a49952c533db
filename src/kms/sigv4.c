#include <kms/sigv4.h>

#include <openssl/hmac.h>

#include <base/crypto.h>
#include <base/time.h>

#define ALGORITHM  "AWS4-HMAC-SHA256"
#define TERMINATOR "aws4_request"
#define KEY_PREFIX "AWS4"
#define DAY_LENGTH 8 /* the "20150830" of "20150830T123600Z" */

clv_status clv_sigv4_date(uint64_t now_ms, char out[CLV_SIGV4_DATE_SIZE], clv_error *err)
{
    if (now_ms > CLV_TIME_MAX_MS)
        return clv_fail(err, CLV_BAD_TIME, "expected a time before year 10000 to sign at");
    char text[CLV_TIME_TEXT_SIZE];
    clv_time_text(now_ms, text);
    size_t n = 0;
    for (const char *p = text; *p != '\0' && n + 1 < CLV_SIGV4_DATE_SIZE; p++) {
        if (*p != '-' && *p != ':')
            out[n++] = *p;
    }
    out[n] = '\0';
    return CLV_OK;
}

typedef EVP_MD_CTX *md_ctx;
static void md_ctx_drop(md_ctx *ctx)
{
    EVP_MD_CTX_free(*ctx);
}

static bool feed(EVP_MD_CTX *ctx, clv_bytes piece)
{
    return EVP_DigestUpdate(ctx, piece.n > 0 ? (const void *)piece.p : "", piece.n) == 1;
}

static bool feed_text(EVP_MD_CTX *ctx, const char *text)
{
    return feed(ctx, clv_bytes_of(text));
}

/* "host;x-amz-date" */
static clv_status signed_headers(const clv_sigv4 *request, clv_buf *out, clv_error *err)
{
    for (size_t i = 0; i < request->header_count; i++)
        CLV_TRY(clv_buf_printf(out, err, "%s%s", i > 0 ? ";" : "", request->header[i].name));
    return CLV_OK;
}

static clv_status hex_digest(clv_bytes data, clv_buf *out, clv_error *err)
{
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(data, digest, err));
    return clv_hex_append(out, CLV_BYTES(digest, sizeof digest), err);
}

/* The hash of the canonical request, fed piece by piece: the session token is one of them, and
 * there is no need for another copy of it. */
static clv_status canonical_digest(const clv_sigv4 *request, const char *names,
                                   uint8_t out[CLV_SHA256_SIZE], clv_error *err)
{
    clv_auto(clv_buf) body = CLV_BUF_INIT;
    CLV_TRY(hex_digest(request->body, &body, err));
    clv_auto(md_ctx) ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestInit_ex2(ctx, EVP_sha256(), NULL) == 1 &&
              feed_text(ctx, request->method) && feed_text(ctx, "\n/\n") &&
              feed_text(ctx, request->query) && feed_text(ctx, "\n");
    for (size_t i = 0; ok && i < request->header_count; i++)
        ok = feed_text(ctx, request->header[i].name) && feed_text(ctx, ":") &&
             feed(ctx, request->header[i].value) && feed_text(ctx, "\n");
    ok = ok && feed_text(ctx, "\n") && feed_text(ctx, names) && feed_text(ctx, "\n") &&
         feed(ctx, clv_buf_bytes(&body)) && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    return ok ? CLV_OK : clv_fail_openssl(err, CLV_INTERNAL, "the request cannot be hashed");
}

static clv_status hmac(clv_bytes key, clv_bytes data, uint8_t out[CLV_SHA256_SIZE], clv_error *err)
{
    if (HMAC(EVP_sha256(), key.p, (int)key.n, data.p, data.n, out, NULL) == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "HMAC-SHA-256 failed");
    return CLV_OK;
}

/* kSigning = HMAC(HMAC(HMAC(HMAC("AWS4" + secret, day), region), service), "aws4_request"). */
static clv_status signing_key(const clv_sigv4 *request, clv_bytes day, const clv_secret *secret_key,
                              clv_secret **out, clv_error *err)
{
    clv_auto_ptr(clv_secret) first = NULL;
    clv_auto_ptr(clv_secret) key = NULL;
    const clv_bytes secret = clv_secret_bytes(secret_key);
    CLV_TRY(clv_secret_new(strlen(KEY_PREFIX) + secret.n, &first, err));
    memcpy(clv_secret_writable(first), KEY_PREFIX, strlen(KEY_PREFIX));
    memcpy(clv_secret_writable(first) + strlen(KEY_PREFIX), secret.p, secret.n);

    CLV_TRY(clv_secret_new(CLV_SHA256_SIZE, &key, err));
    uint8_t *to = clv_secret_writable(key);
    CLV_TRY(hmac(clv_secret_bytes(first), day, to, err));
    CLV_TRY(hmac(clv_secret_bytes(key), clv_bytes_of(request->region), to, err));
    CLV_TRY(hmac(clv_secret_bytes(key), clv_bytes_of(request->service), to, err));
    CLV_TRY(hmac(clv_secret_bytes(key), clv_bytes_of(TERMINATOR), to, err));
    *out = key;
    key = NULL;
    return CLV_OK;
}

clv_status clv_sigv4_authorize(const clv_sigv4 *request, const char *access_key_id,
                               const clv_secret *secret_key, clv_buf *out, clv_error *err)
{
    char date[CLV_SIGV4_DATE_SIZE];
    CLV_TRY(clv_sigv4_date(request->now_ms, date, err));
    clv_auto(clv_buf) names = CLV_BUF_INIT;
    clv_auto(clv_buf) to_sign = CLV_BUF_INIT;
    const char *names_text;
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(signed_headers(request, &names, err));
    CLV_TRY(clv_buf_text(&names, &names_text, err));
    CLV_TRY(canonical_digest(request, names_text, digest, err));

    CLV_TRY(clv_buf_printf(&to_sign, err, ALGORITHM "\n%s\n%.*s/%s/%s/" TERMINATOR "\n", date,
                           DAY_LENGTH, date, request->region, request->service));
    CLV_TRY(clv_hex_append(&to_sign, CLV_BYTES(digest, sizeof digest), err));
    clv_auto_ptr(clv_secret) key = NULL;
    uint8_t signature[CLV_SHA256_SIZE];
    CLV_TRY(signing_key(request, CLV_BYTES(date, DAY_LENGTH), secret_key, &key, err));
    CLV_TRY(hmac(clv_secret_bytes(key), clv_buf_bytes(&to_sign), signature, err));

    CLV_TRY(clv_buf_printf(
        out, err,
        ALGORITHM " Credential=%s/%.*s/%s/%s/" TERMINATOR ", SignedHeaders=%s, Signature=",
        access_key_id, DAY_LENGTH, date, request->region, request->service, names_text));
    return clv_hex_append(out, CLV_BYTES(signature, sizeof signature), err);
}

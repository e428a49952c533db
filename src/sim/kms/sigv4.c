#include <sim/kms/sigv4.h>

#include <stdio.h>
#include <strings.h>
#include <time.h>

#include <base/clock.h>
#include <base/crypto.h>
#include <claviger/secret.h>
#include <openssl/hmac.h>

#define ALGORITHM    "AWS4-HMAC-SHA256"
#define TERMINATOR   "aws4_request"
#define DATE_SIZE    8  /* YYYYMMDD */
#define STAMP_LENGTH 16 /* YYYYMMDDTHHMMSSZ */

static clv_bytes trim(clv_bytes text)
{
    while (text.n > 0 && (text.p[0] == ' ' || text.p[0] == '\t'))
        text = CLV_BYTES(text.p + 1, text.n - 1);
    while (text.n > 0 && (text.p[text.n - 1] == ' ' || text.p[text.n - 1] == '\t'))
        text.n--;
    return text;
}

static bool cut(clv_bytes *rest, char separator, clv_bytes *head)
{
    const uint8_t *at = rest->n > 0 ? memchr(rest->p, separator, rest->n) : NULL;
    if (at == NULL) {
        *head = *rest;
        *rest = CLV_BYTES(NULL, 0);
        return false;
    }
    size_t n = (size_t)(at - rest->p);
    *head = CLV_BYTES(rest->p, n);
    *rest = CLV_BYTES(at + 1, rest->n - n - 1);
    return true;
}

/* "Credential=…, SignedHeaders=…, Signature=…" in any order. */
static void read_components(clv_bytes text, clv_bytes *credential, clv_sigv4_claim *out)
{
    const struct {
        const char *name;
        clv_bytes *to;
    } members[] = {
        {"Credential", credential},
        {"SignedHeaders", &out->signed_headers},
        {"Signature", &out->signature},
    };
    bool more = text.n > 0;
    while (more) {
        clv_bytes part, name;
        more = cut(&text, ',', &part);
        part = trim(part);
        cut(&part, '=', &name);
        for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
            if (clv_bytes_equal(name, clv_bytes_of(members[i].name)))
                *members[i].to = part;
        }
    }
}

static clv_status require_components(const clv_sigv4_claim *claim, clv_bytes credential,
                                     const char *authorization, clv_error *err)
{
    if (credential.n > 0 && claim->signed_headers.n > 0 && claim->signature.n > 0 &&
        claim->timestamp != NULL)
        return CLV_OK;
    return clv_fail(
        err, CLV_KMS_INCOMPLETE_SIGNATURE, "%s%s%s%sAuthorization=%.64s",
        credential.n > 0 ? "" : "Authorization header requires 'Credential' parameter. ",
        claim->signature.n > 0 ? "" : "Authorization header requires 'Signature' parameter. ",
        claim->signed_headers.n > 0 ? ""
                                    : "Authorization header requires 'SignedHeaders' parameter. ",
        claim->timestamp != NULL ? ""
                                 : "Authorization header requires existence of either "
                                   "a 'X-Amz-Date' or a 'Date' header. ",
        authorization);
}

static clv_status read_credential(clv_bytes credential, clv_sigv4_claim *out, clv_error *err)
{
    clv_bytes rest = credential, key, terminator;
    bool whole = cut(&rest, '/', &key);
    out->scope = rest;
    whole = whole && cut(&rest, '/', &out->date) && cut(&rest, '/', &out->region) &&
            cut(&rest, '/', &out->service) && !cut(&rest, '/', &terminator);
    if (!whole || key.n == 0 || key.n > CLV_ACCESS_KEY_MAX ||
        !clv_bytes_equal(terminator, clv_bytes_of(TERMINATOR)))
        return clv_fail(err, CLV_KMS_INCOMPLETE_SIGNATURE,
                        "Credential must have exactly 5 slash-delimited elements, e.g. "
                        "keyid/date/region/service/" TERMINATOR ", got '%.*s'",
                        (int)credential.n, (const char *)credential.p);
    snprintf(out->access_key, sizeof out->access_key, "%.*s", (int)key.n, (const char *)key.p);
    return CLV_OK;
}

clv_status clv_sigv4_parse(const clv_http_request *request, clv_sigv4_claim *out, clv_error *err)
{
    *out = (clv_sigv4_claim){0};
    const char *authorization = clv_http_header_get(request, "Authorization");
    if (authorization == NULL)
        return clv_fail(err, CLV_KMS_MISSING_TOKEN, "Missing Authentication Token");
    clv_bytes rest = clv_bytes_of(authorization), algorithm, credential = {NULL, 0};
    cut(&rest, ' ', &algorithm);
    if (!clv_bytes_equal(algorithm, clv_bytes_of(ALGORITHM)))
        return clv_fail(err, CLV_KMS_INCOMPLETE_SIGNATURE,
                        "Unsupported AWS 'algorithm': '%.*s'. Authorization=%.64s",
                        (int)(algorithm.n < 64 ? algorithm.n : 64), (const char *)algorithm.p,
                        authorization);
    read_components(rest, &credential, out);
    out->timestamp = clv_http_header_get(request, "X-Amz-Date");
    if (out->timestamp == NULL)
        out->timestamp = clv_http_header_get(request, "Date");
    out->token = clv_http_header_get(request, "X-Amz-Security-Token");
    CLV_TRY(require_components(out, credential, authorization, err));
    return read_credential(credential, out, err);
}

clv_status clv_sigv4_string_to_sign(const clv_sigv4_claim *claim, clv_bytes canonical_request,
                                    clv_buf *out, clv_error *err)
{
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(canonical_request, digest, err));
    CLV_TRY(clv_buf_printf(out, err, ALGORITHM "\n%s\n%.*s\n", claim->timestamp,
                           (int)claim->scope.n, (const char *)claim->scope.p));
    return clv_hex_append(out, CLV_BYTES(digest, sizeof digest), err);
}

static clv_status hmac(clv_bytes key, clv_bytes data, uint8_t out[CLV_SHA256_SIZE], clv_error *err)
{
    unsigned n = 0;
    if (HMAC(EVP_sha256(), key.p, (int)key.n, data.p, data.n, out, &n) == NULL)
        return clv_fail_openssl(err, CLV_INTERNAL, "HMAC-SHA256");
    return CLV_OK;
}

clv_status clv_sigv4_signature(const clv_sigv4_claim *claim, const char *secret,
                               clv_bytes string_to_sign, char out[CLV_SIGV4_DIGEST_HEX + 1],
                               clv_error *err)
{
    clv_auto(clv_buf) start = CLV_BUF_INIT;
    CLV_TRY(clv_buf_printf(&start, err, "AWS4%s", secret));
    const clv_bytes steps[] = {claim->date, claim->region, claim->service, clv_bytes_of(TERMINATOR),
                               string_to_sign};
    uint8_t key[CLV_SHA256_SIZE];
    clv_bytes with = clv_buf_bytes(&start);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        uint8_t next[CLV_SHA256_SIZE];
        CLV_TRY(hmac(with, steps[i], next, err));
        memcpy(key, next, sizeof key);
        with = CLV_BYTES(key, sizeof key);
    }
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    CLV_TRY(clv_hex_append(&hex, with, err));
    memcpy(out, hex.p, CLV_SIGV4_DIGEST_HEX);
    out[CLV_SIGV4_DIGEST_HEX] = '\0';
    clv_wipe(key, sizeof key);
    return CLV_OK;
}

static bool signs(const clv_sigv4_claim *claim, const char *name)
{
    clv_bytes rest = claim->signed_headers, head;
    bool more = true;
    while (more) {
        more = cut(&rest, ';', &head);
        if (clv_bytes_equal(head, clv_bytes_of(name)))
            return true;
    }
    return false;
}

/* The guide: host must be signed, and every x-amz- header that is in the request. */
static clv_status check_signed_headers(const clv_http_request *request,
                                       const clv_sigv4_claim *claim, clv_error *err)
{
    bool whole = signs(claim, "host") && (signs(claim, "x-amz-date") || signs(claim, "date"));
    for (size_t i = 0; i < request->header_count; i++) {
        char name[64];
        size_t n = 0;
        const char *from = request->header[i].name;
        if (strncasecmp(from, "x-amz-", 6) != 0)
            continue;
        for (; from[n] != '\0' && n + 1 < sizeof name; n++)
            name[n] = (char)(from[n] >= 'A' && from[n] <= 'Z' ? from[n] + 32 : from[n]);
        name[n] = '\0';
        whole = whole && signs(claim, name);
    }
    if (!whole)
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "'Host' or 'X-Amz-…' headers must be 'SignedHeaders' in the AWS "
                        "Authorization header: found '%.*s'",
                        (int)claim->signed_headers.n, (const char *)claim->signed_headers.p);
    return CLV_OK;
}

static void stamp_of(uint64_t ms, char out[STAMP_LENGTH + 1])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, STAMP_LENGTH + 1, "%Y%m%dT%H%M%SZ", &tm);
}

static bool read_stamp(const char *text, uint64_t *ms)
{
    static const char *const forms[] = {"%Y%m%dT%H%M%SZ", "%a, %d %b %Y %H:%M:%S GMT"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);
        if (end != NULL && *end == '\0' && tm.tm_year >= 70) {
            *ms = (uint64_t)timegm(&tm) * 1000;
            return true;
        }
    }
    return false;
}

static clv_status check_date(const clv_sigv4_claim *claim, uint64_t now_ms, clv_error *err)
{
    uint64_t at = 0;
    if (!read_stamp(claim->timestamp, &at))
        return clv_fail(err, CLV_KMS_INCOMPLETE_SIGNATURE,
                        "Date must be in ISO-8601 'basic format'. Got '%.64s'.", claim->timestamp);
    char stamp[STAMP_LENGTH + 1], now[STAMP_LENGTH + 1], limit[STAMP_LENGTH + 1];
    stamp_of(at, stamp);
    stamp_of(now_ms, now);
    if (!clv_bytes_equal(claim->date, CLV_BYTES(stamp, DATE_SIZE)))
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version "
                        "of date from HTTP: '%.*s' != '%.8s', from '%s'.",
                        (int)claim->date.n, (const char *)claim->date.p, stamp, stamp);
    if (at + CLV_SIGV4_SKEW_MS < now_ms) {
        stamp_of(now_ms - CLV_SIGV4_SKEW_MS, limit);
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "Signature expired: %s is now earlier than %s (%s - 5 min.)", stamp, limit,
                        now);
    }
    if (at > now_ms + CLV_SIGV4_SKEW_MS) {
        stamp_of(now_ms + CLV_SIGV4_SKEW_MS, limit);
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "Signature not yet current: %s is still later than %s (%s + 5 min.)", stamp,
                        limit, now);
    }
    return CLV_OK;
}

static clv_status check_scope(const clv_sigv4_claim *claim, const clv_sigv4_expected *expected,
                              clv_error *err)
{
    if (!clv_bytes_equal(claim->region, clv_bytes_of(expected->region)))
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "Credential should be scoped to a valid region, not '%.*s'.",
                        (int)claim->region.n, (const char *)claim->region.p);
    if (!clv_bytes_equal(claim->service, clv_bytes_of(expected->service)))
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "Credential should be scoped to correct service: '%s'.", expected->service);
    return CLV_OK;
}

clv_status clv_sigv4_verify(const clv_http_request *request, const clv_sigv4_claim *claim,
                            const char *secret, const clv_sigv4_expected *expected, clv_error *err)
{
    CLV_TRY(check_scope(claim, expected, err));
    CLV_TRY(check_signed_headers(request, claim, err));
    CLV_TRY(check_date(claim, expected->now_ms, err));
    clv_auto(clv_buf) canonical = CLV_BUF_INIT;
    clv_auto(clv_buf) to_sign = CLV_BUF_INIT;
    char signature[CLV_SIGV4_DIGEST_HEX + 1];
    CLV_TRY(clv_sigv4_canonical_request(request, claim, &canonical, err));
    CLV_TRY(clv_sigv4_string_to_sign(claim, clv_buf_bytes(&canonical), &to_sign, err));
    CLV_TRY(clv_sigv4_signature(claim, secret, clv_buf_bytes(&to_sign), signature, err));
    if (!clv_bytes_equal_secret(claim->signature, CLV_BYTES(signature, CLV_SIGV4_DIGEST_HEX)))
        return clv_fail(err, CLV_KMS_INVALID_SIGNATURE,
                        "The request signature we calculated does not match the signature you "
                        "provided. Check your AWS Secret Access Key and signing method. Consult "
                        "the service documentation for details.");
    return CLV_OK;
}

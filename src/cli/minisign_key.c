#include <cli/minisign_key.h>

#include <sodium.h>

#include <base/file.h>

#define KEY_FILE_MAX  4096
#define CHECKSUM_SIZE 32
#define SALT_SIZE     32
#define LIMITS_SIZE   16 /* opslimit, memlimit */
#define PREHASH_SIZE  64
#define PASSWORD_KDF  "Sc"

void clv_minisign_key_drop(clv_minisign_key *key)
{
    clv_secret_free(&key->secret);
}

static clv_status malformed(clv_error *err)
{
    return clv_fail(err, CLV_RELEASE_SECRET_KEY,
                    "expected a minisign secret key (two lines, the second in base64), found "
                    "something else");
}

/* The second line of the file. */
static clv_status second_line(clv_bytes text, clv_bytes *out, clv_error *err)
{
    const uint8_t *end = text.n > 0 ? memchr(text.p, '\n', text.n) : NULL;
    clv_cursor c = clv_cursor_of(text);
    clv_bytes skipped;
    if (end == NULL || clv_cursor_take(&c, (size_t)(end - text.p) + 1, &skipped, NULL) != CLV_OK)
        return malformed(err);
    const uint8_t *stop = c.rest.n > 0 ? memchr(c.rest.p, '\n', c.rest.n) : NULL;
    return clv_cursor_take(&c, stop != NULL ? (size_t)(stop - c.rest.p) : c.rest.n, out, err);
}

/* An Ed25519 secret key is a seed and the public key that comes of it (RFC 8032 section 5.1.5). */
static bool is_whole(clv_bytes secret)
{
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES], again[crypto_sign_SECRETKEYBYTES];
    crypto_sign_seed_keypair(public_key, again, secret.p);
    bool whole = clv_bytes_equal_secret(secret, CLV_BYTES(again, sizeof again));
    clv_wipe(again, sizeof again);
    return whole;
}

static clv_status parse(clv_bytes raw, clv_minisign_key *out, clv_error *err)
{
    clv_cursor c = clv_cursor_of(raw);
    clv_bytes algorithm, kdf, hash, skipped, id, secret, checksum;
    if (clv_cursor_take(&c, 2, &algorithm, NULL) != CLV_OK ||
        clv_cursor_take(&c, 2, &kdf, NULL) != CLV_OK ||
        clv_cursor_take(&c, 2, &hash, NULL) != CLV_OK ||
        clv_cursor_take(&c, SALT_SIZE + LIMITS_SIZE, &skipped, NULL) != CLV_OK ||
        clv_cursor_take(&c, sizeof out->id, &id, NULL) != CLV_OK ||
        clv_cursor_take(&c, crypto_sign_SECRETKEYBYTES, &secret, NULL) != CLV_OK ||
        clv_cursor_take(&c, CHECKSUM_SIZE, &checksum, NULL) != CLV_OK || c.rest.n != 0 ||
        !clv_bytes_equal(algorithm, clv_bytes_of("Ed")))
        return malformed(err);
    if (clv_bytes_equal(kdf, clv_bytes_of(PASSWORD_KDF)))
        return clv_fail(err, CLV_RELEASE_SECRET_KEY,
                        "the key is under a password: sign with `minisign -S -s KEY -m FILE`");
    /* minisign leaves the checksum of a key without a password zero: the key vouches for itself. */
    if (!is_whole(secret))
        return clv_fail(err, CLV_RELEASE_SECRET_KEY, "the key is damaged: its halves do not match");
    memcpy(out->id, id.p, sizeof out->id);
    return clv_secret_copy(secret, &out->secret, err);
}

clv_status clv_minisign_key_read(const char *path, clv_minisign_key *out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_auto(clv_buf) raw = CLV_BUF_INIT;
    clv_bytes line;
    CLV_TRY(clv_file_read(path, KEY_FILE_MAX, &text, err));
    clv_status status = second_line(clv_buf_bytes(&text), &line, err);
    if (status == CLV_OK && clv_base64_decode(line, &raw, NULL) != CLV_OK)
        status = malformed(err);
    if (status == CLV_OK)
        status = parse(clv_buf_bytes(&raw), out, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", path);
}

clv_status clv_minisign_sign(const clv_minisign_key *key, clv_bytes content,
                             const char *trusted_comment, clv_buf *out, clv_error *err)
{
    uint8_t hash[PREHASH_SIZE], signature[crypto_sign_BYTES], global[crypto_sign_BYTES];
    const uint8_t *secret = clv_secret_bytes(key->secret).p;
    clv_auto(clv_buf) first = CLV_BUF_INIT;
    clv_auto(clv_buf) second = CLV_BUF_INIT;
    crypto_generichash(hash, sizeof hash, content.p, content.n, NULL, 0);
    crypto_sign_detached(signature, NULL, hash, sizeof hash, secret);
    CLV_TRY(clv_buf_append_text(&first, "ED", err));
    CLV_TRY(clv_buf_append(&first, CLV_BYTES(key->id, sizeof key->id), err));
    CLV_TRY(clv_buf_append(&first, CLV_BYTES(signature, sizeof signature), err));
    CLV_TRY(clv_buf_append(&second, CLV_BYTES(signature, sizeof signature), err));
    CLV_TRY(clv_buf_append_text(&second, trusted_comment, err));
    crypto_sign_detached(global, NULL, second.p, second.n, secret);

    CLV_TRY(clv_buf_append_text(out, "untrusted comment: signature of a claviger baseline\n", err));
    CLV_TRY(clv_base64_append(out, clv_buf_bytes(&first), err));
    CLV_TRY(clv_buf_printf(out, err, "\ntrusted comment: %s\n", trusted_comment));
    CLV_TRY(clv_base64_append(out, CLV_BYTES(global, sizeof global), err));
    return clv_buf_append_text(out, "\n", err);
}

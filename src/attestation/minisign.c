#include <attestation/minisign.h>

#include <sodium.h>

#define ALGORITHM_SIZE 2
#define KEY_ID_SIZE    8
#define SIGNATURE_SIZE crypto_sign_BYTES
#define PREHASH_SIZE   64 /* BLAKE2b-512 */

#define UNTRUSTED "untrusted comment: "
#define TRUSTED   "trusted comment: "

/* The next line without its line break; the last one may lack it. */
static clv_bytes next_line(clv_cursor *c)
{
    const uint8_t *end = c->rest.n > 0 ? memchr(c->rest.p, '\n', c->rest.n) : NULL;
    size_t n = end != NULL ? (size_t)(end - c->rest.p) : c->rest.n;
    clv_bytes line, line_break;
    if (clv_cursor_take(c, n, &line, NULL) != CLV_OK)
        return CLV_BYTES(NULL, 0);
    if (end != NULL && clv_cursor_take(c, 1, &line_break, NULL) != CLV_OK)
        return CLV_BYTES(NULL, 0);
    if (line.n > 0 && line.p[line.n - 1] == '\r')
        line.n--;
    return line;
}

static bool take_prefix(clv_bytes *line, const char *prefix)
{
    clv_cursor c = clv_cursor_of(*line);
    clv_bytes head;
    if (clv_cursor_take(&c, strlen(prefix), &head, NULL) != CLV_OK ||
        !clv_bytes_equal(head, clv_bytes_of(prefix)))
        return false;
    *line = c.rest;
    return true;
}

static clv_status read_base64_line(clv_cursor *c, size_t size, const char *what, clv_buf *out,
                                   clv_error *err)
{
    clv_bytes line = next_line(c);
    if (clv_base64_decode(line, out, NULL) != CLV_OK || out->n != size)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "signature file: expected %zu bytes of %s in "
                        "base64, found something else",
                        size, what);
    return CLV_OK;
}

typedef struct signature_file {
    clv_buf first;  /* algorithm, key id, signature */
    clv_buf global; /* signature over signature and comment */
    clv_bytes comment;
    bool prehashed;
} signature_file;
#define SIGNATURE_FILE_INIT                          \
    {                                                \
        CLV_BUF_INIT, CLV_BUF_INIT, {NULL, 0}, false \
    }

static void signature_file_drop(signature_file *file)
{
    clv_buf_drop(&file->first);
    clv_buf_drop(&file->global);
}

static clv_status parse(clv_bytes text, signature_file *out, clv_error *err)
{
    if (text.n == 0 || text.n > CLV_MINISIGN_MAX)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "signature file: expected 1 to %d bytes, found %zu", CLV_MINISIGN_MAX,
                        text.n);
    clv_cursor c = clv_cursor_of(text);
    clv_bytes untrusted = next_line(&c);
    if (!take_prefix(&untrusted, UNTRUSTED))
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "signature file: expected \"" UNTRUSTED "\" first, found something else");
    CLV_TRY(read_base64_line(&c, ALGORITHM_SIZE + KEY_ID_SIZE + SIGNATURE_SIZE, "signature",
                             &out->first, err));
    out->comment = next_line(&c);
    if (!take_prefix(&out->comment, TRUSTED))
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "signature file: expected \"" TRUSTED "\" third, found something else");
    CLV_TRY(read_base64_line(&c, SIGNATURE_SIZE, "comment signature", &out->global, err));
    if (c.rest.n != 0)
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "signature file: expected four lines, found %zu bytes more", c.rest.n);
    clv_bytes algorithm = CLV_BYTES(out->first.p, ALGORITHM_SIZE);
    out->prehashed = clv_bytes_equal(algorithm, clv_bytes_of("ED"));
    if (!out->prehashed && !clv_bytes_equal(algorithm, clv_bytes_of("Ed")))
        return clv_fail(err, CLV_BASELINE_FORMAT,
                        "signature file: expected algorithm Ed or ED, found another");
    return CLV_OK;
}

static bool signs_content(const signature_file *file, const uint8_t *key, clv_bytes content)
{
    const uint8_t *signature = file->first.p + ALGORITHM_SIZE + KEY_ID_SIZE;
    uint8_t hash[PREHASH_SIZE];
    if (!file->prehashed)
        return crypto_sign_verify_detached(signature, content.p, content.n, key) == 0;
    return crypto_generichash(hash, sizeof hash, content.p, content.n, NULL, 0) == 0 &&
           crypto_sign_verify_detached(signature, hash, sizeof hash, key) == 0;
}

static clv_status signs_comment(const signature_file *file, const uint8_t *key, bool *holds,
                                clv_error *err)
{
    clv_auto(clv_buf) message = CLV_BUF_INIT;
    CLV_TRY(clv_buf_append(
        &message, CLV_BYTES(file->first.p + ALGORITHM_SIZE + KEY_ID_SIZE, SIGNATURE_SIZE), err));
    CLV_TRY(clv_buf_append(&message, file->comment, err));
    *holds = crypto_sign_verify_detached(file->global.p, message.p, message.n, key) == 0;
    return CLV_OK;
}

clv_status clv_minisign_verify(clv_bytes content, clv_bytes signature_file_text,
                               const clv_release_key *keys, size_t key_count, clv_error *err)
{
    clv_auto(signature_file) file = SIGNATURE_FILE_INIT;
    CLV_TRY(parse(signature_file_text, &file, err));
    clv_bytes id = CLV_BYTES(file.first.p + ALGORITHM_SIZE, KEY_ID_SIZE);
    bool known = false;
    for (size_t i = 0; i < key_count; i++) {
        if (!clv_bytes_equal(id, CLV_BYTES(keys[i].id, sizeof keys[i].id)))
            continue;
        known = true;
        bool comment_holds;
        CLV_TRY(signs_comment(&file, keys[i].key, &comment_holds, err));
        if (signs_content(&file, keys[i].key, content) && comment_holds)
            return CLV_OK;
    }
    if (known)
        return clv_fail(err, CLV_BASELINE_SIGNATURE,
                        "the signature is not over this baseline and its comment");
    return clv_fail(err, CLV_BASELINE_KEY,
                    "expected a signature by one of %zu release keys, found "
                    "one by another key",
                    key_count);
}

clv_status clv_release_key_parse(const char *text, clv_release_key *out, clv_error *err)
{
    clv_auto(clv_buf) raw = CLV_BUF_INIT;
    clv_cursor c;
    clv_bytes algorithm, id, key;
    bool sound = clv_base64_decode(clv_bytes_of(text), &raw, NULL) == CLV_OK;
    c = clv_cursor_of(clv_buf_bytes(&raw));
    sound = sound && clv_cursor_take(&c, ALGORITHM_SIZE, &algorithm, NULL) == CLV_OK &&
            clv_cursor_take(&c, sizeof out->id, &id, NULL) == CLV_OK &&
            clv_cursor_take(&c, sizeof out->key, &key, NULL) == CLV_OK && c.rest.n == 0 &&
            clv_bytes_equal(algorithm, clv_bytes_of("Ed"));
    if (!sound)
        return clv_fail(err, CLV_BASELINE_KEY,
                        "expected a minisign public key (RW…, 56 characters), found \"%.60s\"",
                        text);
    memcpy(out->id, id.p, sizeof out->id);
    memcpy(out->key, key.p, sizeof out->key);
    return CLV_OK;
}

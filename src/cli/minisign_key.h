/* Signing in minisign's format, with a key that has no password (jedisct1.github.io/minisign). */
#ifndef CLV_CLI_MINISIGN_KEY_H
#define CLV_CLI_MINISIGN_KEY_H

#include <claviger/secret.h>

/*
 * The secret key file as `minisign -G -W` writes it: the key's id and the Ed25519 secret key, whose
 * halves must belong together. A key under a password is refused with the advice to sign with
 * minisign itself. CLV_RELEASE_SECRET_KEY.
 */
typedef struct clv_minisign_key {
    uint8_t id[8];
    clv_secret *secret;
} clv_minisign_key;
#define CLV_MINISIGN_KEY_INIT \
    {                         \
        {0}, NULL             \
    }
void clv_minisign_key_drop(clv_minisign_key *key);
CLV_NODISCARD clv_status clv_minisign_key_read(const char *path, clv_minisign_key *out,
                                               clv_error *err);

/* The text of a signature file: algorithm ED (over BLAKE2b-512), with this trusted comment. */
CLV_NODISCARD clv_status clv_minisign_sign(const clv_minisign_key *key, clv_bytes content,
                                           const char *trusted_comment, clv_buf *out,
                                           clv_error *err);

#endif

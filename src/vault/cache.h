/*
 * Data keys that are kept for a while (R14): only where the measured policy turns it on, and
 * bounded by age, messages and bytes. An entry is found only by everything that identifies it: the
 * policy's key and the whole operation, so that another context, name, generation or CiphertextBlob
 * is a miss. Each message derives its own key from the kept one (seal/suite.h).
 *
 * Thread-safe. Time comes in as an argument: milliseconds of the monotonic clock.
 */
#ifndef CLV_VAULT_CACHE_H
#define CLV_VAULT_CACHE_H

#include <claviger/policy.h>
#include <claviger/secret.h>

#define CLV_KEY_CACHE_ENTRIES 64
#define CLV_KEY_CACHE_ID      48 /* SHA-384 */

typedef struct clv_key_cache clv_key_cache;
typedef struct clv_cached_key clv_cached_key;

CLV_NODISCARD clv_status clv_key_cache_new(clv_key_cache **out, clv_error *err);
/* No key may be taken any more. */
void clv_key_cache_free(clv_key_cache **cache);

/* The id of an operation under a key of the policy. */
CLV_NODISCARD clv_status clv_key_cache_id(const clv_policy_key *key, const clv_operation *operation,
                                          uint8_t id[CLV_KEY_CACHE_ID], clv_error *err);

/*
 * A kept key that may serve one more message of n bytes, which is counted at once; NULL when there
 * is none. An entry whose limits are reached is wiped when its last user has given it back, whether
 * or not anybody asks for it again.
 */
clv_cached_key *clv_key_cache_take(clv_key_cache *cache, const uint8_t id[CLV_KEY_CACHE_ID],
                                   uint64_t n, uint64_t now_ms);
void clv_key_cache_give_back(clv_key_cache *cache, clv_cached_key **key);
const clv_secret *clv_cached_key_secret(const clv_cached_key *key);
clv_bytes clv_cached_key_encrypted(const clv_cached_key *key);

/*
 * Keep a copy of a key that has just served a message of n bytes. Nothing is kept when the limits
 * leave no room for another message; the oldest entry makes room.
 */
CLV_NODISCARD clv_status clv_key_cache_put(clv_key_cache *cache, const uint8_t id[CLV_KEY_CACHE_ID],
                                           const clv_cache_limits *limits,
                                           const clv_secret *data_key, clv_bytes encrypted,
                                           uint64_t n, uint64_t now_ms, clv_error *err);

/* Wipe what is too old. The next entry's last millisecond, or UINT64_MAX when none is left. */
uint64_t clv_key_cache_sweep(clv_key_cache *cache, uint64_t now_ms);

#endif

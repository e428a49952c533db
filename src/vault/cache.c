#include <vault/cache.h>

#include <pthread.h>
#include <stdlib.h>

#include <base/crypto.h>

struct clv_cached_key {
    uint8_t id[CLV_KEY_CACHE_ID];
    clv_secret *data_key;
    clv_buf encrypted;
    clv_cache_limits limits;
    uint64_t born_ms;
    uint64_t messages, bytes; /* served so far */
    unsigned users;
    bool removed; /* from the table: the last user frees it */
};

struct clv_key_cache {
    pthread_mutex_t lock; /* protects the table and every member of its entries but the keys */
    clv_cached_key *entry[CLV_KEY_CACHE_ENTRIES]; /* NULL: free */
};

static void free_key(clv_cached_key *key)
{
    clv_secret_free(&key->data_key);
    clv_buf_drop(&key->encrypted);
    free(key);
}

/* The lock is held. */
static void remove_entry(clv_key_cache *cache, size_t i)
{
    clv_cached_key *key = cache->entry[i];
    cache->entry[i] = NULL;
    if (key == NULL)
        return;
    key->removed = true;
    if (key->users == 0)
        free_key(key);
}

clv_status clv_key_cache_new(clv_key_cache **out, clv_error *err)
{
    clv_key_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a cache of data keys");
    pthread_mutex_init(&cache->lock, NULL);
    *out = cache;
    return CLV_OK;
}

void clv_key_cache_free(clv_key_cache **cache)
{
    if (*cache == NULL)
        return;
    for (size_t i = 0; i < CLV_KEY_CACHE_ENTRIES; i++)
        remove_entry(*cache, i);
    pthread_mutex_destroy(&(*cache)->lock);
    free(*cache);
    *cache = NULL;
}

clv_status clv_key_cache_id(const clv_policy_key *key, const clv_operation *operation,
                            uint8_t id[CLV_KEY_CACHE_ID], clv_error *err)
{
    clv_auto(clv_buf) all = CLV_BUF_INIT;
    /* Two keys of the policy may be one in KMS, with other limits. Its NUL ends the name. */
    CLV_TRY(clv_buf_append(&all, CLV_BYTES(key->name, strlen(key->name) + 1), err));
    CLV_TRY(clv_operation_encode(operation, &all, err));
    return clv_sha384(clv_buf_bytes(&all), id, err);
}

static uint64_t end_of(const clv_cached_key *key)
{
    return key->born_ms + (uint64_t)key->limits.max_age_s * 1000;
}

static bool fits(const clv_cached_key *key, uint64_t n)
{
    return key->messages < key->limits.max_messages && n <= key->limits.max_bytes &&
           key->bytes <= key->limits.max_bytes - n;
}

/* CLV_KEY_CACHE_ENTRIES when there is none. */
static size_t find(clv_key_cache *cache, const uint8_t id[CLV_KEY_CACHE_ID], uint64_t n,
                   uint64_t now_ms)
{
    for (size_t i = 0; i < CLV_KEY_CACHE_ENTRIES; i++) {
        clv_cached_key *key = cache->entry[i];
        if (key == NULL || memcmp(key->id, id, CLV_KEY_CACHE_ID) != 0)
            continue;
        if (now_ms < end_of(key) && fits(key, n))
            return i;
        remove_entry(cache, i);
    }
    return CLV_KEY_CACHE_ENTRIES;
}

static clv_cached_key *take(clv_key_cache *cache, size_t i, uint64_t n)
{
    clv_cached_key *key = cache->entry[i];
    key->users++;
    key->messages++;
    key->bytes += n;
    if (key->messages == key->limits.max_messages || key->bytes == key->limits.max_bytes)
        remove_entry(cache, i); /* its last message: nobody has to ask again for it to be wiped */
    return key;
}

clv_cached_key *clv_key_cache_take(clv_key_cache *cache, const uint8_t id[CLV_KEY_CACHE_ID],
                                   uint64_t n, uint64_t now_ms)
{
    pthread_mutex_lock(&cache->lock);
    size_t i = find(cache, id, n, now_ms);
    clv_cached_key *key = i < CLV_KEY_CACHE_ENTRIES ? take(cache, i, n) : NULL;
    pthread_mutex_unlock(&cache->lock);
    return key;
}

void clv_key_cache_give_back(clv_key_cache *cache, clv_cached_key **key)
{
    pthread_mutex_lock(&cache->lock);
    (*key)->users--;
    if ((*key)->removed && (*key)->users == 0)
        free_key(*key);
    pthread_mutex_unlock(&cache->lock);
    *key = NULL;
}

const clv_secret *clv_cached_key_secret(const clv_cached_key *key)
{
    return key->data_key;
}

clv_bytes clv_cached_key_encrypted(const clv_cached_key *key)
{
    return clv_buf_bytes(&key->encrypted);
}

/* A free place, else the oldest entry's. */
static size_t place(clv_key_cache *cache)
{
    size_t oldest = 0;
    for (size_t i = 0; i < CLV_KEY_CACHE_ENTRIES; i++) {
        if (cache->entry[i] == NULL)
            return i;
        if (cache->entry[i]->born_ms < cache->entry[oldest]->born_ms)
            oldest = i;
    }
    remove_entry(cache, oldest);
    return oldest;
}

clv_status clv_key_cache_put(clv_key_cache *cache, const uint8_t id[CLV_KEY_CACHE_ID],
                             const clv_cache_limits *limits, const clv_secret *data_key,
                             clv_bytes encrypted, uint64_t n, uint64_t now_ms, clv_error *err)
{
    if (limits->max_age_s == 0 || limits->max_messages <= 1 || n >= limits->max_bytes)
        return CLV_OK;
    clv_cached_key *key = calloc(1, sizeof *key);
    if (key == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a cached data key");
    memcpy(key->id, id, sizeof key->id);
    key->limits = *limits;
    key->born_ms = now_ms;
    key->messages = 1;
    key->bytes = n;
    clv_status status = clv_secret_copy(clv_secret_bytes(data_key), &key->data_key, err);
    if (status == CLV_OK)
        status = clv_buf_append(&key->encrypted, encrypted, err);
    if (status != CLV_OK) {
        free_key(key);
        return status;
    }
    pthread_mutex_lock(&cache->lock);
    cache->entry[place(cache)] = key;
    pthread_mutex_unlock(&cache->lock);
    return CLV_OK;
}

uint64_t clv_key_cache_sweep(clv_key_cache *cache, uint64_t now_ms)
{
    uint64_t next = UINT64_MAX;
    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < CLV_KEY_CACHE_ENTRIES; i++) {
        if (cache->entry[i] == NULL)
            continue;
        uint64_t end = end_of(cache->entry[i]);
        if (now_ms >= end)
            remove_entry(cache, i);
        else if (end < next)
            next = end;
    }
    pthread_mutex_unlock(&cache->lock);
    return next;
}

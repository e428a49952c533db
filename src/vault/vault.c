#include <vault/vault.h>

#include <pthread.h>
#include <stdlib.h>

#include <base/clock.h>
#include <vault/cache.h>

#define DATA_KEY_BYTES 32

struct clv_vault {
    clv_gate *gate;
    clv_kms *kms;
    clv_key_cache *cache; /* NULL where no key of the policy has one */
    pthread_t sweeper;
    pthread_mutex_t lock; /* protects stopping */
    pthread_cond_t changed;
    bool sweeping, stopping;
    clv_vault_observer observer; /* NULL: none */
    void *observer_with;
};

/* Sleeps until the next key is too old; woken when one was added, or to stop. */
static void *sweep(void *with)
{
    clv_vault *vault = with;
    pthread_mutex_lock(&vault->lock);
    while (!vault->stopping) {
        uint64_t end = clv_key_cache_sweep(vault->cache, clv_monotonic_ms());
        if (end == UINT64_MAX) {
            pthread_cond_wait(&vault->changed, &vault->lock);
            continue;
        }
        /* A condition cannot wait by the clock that the ages are counted by. */
        uint64_t now = clv_monotonic_ms();
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += (time_t)(end > now ? (end - now) / 1000 + 1 : 0);
        pthread_cond_timedwait(&vault->changed, &vault->lock, &until);
    }
    pthread_mutex_unlock(&vault->lock);
    return NULL;
}

static bool caches(const clv_policy *policy)
{
    for (size_t i = 0; i < policy->key_count; i++)
        if (policy->key[i].cache.max_age_s > 0)
            return true;
    return false;
}

static clv_status start_cache(clv_vault *vault, clv_error *err)
{
    if (!caches(clv_gate_policy(vault->gate)))
        return CLV_OK;
    CLV_TRY(clv_key_cache_new(&vault->cache, err));
    vault->sweeping = pthread_create(&vault->sweeper, NULL, sweep, vault) == 0;
    return vault->sweeping ? CLV_OK : clv_fail(err, CLV_SYSTEM, "a thread cannot be started");
}

clv_status clv_vault_open(clv_gate *gate, clv_kms *kms, clv_vault **out, clv_error *err)
{
    clv_auto_ptr(clv_vault) vault = calloc(1, sizeof *vault);
    pthread_condattr_t monotonic;
    if (vault == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the vault");
    vault->gate = gate;
    vault->kms = kms;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&vault->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&vault->lock, NULL);
    CLV_TRY(start_cache(vault, err));
    *out = vault;
    vault = NULL;
    return CLV_OK;
}

void clv_vault_free(clv_vault **vault)
{
    clv_vault *v = *vault;
    if (v == NULL)
        return;
    pthread_mutex_lock(&v->lock);
    v->stopping = true;
    pthread_cond_signal(&v->changed);
    pthread_mutex_unlock(&v->lock);
    if (v->sweeping)
        pthread_join(v->sweeper, NULL);
    clv_key_cache_free(&v->cache);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->lock);
    free(v);
    *vault = NULL;
}

clv_gate *clv_vault_gate(clv_vault *vault)
{
    return vault->gate;
}

void clv_vault_set_observer(clv_vault *vault, clv_vault_observer observer, void *with)
{
    vault->observer = observer;
    vault->observer_with = with;
}

/* What is asked of KMS, under which key of the policy, and what binds the answer. */
typedef struct ask {
    const clv_policy_key *key;
    const clv_operation *operation;
    const clv_context *context;
} ask;

static clv_status check_data_key(const ask *a, const clv_secret *data_key, clv_error *err)
{
    size_t n = data_key != NULL ? clv_secret_length(data_key) : 0;
    /* A shared secret has the length of its curve: the client has compared it. */
    if (n != DATA_KEY_BYTES && (n == 0 || a->operation->action != CLV_DERIVE_SHARED_SECRET))
        return clv_fail(err, CLV_KMS_RESPONSE, "expected a data key of %d bytes, found %zu",
                        DATA_KEY_BYTES, n);
    return CLV_OK;
}

/* Where a key may be kept after its use: under which id, counted as how many bytes. */
typedef struct keeping {
    uint8_t id[CLV_KEY_CACHE_ID];
    uint64_t size;
} keeping;

static clv_status keep(clv_vault *vault, const keeping *as, const clv_key_facts *facts,
                       const clv_secret *data_key, clv_error *err)
{
    CLV_TRY(clv_key_cache_put(vault->cache, as->id, &facts->key->cache, data_key,
                              facts->encrypted_key, as->size, clv_monotonic_ms(), err));
    pthread_mutex_lock(&vault->lock);
    pthread_cond_signal(&vault->changed);
    pthread_mutex_unlock(&vault->lock);
    return CLV_OK;
}

/* The extent of a key (R12): the answer's destructor wipes it on every way out. as: NULL for a key
 * that is not kept. */
static clv_status open_and_use(clv_vault *vault, const ask *a, const keeping *as, clv_key_use use,
                               void *with, clv_error *err)
{
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    CLV_TRY(clv_kms_run(vault->kms, vault->gate, a->operation, &answer, NULL, err));
    CLV_TRY(check_data_key(a, answer.plaintext, err));
    if (vault->observer != NULL)
        vault->observer(vault->observer_with, a->key, a->operation,
                        clv_buf_bytes(&answer.document));
    bool new_key = a->operation->action == CLV_GENERATE_DATA_KEY;
    clv_key_facts facts = {
        .key = a->key,
        .context = a->context,
        .encrypted_key =
            clv_buf_bytes(new_key ? &answer.ciphertext_blob : &a->operation->ciphertext),
        .document = clv_buf_bytes(&answer.document),
    };
    CLV_TRY(use(with, answer.plaintext, &facts, err));
    return as != NULL ? keep(vault, as, &facts, answer.plaintext, err) : CLV_OK;
}

static clv_status use_kept(clv_vault *vault, const ask *a, clv_cached_key *kept, clv_key_use use,
                           void *with, clv_error *err)
{
    clv_key_facts facts = {
        .key = a->key,
        .context = a->context,
        .encrypted_key = clv_cached_key_encrypted(kept),
    };
    clv_status status = use(with, clv_cached_key_secret(kept), &facts, err);
    clv_key_cache_give_back(vault->cache, &kept);
    return status;
}

/* With a key that is kept, else with one from KMS, which then is. */
static clv_status open_or_reuse(clv_vault *vault, const ask *a, uint64_t size, clv_key_use use,
                                void *with, clv_error *err)
{
    if (a->key->cache.max_age_s == 0 || size == CLV_VAULT_SIZE_UNKNOWN)
        return open_and_use(vault, a, NULL, use, with, err);
    keeping as = {.size = size};
    CLV_TRY(clv_key_cache_id(a->key, a->operation, as.id, err));
    clv_cached_key *kept = clv_key_cache_take(vault->cache, as.id, size, clv_monotonic_ms());
    if (kept != NULL)
        return use_kept(vault, a, kept, use, with, err);
    return open_and_use(vault, a, &as, use, with, err);
}

clv_status clv_vault_with_new_key(clv_vault *vault, const clv_policy_key *key,
                                  const clv_context *extra, clv_key_use use, void *with,
                                  clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(clv_policy_resolve_generate(clv_gate_policy(vault->gate), key,
                                        clv_gate_identity(vault->gate), extra, DATA_KEY_BYTES,
                                        &operation, err));
    const ask a = {key, &operation, &operation.context};
    return open_and_use(vault, &a, NULL, use, with, err);
}

clv_status clv_vault_with_sealing_key(clv_vault *vault, const clv_policy_key *key,
                                      const clv_context *extra, uint64_t size, clv_key_use use,
                                      void *with, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(clv_policy_resolve_generate(clv_gate_policy(vault->gate), key,
                                        clv_gate_identity(vault->gate), extra, DATA_KEY_BYTES,
                                        &operation, err));
    const ask a = {key, &operation, &operation.context};
    return open_or_reuse(vault, &a, size, use, with, err);
}

clv_status clv_vault_with_key(clv_vault *vault, const clv_policy_key *key, const clv_context *extra,
                              clv_bytes encrypted_key, clv_key_use use, void *with, clv_error *err)
{
    return clv_vault_with_unsealing_key(vault, key, extra, encrypted_key, 0, use, with, err);
}

clv_status clv_vault_with_unsealing_key(clv_vault *vault, const clv_policy_key *key,
                                        const clv_context *extra, clv_bytes encrypted_key,
                                        uint64_t size, clv_key_use use, void *with, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(clv_policy_resolve_decrypt(clv_gate_policy(vault->gate), key,
                                       clv_gate_identity(vault->gate), extra, encrypted_key,
                                       &operation, err));
    const ask a = {key, &operation, &operation.context};
    return open_or_reuse(vault, &a, size, use, with, err);
}

clv_status clv_vault_with_shared_secret(clv_vault *vault, const clv_policy_key *key,
                                        clv_key_use use, void *with, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    CLV_TRY(clv_policy_resolve_agreement(key, &operation, err));
    CLV_TRY(clv_policy_resolve_context(clv_gate_policy(vault->gate), key,
                                       clv_gate_identity(vault->gate), &context, err));
    const ask a = {key, &operation, &context};
    return open_or_reuse(vault, &a, 0, use, with, err);
}

typedef struct setup {
    clv_setup_use use;
    void *with;
} setup;

static clv_status use_without_key(void *with, const clv_secret *data_key,
                                  const clv_key_facts *facts, clv_error *err)
{
    const setup *s = with;
    (void)data_key;
    return s->use(s->with, facts, err);
}

clv_status clv_vault_setup(clv_vault *vault, clv_bytes request, clv_setup_use use, void *with,
                           clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    const clv_policy_key *key;
    setup s = {use, with};
    CLV_TRY(clv_policy_resolve_setup(clv_gate_policy(vault->gate), clv_gate_identity(vault->gate),
                                     request, &key, &operation, err));
    const ask a = {key, &operation, &operation.context};
    return open_and_use(vault, &a, NULL, use_without_key, &s, err);
}

#include <gate/gate.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include <openssl/rand.h>
#include <sodium.h>

#include <base/net.h>
#include <claviger/secret.h>

/* What the NSM gives into the kernel's and OpenSSL's pools. */
#define SEED_SIZE 64

/* A source that is stuck says the same twice (NIST SP 800-90B section 4.4.1, repetition count). */
static clv_status check_seed(clv_bytes seed, clv_error *err)
{
    clv_cursor c = clv_cursor_of(seed);
    clv_bytes first, second;
    CLV_TRY(clv_cursor_take(&c, seed.n / 2, &first, err));
    CLV_TRY(clv_cursor_take(&c, seed.n / 2, &second, err));
    if (clv_bytes_equal_secret(first, second))
        return clv_fail(err, CLV_NO_ENTROPY,
                        "expected random bytes from the NSM, found the same %zu twice", first.n);
    return CLV_OK;
}

/* R26: no key is made from a pool that is not ready, nor from the guest's own noise alone. */
static clv_status seed_randomness(clv_nsm *nsm, clv_error *err)
{
    uint8_t probe;
    if (getrandom(&probe, sizeof probe, GRND_NONBLOCK) != sizeof probe)
        return clv_fail(err, CLV_NO_ENTROPY, "the kernel's random pool is not ready: %m");
    clv_auto_ptr(clv_secret) seed = NULL;
    CLV_TRY(clv_secret_new(SEED_SIZE, &seed, err));
    CLV_TRY(clv_nsm_random(nsm, clv_secret_writable(seed), SEED_SIZE, err));
    CLV_TRY(check_seed(clv_secret_bytes(seed), err));
    RAND_seed(clv_secret_bytes(seed).p, SEED_SIZE);
    clv_auto(clv_fd) pool = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    if (pool < 0 || write(pool, clv_secret_bytes(seed).p, SEED_SIZE) != SEED_SIZE)
        return clv_fail(err, CLV_NO_ENTROPY, "the kernel's random pool takes no seed: %m");
    return CLV_OK;
}

static clv_status identify(clv_gate *gate, clv_bytes baseline, clv_bytes signature, clv_error *err)
{
    uint8_t nonce[CLV_NONCE_SIZE];
    randombytes_buf(nonce, sizeof nonce);
    clv_binding ask = {.nonce = {true, CLV_BYTES(nonce, sizeof nonce)}};
    clv_auto(clv_proof) proof = CLV_PROOF_INIT;
    CLV_TRY(clv_proof_obtain(gate->nsm, gate->policy, &ask, &proof, err));
    CLV_TRY(clv_identity_establish(&proof.document, gate->policy, baseline, signature,
                                   &gate->identity, err));
    return clv_clock_advance(gate->clock, proof.document.timestamp_ms, proof.arrived_ms, err);
}

clv_status clv_gate_open(clv_nsm *nsm, const clv_policy *policy, clv_bytes baseline,
                         clv_bytes baseline_signature, clv_clock *clock, clv_gate **out,
                         clv_error *err)
{
    clv_auto_ptr(clv_gate) gate = calloc(1, sizeof *gate);
    if (gate == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the gate");
    gate->nsm = nsm;
    gate->policy = policy;
    gate->clock = clock;
    clv_ahead_init(&gate->ahead);
    CLV_TRY(seed_randomness(nsm, err));
    CLV_TRY(identify(gate, baseline, baseline_signature, err));
    *out = gate;
    gate = NULL;
    return CLV_OK;
}

clv_status clv_gate_review(clv_gate *gate, clv_bytes baseline, clv_bytes baseline_signature,
                           clv_error *err)
{
    uint8_t nonce[CLV_NONCE_SIZE];
    randombytes_buf(nonce, sizeof nonce);
    clv_binding ask = {.nonce = {true, CLV_BYTES(nonce, sizeof nonce)}};
    clv_auto(clv_proof) proof = CLV_PROOF_INIT;
    clv_identity now;
    CLV_TRY(clv_proof_of_self(gate, &ask, &proof, err));
    return clv_identity_establish(&proof.document, gate->policy, baseline, baseline_signature, &now,
                                  err);
}

void clv_gate_free(clv_gate **gate)
{
    if (*gate != NULL)
        clv_ahead_drop(&(*gate)->ahead);
    free(*gate);
    *gate = NULL;
}

const clv_identity *clv_gate_identity(const clv_gate *gate)
{
    return &gate->identity;
}

const clv_policy *clv_gate_policy(const clv_gate *gate)
{
    return gate->policy;
}

clv_status clv_gate_attest(clv_gate *gate, clv_optional nonce, clv_optional user_data,
                           clv_buf *document, clv_error *err)
{
    clv_binding ask = {.nonce = nonce, .user_data = user_data};
    clv_auto(clv_proof) proof = CLV_PROOF_INIT;
    CLV_TRY(clv_proof_of_self(gate, &ask, &proof, err));
    return clv_buf_append(document, clv_buf_bytes(&proof.bytes), err);
}

void clv_gate_read_metrics(clv_gate *gate, clv_gate_metrics *out)
{
    const clv_gate_counters *c = &gate->counters;
    *out = (clv_gate_metrics){.vouched = c->vouched,
                              .refused = c->refused,
                              .spent = c->spent,
                              .expired = c->expired,
                              .mismatched = c->mismatched,
                              .keys_pooled = c->keys_pooled,
                              .keys_made = c->keys_made,
                              .ahead_taken = c->ahead_taken,
                              .ahead_missed = c->ahead_missed};
    pthread_mutex_lock(&gate->ahead.lock);
    out->keys_ready = gate->ahead.key_count;
    out->ahead_ready = gate->ahead.entry_count;
    pthread_mutex_unlock(&gate->ahead.lock);
    pthread_mutex_lock(&gate->clock->lock);
    out->clock_backwards = gate->clock->backwards;
    out->clock_jumped = gate->clock->jumped;
    pthread_mutex_unlock(&gate->clock->lock);
}

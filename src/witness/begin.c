/* The first use, and fetching at the start what the first use made. */
#include <stdlib.h>

#include <sodium.h>

#include <base/log.h>
#include <kms/trust.h>
#include <witness/transport.h>
#include <witness/witness_state.h>

#define CERTIFICATE_MAX 16384

const clv_policy_witness *clv_witness_section(const clv_witness *witness)
{
    return &witness->options.policy->witness;
}

const clv_policy_key *clv_witness_key(const clv_witness *witness)
{
    return &witness->options.policy->key[clv_witness_section(witness)->key];
}

bool clv_witness_by_receipts(const clv_witness *witness)
{
    return clv_witness_section(witness)->mode == CLV_WITNESS_MODE_RECEIPTS;
}

clv_witness_metrics *clv_witness_counters(clv_witness *witness)
{
    return &witness->metrics;
}

/* Who takes a renewed certificate gets his turn however many read. No thread holds it twice. */
static void init_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t writers_first;
    pthread_rwlockattr_init(&writers_first);
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &writers_first);
    pthread_rwlockattr_destroy(&writers_first);
}

clv_status clv_witness_open(const clv_witness_options *options, clv_witness **out, clv_error *err)
{
    const clv_policy_witness *section = &options->policy->witness;
    if (options->relay_count != section->endpoint_count)
        return clv_fail(err, CLV_USAGE,
                        "--witness-relay: expected one for each of the policy's %zu endpoints, "
                        "found %zu",
                        section->endpoint_count, options->relay_count);
    clv_auto_ptr(clv_witness) witness = calloc(1, sizeof *witness);
    if (witness == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the witness");
    witness->options = *options;
    init_lock(&witness->lock);
    if (section->ca_file != NULL)
        CLV_TRY(clv_trust_load(section->ca_file, &witness->trust, err));
    *out = witness;
    witness = NULL;
    return CLV_OK;
}

void clv_witness_free(clv_witness **witness)
{
    if (*witness == NULL)
        return;
    clv_etcd_free(&(*witness)->etcd);
    clv_cluster_pair_drop(&(*witness)->found);
    clv_witness_keys_drop(&(*witness)->keys);
    X509_STORE_free((*witness)->trust);
    pthread_rwlock_destroy(&(*witness)->lock);
    free(*witness);
    *witness = NULL;
}

/* -- the parts, all with the lock held for writing --------------------------------------------- */

static clv_status fetch_keys(clv_witness *witness, clv_error *err)
{
    const clv_witness_store *store = &witness->options.store;
    clv_auto(clv_buf) blob = CLV_BUF_LIMITED(CLV_CIPHERTEXT_BLOB_MAX);
    clv_auto(clv_witness_keys) found = {.sign = NULL};
    if (witness->keys.sign != NULL)
        return CLV_OK;
    clv_status status = store->key_get(store->with, CLV_WITNESS_SECRET_NAME, &blob, err);
    if (status == CLV_STATE_NOT_FOUND)
        return clv_fail(err, CLV_WITNESS_UNINITIALISED,
                        "expected the fleet's witness secret, found that the parent has none: "
                        "`claviger witness init` has not been run, or the parent lost it");
    CLV_TRY(status);
    CLV_TRY(clv_witness_keys_open(witness->options.vault, clv_witness_key(witness),
                                  clv_buf_bytes(&blob), &found, err));
    witness->keys = found;
    found = (clv_witness_keys){.sign = NULL};
    return CLV_OK;
}

/* Only where somebody with the capability asked for the first use. Another enclave may be quicker:
 * then its secret is the secret. */
static clv_status fetch_or_make_keys(clv_witness *witness, clv_error *err)
{
    const clv_witness_store *store = &witness->options.store;
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    clv_status status = fetch_keys(witness, err);
    if (status != CLV_WITNESS_UNINITIALISED)
        return status;
    CLV_TRY(clv_witness_keys_make(witness->options.vault, clv_witness_key(witness), &blob, err));
    status = store->key_put(store->with, CLV_WITNESS_SECRET_NAME, clv_buf_bytes(&blob), err);
    if (status != CLV_OK && status != CLV_STATE_CONFLICT)
        return status;
    clv_log(CLV_LOG_WARNING, "witness.secret_made", NULL,
            "a new witness secret for the fleet: what was sealed under an older one's witness is "
            "refused from now on");
    return fetch_keys(witness, err);
}

static clv_status connect_with(clv_witness *witness, clv_bytes pem, clv_error *err)
{
    clv_auto(clv_x509) certificate = NULL;
    clv_etcd *etcd = NULL;
    CLV_TRY(clv_witness_certificate(&witness->keys, pem, &certificate, err));
    CLV_TRY(clv_witness_connect(clv_witness_section(witness), witness->trust,
                                witness->options.relay, witness->options.clock, certificate,
                                witness->keys.tls, &etcd, err));
    clv_etcd_free(&witness->etcd);
    witness->etcd = etcd;
    return CLV_OK;
}

static clv_status get_certificate(clv_witness *witness, uint64_t *generation, clv_buf *pem,
                                  clv_error *err)
{
    const clv_witness_store *store = &witness->options.store;
    return store->state_get(store->with, CLV_WITNESS_CERTIFICATE_NAME, generation, pem, err);
}

static clv_status fetch_cluster(clv_witness *witness, clv_error *err)
{
    clv_auto(clv_buf) pem = CLV_BUF_LIMITED(CERTIFICATE_MAX);
    uint64_t generation = 0;
    if (witness->etcd != NULL)
        return CLV_OK;
    clv_status status = get_certificate(witness, &generation, &pem, err);
    if (status == CLV_STATE_NOT_FOUND)
        return clv_fail(err, CLV_WITNESS_CERTIFICATE,
                        "expected the witness's client certificate, found that the parent has "
                        "none: see `claviger witness csr`");
    CLV_TRY(status);
    return connect_with(witness, clv_buf_bytes(&pem), err);
}

/* In mode receipts nothing is kept but the secret: the fleet is its public key. */
static clv_status init_of_receipts(clv_witness *witness, clv_error *err)
{
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(CLV_BYTES(witness->keys.verify, sizeof witness->keys.verify), digest, err));
    witness->init = (clv_record){.kind = CLV_RECORD_INIT};
    memcpy(witness->init.fleet, digest, sizeof witness->init.fleet);
    return CLV_OK;
}

static clv_status fetch_init(clv_witness *witness, clv_error *err)
{
    clv_auto(clv_cluster_pair) pair = CLV_CLUSTER_PAIR_INIT;
    clv_record init;
    if (clv_witness_by_receipts(witness))
        return init_of_receipts(witness, err);
    CLV_TRY(fetch_cluster(witness, err));
    CLV_TRY(clv_cluster_read_init(witness->etcd, &pair, err));
    if (pair.revision == 0)
        return clv_fail(err, CLV_WITNESS_UNINITIALISED,
                        "expected an init record at the witness, found none: `claviger witness "
                        "init` has not been run, or the cluster was emptied");
    CLV_TRY(clv_record_open(clv_buf_bytes(&pair.value), witness->keys.verify, &init, err));
    if (init.kind != CLV_RECORD_INIT)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected an init record, found another kind");
    witness->init = init;
    witness->found = pair;
    pair = (clv_cluster_pair)CLV_CLUSTER_PAIR_INIT;
    return CLV_OK;
}

static clv_status fetch_all(clv_witness *witness, clv_error *err)
{
    if (witness->ready)
        return CLV_OK;
    CLV_TRY(fetch_keys(witness, err));
    CLV_TRY(fetch_init(witness, err));
    witness->ready = true;
    return CLV_OK;
}

/*
 * Fetch, unless somebody tried in vain while this caller waited: then that failure is the answer.
 * So a witness out of reach costs each caller the time of one attempt, not of one for each caller
 * before it.
 */
static clv_status fetch_or_share(clv_witness *witness, unsigned long failures, clv_error *err)
{
    clv_error failure = {.code = CLV_OK};
    if (!witness->ready && atomic_load(&witness->failures) != failures) {
        if (err != NULL)
            *err = witness->failure;
        return witness->failure.code;
    }
    clv_status status = fetch_all(witness, &failure);
    if (status == CLV_OK)
        return CLV_OK;
    witness->failure = failure;
    atomic_fetch_add(&witness->failures, 1);
    if (err != NULL)
        *err = failure;
    return status;
}

clv_status clv_witness_hold(clv_witness *witness, clv_error *err)
{
    unsigned long failures = atomic_load(&witness->failures);
    for (;;) {
        pthread_rwlock_rdlock(&witness->lock);
        if (witness->ready)
            return CLV_OK;
        pthread_rwlock_unlock(&witness->lock);
        pthread_rwlock_wrlock(&witness->lock);
        clv_status status = fetch_or_share(witness, failures, err);
        pthread_rwlock_unlock(&witness->lock);
        CLV_TRY(status);
    }
}

void clv_witness_release(clv_witness *witness)
{
    pthread_rwlock_unlock(&witness->lock);
}

/* -- the first use ---------------------------------------------------------------------------- */

static clv_status only_etcd(const clv_witness *witness, clv_error *err)
{
    if (!clv_witness_by_receipts(witness))
        return CLV_OK;
    return clv_fail(err, CLV_WITNESS_NONE,
                    "expected a witness of mode etcd, which has a client key, found receipts");
}

clv_status clv_witness_request_certificate(clv_witness *witness, clv_buf *der, clv_error *err)
{
    CLV_TRY(only_etcd(witness, err));
    pthread_rwlock_wrlock(&witness->lock);
    clv_status status = fetch_or_make_keys(witness, err);
    if (status == CLV_OK)
        status = clv_witness_csr(&witness->keys, witness->options.policy->enclave, der, err);
    pthread_rwlock_unlock(&witness->lock);
    return status;
}

static clv_status keep_certificate(clv_witness *witness, clv_bytes pem, clv_error *err)
{
    const clv_witness_store *store = &witness->options.store;
    clv_auto(clv_buf) old = CLV_BUF_LIMITED(CERTIFICATE_MAX);
    uint64_t generation = 0;
    CLV_TRY(fetch_keys(witness, err));
    CLV_TRY(connect_with(witness, pem, err));
    clv_status status = get_certificate(witness, &generation, &old, err);
    if (status != CLV_OK && status != CLV_STATE_NOT_FOUND)
        return status;
    return store->state_put(store->with, CLV_WITNESS_CERTIFICATE_NAME, generation + 1, pem, err);
}

clv_status clv_witness_take_certificate(clv_witness *witness, clv_bytes pem, clv_error *err)
{
    CLV_TRY(only_etcd(witness, err));
    pthread_rwlock_wrlock(&witness->lock);
    clv_status status = keep_certificate(witness, pem, err);
    pthread_rwlock_unlock(&witness->lock);
    return status;
}

static clv_status begin(clv_witness *witness, const char *by, clv_buf *record, clv_error *err)
{
    clv_record init = {.kind = CLV_RECORD_INIT};
    snprintf(init.by, sizeof init.by, "%s", by);
    CLV_TRY(fetch_or_make_keys(witness, err));
    if (clv_witness_by_receipts(witness)) {
        CLV_TRY(init_of_receipts(witness, err));
        return clv_witness_sign(witness, &init, record, err);
    }
    CLV_TRY(fetch_cluster(witness, err));
    randombytes_buf(witness->init.fleet, sizeof witness->init.fleet);
    CLV_TRY(clv_witness_sign(witness, &init, record, err));
    CLV_TRY(clv_cluster_write_init(witness->etcd, clv_buf_bytes(record), err));
    return fetch_all(witness, err);
}

clv_status clv_witness_init(clv_witness *witness, const char *by, clv_buf *record, clv_error *err)
{
    pthread_rwlock_wrlock(&witness->lock);
    bool before = witness->ready && !clv_witness_by_receipts(witness);
    clv_status status =
        before ? clv_fail(err, CLV_WITNESS_INITIALISED,
                          "expected a witness without an init record, found that it has one")
               : begin(witness, by, record, err);
    pthread_rwlock_unlock(&witness->lock);
    return status;
}

json_t *clv_witness_status(clv_witness *witness)
{
    clv_error problem = {.code = CLV_OK};
    const char *mode = clv_witness_by_receipts(witness) ? "receipts" : "etcd";
    if (clv_witness_hold(witness, &problem) != CLV_OK)
        return json_pack("{s:s, s:b, s:s, s:s}", "mode", mode, "ready", 0, "code",
                         clv_status_slug(problem.code), "problem",
                         clv_utf8_valid(clv_bytes_of(problem.text))
                             ? problem.text
                             : clv_status_text(problem.code));
    json_t *answer = json_pack(
        "{s:s, s:b, s:o, s:o, s:I, s:s}", "mode", mode, "ready", 1, "fleet",
        clv_json_hex(CLV_BYTES(witness->init.fleet, sizeof witness->init.fleet)), "public_key",
        clv_json_hex(CLV_BYTES(witness->keys.verify, sizeof witness->keys.verify)),
        "initialised_ms", (json_int_t)witness->init.time_ms, "initialised_by", witness->init.by);
    clv_witness_release(witness);
    return answer;
}

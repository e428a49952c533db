#include <enclave/keys.h>
#include <enclave/states.h>

#include <stdio.h>

/* The request, and where its answer grows. */
typedef struct key_use {
    clv_request *request;
    const clv_key_ask *ask;
    json_t *answer;
} key_use;

static void key_use_drop(key_use *use)
{
    clv_json_drop(&use->answer);
}

static clv_status add_hex(json_t *object, const char *name, clv_bytes bytes, clv_error *err)
{
    return clv_response_member(object, name, clv_json_hex(bytes), err);
}

static size_t key_index(const clv_request *request)
{
    return (size_t)(request->key - request->enclave->policy->key);
}

static clv_status check_root(key_use *use, const clv_secret *root, clv_bytes blob, clv_error *err)
{
    uint8_t id[CLV_DERIVE_ROOT_ID];
    CLV_TRY(clv_derive_root_id(root, id, err));
    CLV_TRY(add_hex(use->answer, "root_id", CLV_BYTES(id, sizeof id), err));
    const char *found = json_string_value(json_object_get(use->answer, "root_id"));
    if (use->ask->root_id != NULL && strcmp(use->ask->root_id, found) != 0)
        return clv_fail(err, CLV_ROOT_CHANGED, "expected root %.32s, found %s", use->ask->root_id,
                        found);
    return clv_roots_check(&use->request->enclave->roots, key_index(use->request), blob, id, err);
}

static clv_status add_public(key_use *use, const clv_secret *key, clv_error *err)
{
    clv_auto(clv_buf) public_key = CLV_BUF_INIT;
    CLV_TRY(clv_derive_public(use->ask->derivation.algorithm, key, &public_key, err));
    return add_hex(use->answer, "public_key", clv_buf_bytes(&public_key), err);
}

static clv_status give_key(key_use *use, const clv_secret *key, clv_error *err)
{
    if (clv_derive_has_public(use->ask->derivation.algorithm))
        CLV_TRY(add_public(use, key, err));
    return add_hex(use->answer, "key", clv_secret_bytes(key), err);
}

static clv_status give_signature(key_use *use, const clv_secret *key, clv_error *err)
{
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    CLV_TRY(clv_derive_sign(use->ask->derivation.algorithm, key, use->ask->message,
                            use->ask->is_digest, &signature, err));
    CLV_TRY(add_public(use, key, err));
    return add_hex(use->answer, "signature", clv_buf_bytes(&signature), err);
}

static clv_status give_tag(key_use *use, const clv_secret *key, clv_error *err)
{
    clv_auto(clv_buf) tag = CLV_BUF_INIT;
    CLV_TRY(clv_derive_hmac(use->ask->derivation.algorithm, key, use->ask->message, &tag, err));
    return add_hex(use->answer, "tag", clv_buf_bytes(&tag), err);
}

static const struct {
    const char *verb;
    clv_status (*give)(key_use *use, const clv_secret *key, clv_error *err);
} use_table[] = {
    {"derive", give_key},
    {"public", add_public},
    {"sign", give_signature},
    {"hmac", give_tag},
};

/* A clv_key_use: the root is open only while this runs. */
static clv_status use_root(void *with, const clv_secret *root, const clv_key_facts *facts,
                           clv_error *err)
{
    key_use *use = with;
    clv_auto_ptr(clv_secret) key = NULL;
    CLV_TRY(check_root(use, root, facts->encrypted_key, err));
    CLV_TRY(clv_derive_key(root, &use->ask->derivation, facts->key->key_arn, facts->context, &key,
                           err));
    size_t i = 0;
    while (strcmp(use_table[i].verb, use->ask->verb) != 0)
        i++;
    return use_table[i].give(use, key, err);
}

static clv_status keep_blob(void *with, const clv_secret *root, const clv_key_facts *facts,
                            clv_error *err)
{
    (void)root;
    return clv_buf_append(with, facts->encrypted_key, err);
}

/* Another enclave of the fleet may have been quicker: then its root is the root. */
static clv_status make_root(clv_request *request, clv_error *err)
{
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    CLV_TRY(
        clv_vault_with_new_key(request->enclave->vault, request->key, NULL, keep_blob, &blob, err));
    clv_status status = clv_services_key_put(&request->enclave->services, request->key->name,
                                             clv_buf_bytes(&blob), err);
    return status == CLV_STATE_CONFLICT ? CLV_OK : status;
}

/* A second root is never made silently: only where the witness knows of no first one. */
static clv_status fetch_root(clv_request *request, const clv_seen *seen, clv_buf *blob,
                             clv_error *err)
{
    clv_services *services = &request->enclave->services;
    clv_status status = clv_services_key_get(services, request->key->name, blob, err);
    if (status != CLV_STATE_NOT_FOUND)
        return status;
    if (seen->known) {
        atomic_fetch_add(&clv_witness_counters(request->enclave->witness)->refused, 1);
        return clv_fail(err, CLV_WITNESS_ROLLBACK,
                        "key %s: expected the root that the witness saw, found that the store has "
                        "none",
                        request->key->name);
    }
    CLV_TRY(make_root(request, err));
    return clv_services_key_get(services, request->key->name, blob, err);
}

/* A clv_key_use: what the witness keeps of a root. */
static clv_status take_root_id(void *with, const clv_secret *root, const clv_key_facts *facts,
                               clv_error *err)
{
    clv_record *record = with;
    (void)facts;
    return clv_derive_root_id(root, record->digest, err);
}

/* Compare the root with the witness's, or have it committed. */
static clv_status witness_root(clv_request *request, clv_seen *seen, const clv_buf *blob,
                               clv_error *err)
{
    clv_enclave *enclave = request->enclave;
    clv_auto(clv_buf) receipt = CLV_BUF_INIT;
    clv_record next = {.kind = CLV_RECORD_ROOT, .generation = 1};
    snprintf(next.name, sizeof next.name, "%s", request->key->name);
    CLV_TRY(clv_vault_with_key(enclave->vault, request->key, NULL, clv_buf_bytes(blob),
                               take_root_id, &next, err));
    clv_status status = CLV_OK;
    if (!seen->known)
        status = clv_witness_commit(enclave->witness, seen, &next, &receipt, err);
    if (status != CLV_OK && status != CLV_STATE_CONFLICT)
        return status;
    if (memcmp(seen->record.digest, next.digest, sizeof next.digest) != 0) {
        atomic_fetch_add(&clv_witness_counters(enclave->witness)->refused, 1);
        return clv_fail(err, CLV_ROOT_CHANGED,
                        "key %s: expected the root that the witness saw, found that the parent "
                        "gave another",
                        request->key->name);
    }
    return clv_states_give_receipt(request, &receipt, err);
}

/* With a cluster it is asked once in the daemon's life, since a root never changes; a caller's
 * receipts are looked at each time. */
static clv_status find_root(clv_request *request, clv_buf *blob, clv_error *err)
{
    clv_witness *witness = request->enclave->witness;
    clv_presented presented;
    clv_seen seen = {.known = false};
    CLV_TRY(clv_roots_find(&request->enclave->roots, key_index(request), blob, err));
    if (blob->n > 0 && (witness == NULL || !clv_witness_by_receipts(witness)))
        return CLV_OK;
    if (witness != NULL) {
        CLV_TRY(clv_states_presented(request, &presented, err));
        CLV_TRY(clv_witness_see(witness, &presented, true, request->key->name, &seen, err));
    }
    if (blob->n == 0)
        CLV_TRY(fetch_root(request, &seen, blob, err));
    return witness != NULL ? witness_root(request, &seen, blob, err) : CLV_OK;
}

/* A key with a peer has its root in KMS alone; any other's is a data key that the parent keeps. */
static clv_status with_root(clv_request *request, key_use *use, clv_error *err)
{
    clv_auto(clv_buf) blob = CLV_BUF_INIT;
    clv_vault *vault = request->enclave->vault;
    if (request->key->peer.n > 0)
        return clv_vault_with_shared_secret(vault, request->key, use_root, use, err);
    CLV_TRY(find_root(request, &blob, err));
    return clv_vault_with_key(vault, request->key, NULL, clv_buf_bytes(&blob), use_root, use, err);
}

clv_status clv_keys_answer(clv_request *request, const clv_key_ask *ask, json_t **answer,
                           clv_error *err)
{
    clv_auto(key_use) use = {.request = request, .ask = ask};
    clv_caller caller = clv_agent_caller(&request->agent);
    CLV_TRY(clv_policy_allow(request->enclave->policy, &caller, ask->verb, request->key->name,
                             ask->derivation.path, err));
    use.answer = json_pack("{s:s, s:s, s:s, s:s}", "key_name", request->key->name, "algorithm",
                           clv_derive_algorithm_name(ask->derivation.algorithm), "purpose",
                           ask->derivation.purpose, "path", ask->derivation.path);
    if (use.answer == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an answer");
    CLV_TRY(with_root(request, &use, err));
    *answer = use.answer;
    use.answer = NULL;
    return CLV_OK;
}

#include <vault/vault.h>

#include <stdlib.h>

#define DATA_KEY_BYTES 32

struct clv_vault {
    clv_gate *gate;
    clv_kms *kms;
};

clv_status clv_vault_open(clv_gate *gate, clv_kms *kms, clv_vault **out, clv_error *err)
{
    clv_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the vault");
    vault->gate = gate;
    vault->kms = kms;
    *out = vault;
    return CLV_OK;
}

void clv_vault_free(clv_vault **vault)
{
    free(*vault);
    *vault = NULL;
}

clv_gate *clv_vault_gate(clv_vault *vault)
{
    return vault->gate;
}

static clv_status check_data_key(const clv_secret *data_key, clv_error *err)
{
    size_t n = data_key != NULL ? clv_secret_length(data_key) : 0;
    if (n != DATA_KEY_BYTES)
        return clv_fail(err, CLV_KMS_RESPONSE, "expected a data key of %d bytes, found %zu",
                        DATA_KEY_BYTES, n);
    return CLV_OK;
}

/* The extent of a key (R12): the answer's destructor wipes it on every way out. */
static clv_status open_and_use(clv_vault *vault, const clv_policy_key *key,
                               const clv_operation *operation, clv_key_use use, void *with,
                               clv_error *err)
{
    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    CLV_TRY(clv_kms_run(vault->kms, vault->gate, operation, &answer, NULL, err));
    CLV_TRY(check_data_key(answer.plaintext, err));
    bool new_key = operation->action == CLV_GENERATE_DATA_KEY;
    clv_key_facts facts = {
        .key = key,
        .context = &operation->context,
        .encrypted_key = clv_buf_bytes(new_key ? &answer.ciphertext_blob : &operation->ciphertext),
        .document = clv_buf_bytes(&answer.document),
    };
    return use(with, answer.plaintext, &facts, err);
}

clv_status clv_vault_with_new_key(clv_vault *vault, const clv_policy_key *key,
                                  const clv_context *extra, clv_key_use use, void *with,
                                  clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(clv_policy_resolve_generate(clv_gate_policy(vault->gate), key,
                                        clv_gate_identity(vault->gate), extra, DATA_KEY_BYTES,
                                        &operation, err));
    return open_and_use(vault, key, &operation, use, with, err);
}

clv_status clv_vault_with_key(clv_vault *vault, const clv_policy_key *key, const clv_context *extra,
                              clv_bytes encrypted_key, clv_key_use use, void *with, clv_error *err)
{
    clv_auto(clv_operation) operation = CLV_OPERATION_INIT;
    CLV_TRY(clv_policy_resolve_decrypt(clv_gate_policy(vault->gate), key,
                                       clv_gate_identity(vault->gate), extra, encrypted_key,
                                       &operation, err));
    return open_and_use(vault, key, &operation, use, with, err);
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
    return open_and_use(vault, key, &operation, use_without_key, &s, err);
}

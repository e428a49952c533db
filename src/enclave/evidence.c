#include <enclave/evidence.h>

void clv_evidence_init(clv_evidence *evidence)
{
    *evidence = (clv_evidence){.count = 0};
    pthread_mutex_init(&evidence->lock, NULL);
}

static void drop_entry(struct clv_evidence_entry *entry)
{
    clv_buf_drop(&entry->operation);
    clv_buf_drop(&entry->document);
}

void clv_evidence_drop(clv_evidence *evidence)
{
    for (size_t i = 0; i < CLV_EVIDENCE_MAX; i++)
        drop_entry(&evidence->entry[i]);
    pthread_mutex_destroy(&evidence->lock);
}

void clv_evidence_add(clv_evidence *evidence, const clv_policy_key *key, const char *action,
                      clv_bytes what, clv_bytes document)
{
    struct clv_evidence_entry made = {.action = action};
    memcpy(made.key, key->name, sizeof made.key);
    if (clv_buf_append(&made.operation, what, NULL) != CLV_OK ||
        clv_buf_append(&made.document, document, NULL) != CLV_OK) {
        drop_entry(&made);
        return;
    }
    pthread_mutex_lock(&evidence->lock);
    struct clv_evidence_entry *at = &evidence->entry[evidence->count++ % CLV_EVIDENCE_MAX];
    struct clv_evidence_entry old = *at;
    *at = made;
    pthread_mutex_unlock(&evidence->lock);
    drop_entry(&old);
}

void clv_evidence_keep(void *with, const clv_policy_key *key, const clv_operation *operation,
                       clv_bytes document)
{
    clv_auto(clv_buf) encoded = CLV_BUF_INIT;
    if (clv_operation_encode(operation, &encoded, NULL) == CLV_OK)
        clv_evidence_add(with, key, clv_kms_action_name(operation->action), clv_buf_bytes(&encoded),
                         document);
}

json_t *clv_evidence_json(clv_evidence *evidence, const clv_policy_key *key)
{
    json_t *all = json_array();
    pthread_mutex_lock(&evidence->lock);
    uint64_t first = evidence->count > CLV_EVIDENCE_MAX ? evidence->count - CLV_EVIDENCE_MAX : 0;
    for (uint64_t i = first; i < evidence->count; i++) {
        const struct clv_evidence_entry *at = &evidence->entry[i % CLV_EVIDENCE_MAX];
        if (strcmp(at->key, key->name) == 0)
            json_array_append_new(
                all,
                json_pack("{s:I, s:s, s:o, s:o}", "number", (json_int_t)(i + 1), "action",
                          at->action, "operation", clv_json_base64(clv_buf_bytes(&at->operation)),
                          "document", clv_json_base64(clv_buf_bytes(&at->document))));
    }
    pthread_mutex_unlock(&evidence->lock);
    return all;
}

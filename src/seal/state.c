#include <seal/state.h>

#include <stdio.h>

static bool name_character(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("._-/", c) != NULL);
}

clv_status clv_state_name_check(const char *name, clv_error *err)
{
    size_t n = strlen(name);
    if (n == 0 || n > CLV_STATE_NAME_MAX)
        return clv_fail(err, CLV_STATE_NAME, "expected a state's name of 1 to %d bytes, found %zu",
                        CLV_STATE_NAME_MAX, n);
    for (size_t i = 0; i < n; i++)
        if (!name_character(name[i]))
            return clv_fail(err, CLV_STATE_NAME,
                            "expected A-Z a-z 0-9 . _ - / in a state's name, found the byte 0x%02x",
                            (unsigned char)name[i]);
    if (name[0] == '/' || name[n - 1] == '/' || strstr(name, "//") != NULL ||
        strstr(name, "..") != NULL)
        return clv_fail(
            err, CLV_STATE_NAME,
            "expected a state's name without \"/\" at its ends, \"//\" or \"..\", found "
            "\"%s\"",
            name);
    return CLV_OK;
}

/* What tells one message from another of the same key. */
static clv_status message_context(const char *name, uint64_t generation, clv_context *out,
                                  clv_error *err)
{
    char decimal[24];
    CLV_TRY(clv_state_name_check(name, err));
    snprintf(decimal, sizeof decimal, "%llu", (unsigned long long)generation);
    CLV_TRY(clv_context_add(out, CLV_STATE_CONTEXT_NAME, name, err));
    return clv_context_add(out, CLV_STATE_CONTEXT_GENERATION, decimal, err);
}

typedef struct sealing {
    uint32_t frame_length;
    clv_sink sink;
    void *to;
    clv_sealer **out;
} sealing;

static clv_status start_sealing(void *with, const clv_secret *data_key, const clv_key_facts *facts,
                                clv_error *err)
{
    const sealing *s = with;
    return clv_sealer_new(data_key, facts->key->key_arn, facts->encrypted_key, facts->context,
                          s->frame_length, s->sink, s->to, s->out, err);
}

clv_status clv_state_sealer(clv_vault *vault, const clv_policy_key *key, const char *name,
                            uint64_t generation, uint32_t frame_length, clv_sink sink, void *to,
                            clv_sealer **out, clv_error *err)
{
    clv_auto(clv_context) extra = CLV_CONTEXT_INIT;
    sealing s = {frame_length, sink, to, out};
    CLV_TRY(message_context(name, generation, &extra, err));
    return clv_vault_with_new_key(vault, key, &extra, start_sealing, &s, err);
}

clv_status clv_state_seal(clv_vault *vault, const clv_policy_key *key, const char *name,
                          uint64_t generation, clv_bytes plaintext, clv_buf *sealed, clv_error *err)
{
    if (plaintext.n > CLV_STATE_SIZE_MAX)
        return clv_fail(err, CLV_TOO_LARGE, "expected a state of at most %zu bytes, found %zu",
                        CLV_STATE_SIZE_MAX, plaintext.n);
    clv_auto(clv_context) extra = CLV_CONTEXT_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    uint8_t *room;
    sealing s = {CLV_SEAL_FRAME, clv_sink_buf, sealed, &sealer};
    CLV_TRY(message_context(name, generation, &extra, err));
    CLV_TRY(clv_vault_with_sealing_key(vault, key, &extra, plaintext.n, start_sealing, &s, err));
    CLV_TRY(clv_buf_reserve(sealed, clv_sealer_room(sealer, plaintext.n), &room, err));
    CLV_TRY(clv_sealer_update(sealer, plaintext, err));
    return clv_sealer_finish(sealer, err);
}

/*
 * The one encrypted data key of the policy's key, in *out. Where the policy allows a message to
 * carry others too, those are never asked for, and the commitment keeps them from meaning another
 * plaintext.
 */
static clv_status find_data_key(const clv_seal_header *header, const clv_policy_key *key,
                                clv_bytes *out, clv_error *err)
{
    size_t found = 0;
    if (header->data_key_count > key->max_encrypted_data_keys)
        return clv_fail(err, CLV_SEAL_DATA_KEYS,
                        "expected at most %u encrypted data keys (the policy's "
                        "max_encrypted_data_keys), found %zu",
                        key->max_encrypted_data_keys, header->data_key_count);
    for (size_t i = 0; i < header->data_key_count; i++) {
        const clv_seal_data_key *one = &header->data_key[i];
        if (!clv_bytes_equal(one->provider, clv_bytes_of(CLV_SEAL_PROVIDER)) ||
            !clv_bytes_equal(one->key_arn, clv_bytes_of(key->key_arn)))
            continue;
        *out = one->encrypted;
        found++;
    }
    if (found != 1)
        return clv_fail(err, CLV_SEAL_KEY,
                        "expected one data key of %s and key %s in the message, found %zu",
                        CLV_SEAL_PROVIDER, key->key_arn, found);
    return CLV_OK;
}

/* The keys of a context are the policy's and public; the values found may be anybody's and are
 * not repeated, but for our own two. */
static clv_status differs(const clv_context *expected, const clv_context *found, const char *key,
                          clv_error *err)
{
    const char *wanted = clv_context_get(expected, key);
    const char *there = clv_context_get(found, key);
    if (wanted == NULL)
        return clv_fail(err, CLV_SEAL_CONTEXT,
                        "expected no \"%.64s\" in the message's context, found one", key);
    if (there == NULL)
        return clv_fail(err, CLV_SEAL_CONTEXT,
                        "expected \"%.64s\" in the message's context, found none", key);
    bool ours =
        strcmp(key, CLV_STATE_CONTEXT_NAME) == 0 || strcmp(key, CLV_STATE_CONTEXT_GENERATION) == 0;
    return clv_fail(err, CLV_SEAL_CONTEXT, "expected %.64s \"%.160s\", found %s%.160s%s", key,
                    wanted, ours ? "\"" : "another value", ours ? there : "", ours ? "\"" : "");
}

static clv_status check_context(const clv_context *expected, const clv_context *found,
                                clv_error *err)
{
    for (size_t i = 0; i < expected->count; i++) {
        const char *there = clv_context_get(found, expected->pair[i].key);
        if (there == NULL || strcmp(there, expected->pair[i].value) != 0)
            return differs(expected, found, expected->pair[i].key, err);
    }
    for (size_t i = 0; i < found->count; i++)
        if (clv_context_get(expected, found->pair[i].key) == NULL)
            return differs(expected, found, found->pair[i].key, err);
    return CLV_OK;
}

static clv_status expected_context(clv_vault *vault, const clv_policy_key *key,
                                   const clv_context *extra, clv_context *out, clv_error *err)
{
    clv_gate *gate = clv_vault_gate(vault);
    CLV_TRY(
        clv_policy_resolve_context(clv_gate_policy(gate), key, clv_gate_identity(gate), out, err));
    for (size_t i = 0; i < extra->count; i++)
        CLV_TRY(clv_context_add(out, extra->pair[i].key, extra->pair[i].value, err));
    return CLV_OK;
}

/*
 * The key as it was under the context that the message names: the policy's own, or one of its
 * predecessors'. The contexts in *as are borrowed. What differs from the policy's own is reported.
 */
static clv_status find_release(clv_vault *vault, const clv_policy_key *key,
                               const clv_context *extra, const clv_context *found,
                               clv_policy_key *as, bool *predecessor, clv_error *err)
{
    *as = *key;
    *predecessor = false;
    for (size_t i = 0; i <= key->predecessor_count; i++) {
        clv_auto(clv_context) expected = CLV_CONTEXT_INIT;
        if (i > 0)
            as->context = key->predecessor[i - 1];
        CLV_TRY(expected_context(vault, as, extra, &expected, err));
        if (check_context(&expected, found, i == 0 ? err : NULL) != CLV_OK)
            continue;
        *predecessor = i > 0;
        return CLV_OK;
    }
    return CLV_SEAL_CONTEXT;
}

typedef struct unsealing {
    const clv_seal_header *header;
    clv_sink sink;
    void *to;
    clv_unsealer **out;
} unsealing;

static clv_status start_unsealing(void *with, const clv_secret *data_key,
                                  const clv_key_facts *facts, clv_error *err)
{
    const unsealing *u = with;
    (void)facts;
    return clv_unsealer_new(data_key, u->header, u->sink, u->to, u->out, err);
}

/* size: of the whole message. */
static clv_status open_unsealer(clv_vault *vault, const clv_policy_key *key, const char *name,
                                uint64_t generation, uint64_t size, unsealing *u, bool *predecessor,
                                clv_error *err)
{
    clv_auto(clv_context) extra = CLV_CONTEXT_INIT;
    clv_policy_key as;
    clv_bytes encrypted_key;
    bool older;
    CLV_TRY(message_context(name, generation, &extra, err));
    CLV_TRY(find_data_key(u->header, key, &encrypted_key, err));
    CLV_TRY(find_release(vault, key, &extra, &u->header->context, &as, &older, err));
    CLV_TRY(clv_vault_with_unsealing_key(vault, &as, &extra, encrypted_key, size, start_unsealing,
                                         u, err));
    if (predecessor != NULL)
        *predecessor = older;
    return CLV_OK;
}

clv_status clv_state_unsealer(clv_vault *vault, const clv_policy_key *key, const char *name,
                              uint64_t generation, const clv_seal_header *header, clv_sink sink,
                              void *to, clv_unsealer **out, bool *predecessor, clv_error *err)
{
    unsealing u = {header, sink, to, out};
    return open_unsealer(vault, key, name, generation, CLV_VAULT_SIZE_UNKNOWN, &u, predecessor,
                         err);
}

clv_status clv_state_release(clv_vault *vault, const clv_policy_key *key, const char *name,
                             uint64_t generation, clv_bytes sealed, bool *predecessor,
                             clv_error *err)
{
    clv_auto(clv_seal_header) header = {0};
    clv_auto(clv_context) extra = CLV_CONTEXT_INIT;
    clv_policy_key as;
    clv_bytes encrypted_key;
    CLV_TRY(clv_seal_header_parse(sealed, &header, err));
    CLV_TRY(message_context(name, generation, &extra, err));
    CLV_TRY(find_data_key(&header, key, &encrypted_key, err));
    return find_release(vault, key, &extra, &header.context, &as, predecessor, err);
}

clv_status clv_state_unseal(clv_vault *vault, const clv_policy_key *key, const char *name,
                            uint64_t generation, clv_bytes sealed, clv_buf *plaintext,
                            bool *predecessor, clv_error *err)
{
    clv_auto(clv_seal_header) header = {0};
    clv_auto_ptr(clv_unsealer) unsealer = NULL;
    clv_auto(clv_buf) opened = CLV_BUF_LIMITED(CLV_STATE_SIZE_MAX);
    clv_bytes skipped;
    uint8_t *room;
    CLV_TRY(clv_seal_header_parse(sealed, &header, err));
    unsealing u = {&header, clv_sink_buf, &opened, &unsealer};
    CLV_TRY(open_unsealer(vault, key, name, generation, sealed.n, &u, predecessor, err));
    clv_cursor c = clv_cursor_of(sealed);
    CLV_TRY(clv_cursor_take(&c, header.length, &skipped, err));
    /* A body is longer than its plaintext. Growing would copy, and wipe what it copied from. */
    CLV_TRY(clv_buf_reserve(&opened, c.rest.n < CLV_STATE_SIZE_MAX ? c.rest.n : CLV_STATE_SIZE_MAX,
                            &room, err));
    CLV_TRY(clv_unsealer_update(unsealer, c.rest, err));
    CLV_TRY(clv_unsealer_finish(unsealer, err));
    if (plaintext->n > 0)
        return clv_buf_append(plaintext, clv_buf_bytes(&opened), err);
    clv_buf_drop(plaintext);
    *plaintext = opened;
    opened = (clv_buf)CLV_BUF_INIT;
    return CLV_OK;
}

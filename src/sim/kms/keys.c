/* Keys in the database. */
#include <sim/kms/call.h>

#include <stdio.h>
#include <stdlib.h>

#include <openssl/rand.h>

#define DAY_MS UINT64_C(86400000)

void clv_key_drop(clv_key *key)
{
    free(key->description);
    free(key->policy);
    *key = (clv_key)CLV_KEY_INIT;
}

clv_status clv_uuid(char out[CLV_KEY_ID_SIZE], clv_error *err)
{
    uint8_t b[16];
    if (RAND_bytes(b, sizeof b) != 1)
        return clv_fail(err, CLV_INTERNAL, "expected random bytes, found none");
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(out, CLV_KEY_ID_SIZE,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    return CLV_OK;
}

static clv_status read_row(clv_call *call, clv_rows *rows, clv_key *out, clv_error *err)
{
    snprintf(out->id, sizeof out->id, "%s", clv_rows_text(rows, 0));
    snprintf(out->account, sizeof out->account, "%s", clv_rows_text(rows, 1));
    snprintf(out->spec, sizeof out->spec, "%s", clv_rows_text(rows, 2));
    snprintf(out->usage, sizeof out->usage, "%s", clv_rows_text(rows, 3));
    snprintf(out->state, sizeof out->state, "%s", clv_rows_text(rows, 4));
    CLV_TRY(clv_text_dup(clv_bytes_of(clv_rows_text(rows, 5)), &out->description, err));
    CLV_TRY(clv_text_dup(clv_bytes_of(clv_rows_text(rows, 6)), &out->policy, err));
    out->created_ms = (uint64_t)clv_rows_integer(rows, 7);
    out->deletion_ms = (uint64_t)clv_rows_integer(rows, 8);
    out->rotation_days = clv_rows_integer(rows, 9);
    out->rotation_from_ms = (uint64_t)clv_rows_integer(rows, 10);
    out->version = (uint32_t)clv_rows_integer(rows, 11);
    snprintf(out->arn, sizeof out->arn, "arn:aws:kms:%s:%s:key/%s", call->server->region,
             out->account, out->id);
    return CLV_OK;
}

static clv_status find_row(clv_call *call, const char *id, clv_key *out, bool *found,
                           clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT id, account, spec, usage, state, description, policy, created_ms,"
                         " deletion_ms, rotation_days, rotation_from_ms, version"
                         " FROM keys WHERE id = ?",
                         "t", id));
    CLV_TRY(clv_rows_next(&rows, found, err));
    return *found ? read_row(call, &rows, out, err) : CLV_OK;
}

static clv_status add_material(clv_call *call, const char *id, uint32_t version, clv_bytes bytes,
                               bool manual, clv_error *err)
{
    return clv_db_run(call->server->db, NULL, err, "INSERT INTO material VALUES (?,?,?,?,?)",
                      "tibii", id, (int64_t)version, &bytes, (int64_t)call->now_ms,
                      (int64_t)manual);
}

/* Within a transaction. */
static clv_status add_version(clv_call *call, clv_key *key, bool manual, clv_error *err)
{
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    CLV_TRY(clv_material_generate(clv_key_spec_of(key->spec), &material, err));
    CLV_TRY(add_material(call, key->id, key->version + 1, clv_buf_bytes(&material), manual, err));
    key->version++;
    return clv_key_update(call, key, err);
}

clv_status clv_key_rotate(clv_call *call, clv_key *key, bool manual, clv_error *err)
{
    clv_auto(clv_transaction) transaction = {NULL};
    CLV_TRY(clv_db_begin(call->server->db, &transaction, err));
    CLV_TRY(add_version(call, key, manual, err));
    return clv_transaction_commit(&transaction, err);
}

static bool rotation_due(const clv_call *call, const clv_key *key)
{
    uint64_t period_ms = (uint64_t)key->rotation_days * DAY_MS;
    return key->rotation_days > 0 && strcmp(key->state, "Enabled") == 0 &&
           key->rotation_from_ms + period_ms <= call->now_ms;
}

/* Another call may have come first: the key is read again inside the transaction. */
static clv_status rotate_once(clv_call *call, clv_key *key, bool *found, clv_error *err)
{
    clv_auto(clv_transaction) transaction = {NULL};
    CLV_TRY(clv_db_begin(call->server->db, &transaction, err));
    char id[CLV_KEY_ID_SIZE];
    memcpy(id, key->id, sizeof id);
    clv_key_drop(key);
    CLV_TRY(find_row(call, id, key, found, err));
    if (*found && rotation_due(call, key)) {
        key->rotation_from_ms = call->now_ms;
        CLV_TRY(add_version(call, key, false, err));
    }
    return clv_transaction_commit(&transaction, err);
}

/* A deletion or a rotation whose time has come. */
static clv_status catch_up(clv_call *call, clv_key *key, bool *found, clv_error *err)
{
    if (key->deletion_ms != 0 && key->deletion_ms <= call->now_ms) {
        *found = false;
        return clv_db_run(call->server->db, NULL, err, "DELETE FROM keys WHERE id = ?", "t",
                          key->id);
    }
    return rotation_due(call, key) ? rotate_once(call, key, found, err) : CLV_OK;
}

clv_status clv_key_load(clv_call *call, const char *id, clv_key *out, bool *found, clv_error *err)
{
    clv_key_drop(out);
    CLV_TRY(find_row(call, id, out, found, err));
    return *found ? catch_up(call, out, found, err) : CLV_OK;
}

clv_status clv_key_insert(clv_call *call, const clv_key *key, clv_bytes material, clv_error *err)
{
    clv_auto(clv_transaction) transaction = {NULL};
    CLV_TRY(clv_db_begin(call->server->db, &transaction, err));
    CLV_TRY(clv_db_run(call->server->db, NULL, err,
                       "INSERT INTO keys VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", "tttttttiiiii", key->id,
                       key->account, key->spec, key->usage, key->state, key->description,
                       key->policy, (int64_t)key->created_ms, (int64_t)key->deletion_ms,
                       key->rotation_days, (int64_t)key->rotation_from_ms, (int64_t)key->version));
    CLV_TRY(add_material(call, key->id, key->version, material, false, err));
    return clv_transaction_commit(&transaction, err);
}

clv_status clv_key_update(clv_call *call, const clv_key *key, clv_error *err)
{
    return clv_db_run(call->server->db, NULL, err,
                      "UPDATE keys SET state = ?, description = ?, policy = ?, deletion_ms = ?,"
                      " rotation_days = ?, rotation_from_ms = ?, version = ? WHERE id = ?",
                      "tttiiiit", key->state, key->description, key->policy,
                      (int64_t)key->deletion_ms, key->rotation_days, (int64_t)key->rotation_from_ms,
                      (int64_t)key->version, key->id);
}

clv_status clv_key_material(clv_call *call, const char *id, uint32_t version, clv_buf *out,
                            clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool found;
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT bytes FROM material WHERE key_id = ? AND version = ?", "ti", id,
                         (int64_t)version));
    CLV_TRY(clv_rows_next(&rows, &found, err));
    if (!found)
        return clv_fail(err, CLV_KMS_INVALID_CIPHERTEXT, "the key has no material of version %u",
                        version);
    return clv_buf_append(out, clv_rows_blob(&rows, 0), err);
}

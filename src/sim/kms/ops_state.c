/* What becomes of a key: enabled, disabled, deleted, rotated, described anew. */
#include <sim/kms/ops.h>

#include <stdio.h>

#define DAY_MS               UINT64_C(86400000)
#define DESCRIPTION_MAX      8192
#define WINDOW_MIN           7
#define WINDOW_MAX           30
#define PERIOD_MIN           90
#define PERIOD_MAX           2560
#define PERIOD_DEFAULT       365
#define ON_DEMAND_MAX        25
#define ROTATIONS_PAGE       1000
#define ROTATIONS_PAGE_USUAL 100

/* The key that KeyId names, for an operation that manages it. */
static clv_status managed_key(clv_call *call, bool pending, clv_key *out, clv_error *err)
{
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    const clv_key_need need = {.any_state = true, .pending = pending};
    return clv_call_key(call, id, &need, out, err);
}

static clv_status set_state(clv_call *call, clv_key *key, const char *state, clv_error *err)
{
    snprintf(key->state, sizeof key->state, "%s", state);
    return clv_key_update(call, key, err);
}

clv_status clv_op_enable_key(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    CLV_TRY(managed_key(call, false, &key, err));
    return set_state(call, &key, "Enabled", err);
}

clv_status clv_op_disable_key(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    CLV_TRY(managed_key(call, false, &key, err));
    return set_state(call, &key, "Disabled", err);
}

clv_status clv_op_update_key_description(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *text = json_string_value(json_object_get(call->parameters, "Description"));
    if (text == NULL || strlen(text) > DESCRIPTION_MAX)
        return clv_param_refuse(err, "Description", NULL, "Member must not be null");
    CLV_TRY(managed_key(call, false, &key, err));
    clv_text_drop(&key.description);
    CLV_TRY(clv_text_dup(clv_bytes_of(text), &key.description, err));
    return clv_key_update(call, &key, err);
}

clv_status clv_op_schedule_key_deletion(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    int64_t days = WINDOW_MAX;
    char text[16];
    CLV_TRY(clv_param_integer(call, "PendingWindowInDays", WINDOW_MIN, WINDOW_MAX, &days, err));
    snprintf(text, sizeof text, "%d", (int)days);
    CLV_TRY(clv_call_condition(call, "kms:ScheduleKeyDeletionPendingWindowInDays", text, err));
    CLV_TRY(managed_key(call, false, &key, err));
    key.deletion_ms = call->now_ms + (uint64_t)days * DAY_MS;
    CLV_TRY(set_state(call, &key, "PendingDeletion", err));
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    CLV_TRY(clv_answer_text(call, "KeyState", key.state, err));
    CLV_TRY(clv_answer_json(call, "PendingWindowInDays", json_integer(days), err));
    return clv_answer_json(call, "DeletionDate", clv_timestamp(key.deletion_ms), err);
}

clv_status clv_op_cancel_key_deletion(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    CLV_TRY(managed_key(call, true, &key, err));
    if (key.deletion_ms == 0)
        return clv_fail(err, CLV_KMS_INVALID_STATE, "%s is not pending deletion.", key.arn);
    key.deletion_ms = 0;
    CLV_TRY(set_state(call, &key, "Disabled", err));
    return clv_answer_text(call, "KeyId", key.arn, err);
}

static clv_status rotating_key(clv_call *call, const clv_key_need *need, clv_key *out,
                               clv_error *err)
{
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    CLV_TRY(clv_call_key(call, id, need, out, err));
    if (clv_key_spec_of(out->spec)->family != CLV_FAMILY_SYMMETRIC)
        return clv_fail(err, CLV_KMS_UNSUPPORTED, "%s key spec %s cannot be rotated.", out->arn,
                        out->spec);
    return CLV_OK;
}

clv_status clv_op_enable_key_rotation(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    int64_t days = PERIOD_DEFAULT;
    char text[16];
    const clv_key_need need = {.any_state = false};
    CLV_TRY(clv_param_integer(call, "RotationPeriodInDays", PERIOD_MIN, PERIOD_MAX, &days, err));
    snprintf(text, sizeof text, "%d", (int)days);
    CLV_TRY(clv_call_condition(call, "kms:RotationPeriodInDays", text, err));
    CLV_TRY(rotating_key(call, &need, &key, err));
    if (key.rotation_days == 0)
        key.rotation_from_ms = call->now_ms;
    key.rotation_days = days;
    return clv_key_update(call, &key, err);
}

clv_status clv_op_disable_key_rotation(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const clv_key_need need = {.any_state = false};
    CLV_TRY(rotating_key(call, &need, &key, err));
    key.rotation_days = 0;
    return clv_key_update(call, &key, err);
}

clv_status clv_op_get_key_rotation_status(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    CLV_TRY(managed_key(call, true, &key, err));
    bool on = key.rotation_days > 0;
    CLV_TRY(clv_answer_text(call, "KeyId", key.arn, err));
    CLV_TRY(clv_answer_json(call, "KeyRotationEnabled", json_boolean(on), err));
    if (!on)
        return CLV_OK;
    CLV_TRY(clv_answer_json(call, "RotationPeriodInDays", json_integer(key.rotation_days), err));
    return clv_answer_json(
        call, "NextRotationDate",
        clv_timestamp(key.rotation_from_ms + (uint64_t)key.rotation_days * DAY_MS), err);
}

static clv_status count_on_demand(clv_call *call, const clv_key *key, int64_t *out, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    bool more;
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT count(*) FROM material WHERE key_id = ? AND manual = 1", "t",
                         key->id));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    *out = more ? clv_rows_integer(&rows, 0) : 0;
    return CLV_OK;
}

clv_status clv_op_rotate_key_on_demand(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const clv_key_need need = {.any_state = false};
    int64_t done;
    CLV_TRY(rotating_key(call, &need, &key, err));
    CLV_TRY(count_on_demand(call, &key, &done, err));
    if (done >= ON_DEMAND_MAX)
        return clv_fail(err, CLV_KMS_LIMIT, "%s was rotated on demand %d times already.", key.arn,
                        ON_DEMAND_MAX);
    CLV_TRY(clv_key_rotate(call, &key, true, err));
    return clv_answer_text(call, "KeyId", key.arn, err);
}

clv_status clv_op_list_key_rotations(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    clv_page page;
    bool more;
    CLV_TRY(managed_key(call, true, &key, err));
    CLV_TRY(clv_page_start(call, ROTATIONS_PAGE, ROTATIONS_PAGE_USUAL, "Rotations", &page, err));
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT printf('%010d', version), created_ms, manual FROM material"
                         " WHERE key_id = ?1 AND version > 1 AND printf('%010d', version) > ?2"
                         " ORDER BY version LIMIT ?3",
                         "tti", key.id, page.after, page.limit + 1));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more && clv_page_has_room(&page)) {
        json_t *row = json_pack("{s:s, s:o, s:s}", "KeyId", key.arn, "RotationDate",
                                clv_timestamp((uint64_t)clv_rows_integer(&rows, 1)), "RotationType",
                                clv_rows_integer(&rows, 2) != 0 ? "ON_DEMAND" : "AUTOMATIC");
        CLV_TRY(clv_page_add(&page, row, clv_rows_text(&rows, 0), err));
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return clv_page_end(&page, more, err);
}

#include <sim/kms/audit.h>

#include <ctype.h>
#include <stdio.h>

#include <base/clock.h>
#include <base/json.h>
#include <base/time.h>

#define RECORDS_MAX 100000
/* A record holds most of a request's body, and little else. */
#define RECORD_MAX ((size_t)CLV_REQUEST_BODY_MAX * 2)

/* Parameters that CloudTrail leaves out: content, and the document that `recipient` sums up. */
static bool left_out(const char *name)
{
    static const char *const names[] = {"CiphertextBlob", "Mac",       "Message",  "Plaintext",
                                        "PublicKey",      "Recipient", "Signature"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

static json_t *request_parameters(const clv_call *call)
{
    if (json_object_size(call->parameters) == 0)
        return json_null();
    json_t *out = json_object();
    for (void *i = json_object_iter(call->parameters); i != NULL;
         i = json_object_iter_next(call->parameters, i)) {
        char name[128];
        snprintf(name, sizeof name, "%s", json_object_iter_key(i));
        if (left_out(name))
            continue;
        name[0] = (char)tolower((unsigned char)name[0]);
        json_object_set(out, name, json_object_iter_value(i));
    }
    return out;
}

static json_t *user_identity(const clv_caller *caller)
{
    if (caller->arn[0] == '\0')
        return json_pack("{s:s}", "type", "Unknown");
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "type", caller->type, "arn", caller->arn,
                     "accountId", caller->account, "accessKeyId", caller->access_key, "userName",
                     caller->name);
}

static json_t *resources(const clv_call *call)
{
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(call->resources); i++) {
        const char *arn = json_string_value(json_array_get(call->resources, i));
        char account[CLV_ACCOUNT_SIZE] = "";
        clv_arn_account(arn, account);
        json_array_append_new(out, json_pack("{s:s, s:s, s:s}", "accountId", account, "type",
                                             "AWS::KMS::Key", "ARN", arn));
    }
    return out;
}

static json_t *event_of(const clv_audit_note *note)
{
    const clv_call *call = note->call;
    char event_id[CLV_KEY_ID_SIZE] = "", time[CLV_TIME_TEXT_SIZE];
    if (clv_uuid(event_id, NULL) != CLV_OK)
        event_id[0] = '\0';
    clv_time_text(call->now_ms, time);
    bool reads = call->operation != NULL && (call->operation->flags & CLV_OP_READS) != 0;
    json_t *event = json_pack(
        "{s:s, s:o, s:s, s:s, s:o, s:s, s:s, s:o, s:o, s:n, s:s, s:s, s:b, s:o, s:s, s:b, s:s}",
        "eventVersion", "1.08", "userIdentity", user_identity(&call->caller), "eventTime", time,
        "eventSource", "kms.amazonaws.com", "eventName", clv_lossy_text(note->event_name),
        "awsRegion", call->server->region, "sourceIPAddress", note->source_ip, "userAgent",
        clv_lossy_text(note->user_agent), "requestParameters", request_parameters(call),
        "responseElements", "requestID", call->request_id, "eventID", event_id, "readOnly", reads,
        "resources", resources(call), "eventType", "AwsApiCall", "managementEvent", 1,
        "eventCategory", "Management");
    json_t *recipient = clv_recipient_audit(&call->recipient);
    if (recipient != NULL)
        json_object_set_new(event, "additionalEventData",
                            json_pack("{s:o}", "recipient", recipient));
    if (note->error_code != NULL) {
        json_object_set_new(event, "errorCode", json_string(note->error_code));
        json_object_set_new(event, "errorMessage", clv_lossy_text(note->error_message));
    }
    return event;
}

clv_status clv_audit_append(clv_db *db, const clv_audit_note *note, clv_error *err)
{
    clv_auto(clv_json) event = event_of(note);
    clv_auto(clv_buf) line = CLV_BUF_INIT;
    const char *text;
    if (event == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for an audit record, found none");
    CLV_TRY(clv_json_append(&line, event, err));
    CLV_TRY(clv_buf_text(&line, &text, err));
    return clv_db_run(db, NULL, err, "INSERT INTO audit (event) VALUES (?)", "t", text);
}

clv_status clv_audit_read(clv_db *db, int64_t after, json_t **out, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    clv_auto(clv_json) list = json_array();
    bool more;
    CLV_TRY(clv_db_query(db, &rows, err,
                         "SELECT id, event FROM audit WHERE id > ? ORDER BY id LIMIT ?", "ii",
                         after, (int64_t)RECORDS_MAX));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more) {
        clv_auto(clv_json) event = NULL;
        CLV_TRY(clv_json_parse(clv_bytes_of(clv_rows_text(&rows, 1)), RECORD_MAX, &event, err));
        json_object_set_new(event, "sequence", json_integer(clv_rows_integer(&rows, 0)));
        json_array_append(list, event);
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    *out = list;
    list = NULL;
    return CLV_OK;
}

#include <sim/kms/dispatch.h>

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <sim/kms/audit.h>
#include <sim/kms/caller.h>
#include <sim/kms/faults.h>

#define TARGET_PREFIX "TrentService."
#define MEDIA_TYPE    "application/x-amz-json-1.1"

uint64_t clv_kms_now(const clv_kms_server *server)
{
    return (uint64_t)((int64_t)clv_wall_ms() + atomic_load(&server->clock_offset_ms));
}

void clv_reply_drop(clv_reply *reply)
{
    clv_buf_drop(&reply->body);
}

void clv_call_drop(clv_call *call)
{
    clv_caller_drop(&call->caller);
    json_decref(call->parameters);
    json_decref(call->answer);
    json_decref(call->conditions);
    json_decref(call->resources);
    clv_buf_drop(&call->recipient.bytes);
    *call = (clv_call){.server = NULL};
}

/* HTTP statuses other than 400 (AWS KMS API reference, "Common errors" and each operation). */
static unsigned status_of(clv_status code)
{
    switch (code) {
    case CLV_OK:
        return 200;
    case CLV_KMS_INTERNAL:
    case CLV_KMS_KEY_UNAVAILABLE:
        return 500;
    case CLV_KMS_DEPENDENCY_TIMEOUT:
    case CLV_KMS_SERVICE_UNAVAILABLE:
        return 503;
    default:
        return clv_status_exit(code) == CLV_EXIT_KMS ? 400 : 500;
    }
}

/* The name that KMS would use: what is not of KMS is a fault inside it. */
static const char *type_of(clv_status code)
{
    return clv_status_slug(clv_status_exit(code) == CLV_EXIT_KMS ? code : CLV_KMS_INTERNAL);
}

/* KMS writes AccessDeniedException's sentence as "Message", all others as "message", and none at
 * all for InvalidCiphertextException, UnknownOperationException and SerializationException. */
static json_t *error_body(clv_status code, const char *sentence)
{
    json_t *body = json_pack("{s:s}", "__type", type_of(code));
    bool silent = code == CLV_KMS_INVALID_CIPHERTEXT || code == CLV_KMS_UNKNOWN_OPERATION ||
                  code == CLV_KMS_SERIALIZATION;
    if (!silent)
        json_object_set_new(body, code == CLV_KMS_ACCESS_DENIED ? "Message" : "message",
                            clv_lossy_text(sentence));
    return body;
}

static clv_status find_operation(const clv_http_request *request, const char **name,
                                 const clv_kms_operation **out, clv_error *err)
{
    const char *target = clv_http_header_get(request, "X-Amz-Target");
    const char *type = clv_http_header_get(request, "Content-Type");
    *name = "Unknown";
    *out = NULL;
    if (target != NULL && strncmp(target, TARGET_PREFIX, strlen(TARGET_PREFIX)) == 0) {
        *name = target + strlen(TARGET_PREFIX);
        *out = clv_kms_operation_of(*name);
    }
    bool ours = strcmp(request->method, "POST") == 0 && strcmp(request->target, "/") == 0 &&
                type != NULL && strncasecmp(type, MEDIA_TYPE, strlen(MEDIA_TYPE)) == 0;
    if (!ours || *out == NULL)
        return clv_fail(err, CLV_KMS_UNKNOWN_OPERATION,
                        "expected POST / of " MEDIA_TYPE " with the X-Amz-Target of an operation, "
                        "found %.16s %.64s with \"%.64s\"",
                        request->method, request->target, target != NULL ? target : "");
    return CLV_OK;
}

static clv_status prepare(clv_call *call, clv_error *err)
{
    call->answer = json_object();
    call->conditions = json_object();
    call->resources = json_array();
    if (call->answer == NULL || call->conditions == NULL || call->resources == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a call, found none");
    return CLV_OK;
}

/* aws:PrincipalType names the kinds otherwise than userIdentity.type does. */
static const char *principal_type(const clv_caller *caller)
{
    if (strcmp(caller->type, "IAMUser") == 0)
        return "User";
    return strcmp(caller->type, "Root") == 0 ? "Account" : caller->type;
}

/* Global condition keys (IAM user guide, "AWS global condition context keys"). */
static clv_status add_global_conditions(clv_call *call, const char *source_ip, clv_error *err)
{
    const struct {
        const char *key, *value;
    } rows[] = {
        {"kms:CallerAccount", call->caller.account},
        {"aws:PrincipalAccount", call->caller.account},
        {"aws:PrincipalArn", call->caller.principal_arn},
        {"aws:PrincipalType", principal_type(&call->caller)},
        {"aws:username", strcmp(call->caller.type, "IAMUser") == 0 ? call->caller.name : NULL},
        {"aws:RequestedRegion", call->server->region},
        {"aws:SecureTransport", "true"},
        {"aws:SourceIp", source_ip},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].value != NULL)
            CLV_TRY(clv_call_condition(call, rows[i].key, rows[i].value, err));
    }
    return CLV_OK;
}

static clv_status read_parameters(clv_call *call, clv_bytes body, clv_error *err)
{
    clv_error why = {0};
    if (clv_json_parse(body, CLV_REQUEST_BODY_MAX, &call->parameters, &why) != CLV_OK ||
        !json_is_object(call->parameters))
        return clv_fail(err, CLV_KMS_SERIALIZATION, "the body is not a JSON object: %.256s",
                        why.text);
    return clv_param_boolean(call, "DryRun", &call->dry_run, err);
}

static void wait_ms(int64_t ms)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static clv_status fault_error(const clv_fault *fault, clv_error *err)
{
    clv_status code = clv_status_of_slug(fault->error);
    return clv_fail(err, code != CLV_STATUS_COUNT ? code : CLV_KMS_INTERNAL, "%s",
                    fault->message[0] != '\0' ? fault->message
                                              : "A fault asked for by its operator");
}

/* Members of the rule over those of the answer; null removes one. */
static void overlay(json_t *answer, json_t *over)
{
    for (void *i = json_object_iter(over); i != NULL; i = json_object_iter_next(over, i)) {
        if (json_is_null(json_object_iter_value(i)))
            json_object_del(answer, json_object_iter_key(i));
        else
            json_object_set(answer, json_object_iter_key(i), json_object_iter_value(i));
    }
}

static clv_status run(clv_call *call, clv_error *err)
{
    bool changes = (call->operation->flags & CLV_OP_CHANGES) != 0;
    if ((call->operation->flags & CLV_OP_RECIPIENT) != 0)
        CLV_TRY(clv_recipient_read(call, err));
    if (changes)
        pthread_mutex_lock(&call->server->changes);
    clv_status status = call->operation->run(call, err);
    if (changes)
        pthread_mutex_unlock(&call->server->changes);
    return status;
}

static clv_status authenticate_and_run(clv_call *call, const clv_http_request *request,
                                       const char *source_ip, clv_error *err)
{
    CLV_TRY(clv_caller_authenticate(call->server, request, call->now_ms, &call->caller, err));
    CLV_TRY(add_global_conditions(call, source_ip, err));
    CLV_TRY(read_parameters(call, request->body, err));
    return run(call, err);
}

static clv_status serve(clv_call *call, const clv_http_request *request, const char *source_ip,
                        const char **name, clv_fault *fault, clv_error *err)
{
    CLV_TRY(prepare(call, err));
    CLV_TRY(find_operation(request, name, &call->operation, err));
    bool hit = clv_faults_take(call->server->faults, call->operation->name, fault);
    if (hit)
        wait_ms(fault->latency_ms);
    bool fails = hit && (fault->drop || fault->error[0] != '\0' || fault->status != 0);
    if (fails && !fault->after)
        return fault_error(fault, err);
    CLV_TRY(authenticate_and_run(call, request, source_ip, err));
    if (hit)
        overlay(call->answer, fault->answer);
    return fails ? fault_error(fault, err) : CLV_OK;
}

static void write_reply(const clv_call *call, clv_status status, const clv_error *found,
                        clv_reply *reply)
{
    clv_auto(clv_json) body = NULL;
    if (status != CLV_OK)
        body = error_body(status, found->text);
    else if (json_object_size(call->answer) > 0)
        body = json_incref(call->answer);
    reply->status = status_of(status);
    if (body != NULL && clv_json_append(&reply->body, body, NULL) != CLV_OK)
        reply->status = status_of(CLV_KMS_INTERNAL);
}

void clv_kms_handle(clv_kms_server *server, const clv_http_request *request, const char *source_ip,
                    clv_reply *reply)
{
    clv_auto(clv_call) call = {.server = server, .now_ms = clv_kms_now(server)};
    clv_auto(clv_fault) fault = {.count = 0};
    clv_error found = {0};
    const char *name = "Unknown";
    clv_status status = clv_uuid(call.request_id, &found);
    if (status == CLV_OK)
        status = serve(&call, request, source_ip, &name, &fault, &found);
    memcpy(reply->request_id, call.request_id, sizeof reply->request_id);
    write_reply(&call, status, &found, reply);
    if (fault.status != 0)
        reply->status = fault.status;
    if (fault.drop)
        reply->status = 0;

    const char *agent = clv_http_header_get(request, "User-Agent");
    const clv_audit_note note = {&call,
                                 name,
                                 source_ip,
                                 agent != NULL ? agent : "",
                                 status != CLV_OK ? type_of(status) : NULL,
                                 found.text};
    clv_error audit = {0};
    if (clv_audit_append(server->db, &note, &audit) != CLV_OK)
        clv_log_failure(CLV_LOG_ERROR, "kms.audit", NULL, &audit);
    if (status_of(status) == 500)
        clv_log_failure(CLV_LOG_ERROR, "kms.internal", NULL, &found);
}

#include <sim/kms/faults.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/json.h>

struct clv_faults {
    pthread_mutex_t lock; /* protects what follows */
    clv_fault rule[CLV_FAULT_RULES_MAX];
    size_t count;
};

void clv_fault_drop(clv_fault *fault)
{
    json_decref(fault->answer);
    json_decref(fault->description);
    *fault = (clv_fault){.count = 0};
}

clv_faults *clv_faults_new(void)
{
    clv_faults *faults = calloc(1, sizeof *faults);
    if (faults != NULL)
        pthread_mutex_init(&faults->lock, NULL);
    return faults;
}

void clv_faults_free(clv_faults **faults)
{
    if (*faults == NULL)
        return;
    clv_faults_clear(*faults);
    pthread_mutex_destroy(&(*faults)->lock);
    free(*faults);
    *faults = NULL;
}

static clv_status read_texts(clv_json_reader *r, clv_fault *out, clv_error *err)
{
    const char *operation = NULL, *error = NULL, *message = NULL;
    CLV_TRY(clv_json_text(r, "operation", &operation, err));
    CLV_TRY(clv_json_text(r, "error", &error, err));
    CLV_TRY(clv_json_text(r, "message", &message, err));
    if (operation != NULL && strcmp(operation, "*") != 0 && clv_kms_operation_of(operation) == NULL)
        return clv_fail(err, CLV_JSON_VALUE, "operation: \"%.64s\" is not an operation", operation);
    if (error != NULL && clv_status_exit(clv_status_of_slug(error)) != CLV_EXIT_KMS)
        return clv_fail(err, CLV_JSON_VALUE, "error: \"%.64s\" is not an error of KMS", error);
    snprintf(out->operation, sizeof out->operation, "%s", operation != NULL ? operation : "*");
    snprintf(out->error, sizeof out->error, "%s", error != NULL ? error : "");
    snprintf(out->message, sizeof out->message, "%s", message != NULL ? message : "");
    return CLV_OK;
}

static clv_status read_rule(const json_t *json, clv_fault *out, clv_error *err)
{
    clv_json_reader r;
    int64_t status = 0;
    json_t *answer = NULL;
    out->count = -1;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(read_texts(&r, out, err));
    CLV_TRY(clv_json_integer(&r, "status", 400, 599, &status, err));
    CLV_TRY(clv_json_integer(&r, "latency_ms", 0, CLV_FAULT_LATENCY_MAX_MS, &out->latency_ms, err));
    CLV_TRY(clv_json_integer(&r, "count", 1, 1000000, &out->count, err));
    CLV_TRY(clv_json_boolean(&r, "drop", &out->drop, err));
    CLV_TRY(clv_json_boolean(&r, "after", &out->after, err));
    CLV_TRY(clv_json_value(&r, "answer", &answer, err));
    CLV_TRY(clv_json_done(&r, err));
    if (answer != NULL && !json_is_object(answer))
        return clv_fail(err, CLV_JSON_TYPE, "answer: expected an object, found %s",
                        clv_json_type_name(answer));
    out->status = (unsigned)status;
    out->answer = json_incref(answer);
    out->description = json_deep_copy(json);
    return CLV_OK;
}

clv_status clv_faults_add(clv_faults *faults, const json_t *rule, clv_error *err)
{
    clv_auto(clv_fault) fault = {.count = 0};
    CLV_TRY(read_rule(rule, &fault, err));
    pthread_mutex_lock(&faults->lock);
    bool room = faults->count < CLV_FAULT_RULES_MAX;
    if (room) {
        faults->rule[faults->count++] = fault;
        fault = (clv_fault){.count = 0};
    }
    pthread_mutex_unlock(&faults->lock);
    return room ? CLV_OK
                : clv_fail(err, CLV_TOO_LARGE, "expected at most %d rules", CLV_FAULT_RULES_MAX);
}

void clv_faults_clear(clv_faults *faults)
{
    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; i < faults->count; i++)
        clv_fault_drop(&faults->rule[i]);
    faults->count = 0;
    pthread_mutex_unlock(&faults->lock);
}

json_t *clv_faults_list(clv_faults *faults)
{
    json_t *list = json_array();
    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; i < faults->count; i++) {
        json_t *copy = json_deep_copy(faults->rule[i].description);
        if (faults->rule[i].count > 0)
            json_object_set_new(copy, "count", json_integer(faults->rule[i].count));
        json_array_append_new(list, copy);
    }
    pthread_mutex_unlock(&faults->lock);
    return list;
}

static void remove_rule(clv_faults *faults, size_t i)
{
    clv_fault_drop(&faults->rule[i]);
    memmove(&faults->rule[i], &faults->rule[i + 1], (faults->count - i - 1) * sizeof(clv_fault));
    faults->count--;
}

/* jansson counts references without a lock: a rule that is hit is copied whole. */
static void copy_rule(const clv_fault *from, clv_fault *out)
{
    *out = *from;
    out->answer = from->answer != NULL ? json_deep_copy(from->answer) : NULL;
    out->description = NULL;
}

bool clv_faults_take(clv_faults *faults, const char *operation, clv_fault *out)
{
    bool hit = false;
    pthread_mutex_lock(&faults->lock);
    for (size_t i = 0; i < faults->count && !hit; i++) {
        clv_fault *rule = &faults->rule[i];
        hit = strcmp(rule->operation, "*") == 0 || strcmp(rule->operation, operation) == 0;
        if (!hit)
            continue;
        copy_rule(rule, out);
        if (rule->count > 0 && --rule->count == 0)
            remove_rule(faults, i);
    }
    pthread_mutex_unlock(&faults->lock);
    return hit;
}

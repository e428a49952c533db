/* Parameters in, answers out: the JSON of a call, with KMS's own sentences for what is wrong. */
#include <sim/kms/call.h>

#include <ctype.h>
#include <stdio.h>

#include <base/json.h>

/* The model's member names, which the sentences use, begin in lower case. */
static const char *member_name(const char *name, char out[64])
{
    snprintf(out, 64, "%s", name);
    out[0] = (char)tolower((unsigned char)out[0]);
    return out;
}

clv_status clv_param_refuse(clv_error *err, const char *name, const char *value,
                            const char *constraint)
{
    char member[64];
    const char *quote = value != NULL ? "'" : "";
    return clv_fail(err, CLV_KMS_VALIDATION,
                    "1 validation error detected: Value %s%.128s%s at '%s' failed to satisfy "
                    "constraint: %s",
                    quote, value != NULL ? value : "null", quote, member_name(name, member),
                    constraint);
}

static clv_status wrong_type(clv_error *err, const char *name, const json_t *found,
                             const char *expected)
{
    char member[64];
    return clv_fail(err, CLV_KMS_SERIALIZATION, "%s: expected %s, found %s",
                    member_name(name, member), expected, clv_json_type_name(found));
}

static const json_t *find(const clv_call *call, const char *name)
{
    const json_t *value = json_object_get(call->parameters, name);
    return json_is_null(value) ? NULL : value;
}

clv_status clv_param_text(clv_call *call, const char *name, size_t max, const char **out,
                          clv_error *err)
{
    const json_t *value = find(call, name);
    *out = NULL;
    if (value == NULL)
        return CLV_OK;
    if (!json_is_string(value))
        return wrong_type(err, name, value, "a string");
    const char *text = json_string_value(value);
    char constraint[96];
    snprintf(constraint, sizeof constraint, "Member must have length %s than or equal to %zu",
             text[0] == '\0' ? "greater" : "less", text[0] == '\0' ? (size_t)1 : max);
    if (text[0] == '\0' || json_string_length(value) > max)
        return clv_param_refuse(err, name, text, constraint);
    *out = text;
    return CLV_OK;
}

clv_status clv_param_need_text(clv_call *call, const char *name, size_t max, const char **out,
                               clv_error *err)
{
    CLV_TRY(clv_param_text(call, name, max, out, err));
    return *out != NULL ? CLV_OK : clv_param_refuse(err, name, NULL, "Member must not be null");
}

clv_status clv_param_integer(clv_call *call, const char *name, int64_t min, int64_t max,
                             int64_t *out, clv_error *err)
{
    const json_t *value = find(call, name);
    if (value == NULL)
        return CLV_OK;
    if (!json_is_integer(value))
        return wrong_type(err, name, value, "an integer");
    int64_t found = json_integer_value(value);
    char text[32], constraint[96];
    snprintf(text, sizeof text, "%lld", (long long)found);
    snprintf(constraint, sizeof constraint, "Member must have value %s than or equal to %lld",
             found < min ? "greater" : "less", (long long)(found < min ? min : max));
    if (found < min || found > max)
        return clv_param_refuse(err, name, text, constraint);
    *out = found;
    return CLV_OK;
}

clv_status clv_param_boolean(clv_call *call, const char *name, bool *out, clv_error *err)
{
    const json_t *value = find(call, name);
    if (value == NULL)
        return CLV_OK;
    if (!json_is_boolean(value))
        return wrong_type(err, name, value, "a boolean");
    *out = json_is_true(value);
    return CLV_OK;
}

clv_status clv_param_blob(clv_call *call, const char *name, size_t max, clv_buf *out, bool *present,
                          clv_error *err)
{
    const json_t *value = find(call, name);
    *present = value != NULL;
    if (value == NULL)
        return CLV_OK;
    if (!json_is_string(value))
        return wrong_type(err, name, value, "a base64 string");
    clv_bytes text = CLV_BYTES(json_string_value(value), json_string_length(value));
    char member[64], constraint[96];
    if (clv_base64_decode(text, out, NULL) != CLV_OK)
        return clv_fail(err, CLV_KMS_SERIALIZATION, "%s: expected base64, found other characters",
                        member_name(name, member));
    snprintf(constraint, sizeof constraint, "Member must have length %s than or equal to %zu",
             out->n == 0 ? "greater" : "less", out->n == 0 ? (size_t)1 : max);
    if (out->n == 0 || out->n > max)
        return clv_param_refuse(err, name, "java.nio.HeapByteBuffer", constraint);
    return CLV_OK;
}

clv_status clv_param_need_blob(clv_call *call, const char *name, size_t max, clv_buf *out,
                               clv_error *err)
{
    bool present;
    CLV_TRY(clv_param_blob(call, name, max, out, &present, err));
    return present ? CLV_OK : clv_param_refuse(err, name, NULL, "Member must not be null");
}

clv_status clv_param_map(clv_call *call, const char *name, const json_t **out, clv_error *err)
{
    const json_t *value = find(call, name);
    *out = value;
    if (value == NULL)
        return CLV_OK;
    if (!json_is_object(value))
        return wrong_type(err, name, value, "an object of strings");
    json_t *object = (json_t *)value;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if (!json_is_string(json_object_iter_value(i)))
            return wrong_type(err, name, json_object_iter_value(i), "strings");
    }
    return CLV_OK;
}

clv_status clv_param_list(clv_call *call, const char *name, const json_t **out, clv_error *err)
{
    const json_t *value = find(call, name);
    *out = value;
    if (value != NULL && !json_is_array(value))
        return wrong_type(err, name, value, "a list");
    for (size_t i = 0; value != NULL && i < json_array_size(value); i++) {
        if (!json_is_string(json_array_get(value, i)))
            return wrong_type(err, name, json_array_get(value, i), "strings");
    }
    return CLV_OK;
}

clv_status clv_answer_json(clv_call *call, const char *name, json_t *value, clv_error *err)
{
    if (value == NULL || json_object_set_new(call->answer, name, value) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for the answer, found none");
    return CLV_OK;
}

clv_status clv_answer_text(clv_call *call, const char *name, const char *value, clv_error *err)
{
    return clv_answer_json(call, name, json_string(value), err);
}

clv_status clv_answer_blob(clv_call *call, const char *name, clv_bytes value, clv_error *err)
{
    clv_auto(clv_buf) base64 = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_base64_append(&base64, value, err));
    CLV_TRY(clv_buf_text(&base64, &text, err));
    return clv_answer_text(call, name, text, err);
}

clv_status clv_answer_secret(clv_call *call, const char *name, clv_bytes value, clv_error *err)
{
    if (!call->recipient.present)
        return clv_answer_blob(call, name, value, err);
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    CLV_TRY(clv_cms_seal(call->recipient.document.public_key.bytes, value,
                         (clv_cms_shape)atomic_load(&call->server->cms_shape), &cms, err));
    return clv_answer_blob(call, "CiphertextForRecipient", clv_buf_bytes(&cms), err);
}

json_t *clv_lossy_text(const char *text)
{
    char copy[CLV_LOSSY_MAX + 1];
    snprintf(copy, sizeof copy, "%s", text);
    if (!clv_utf8_valid(clv_bytes_of(copy))) {
        for (char *c = copy; *c != '\0'; c++)
            *c = (unsigned char)*c < 0x80 ? *c : '?';
    }
    return json_string(copy);
}

json_t *clv_timestamp(uint64_t ms)
{
    return json_real((double)ms / 1000.0);
}

clv_status clv_call_condition(clv_call *call, const char *key, const char *value, clv_error *err)
{
    json_t *list = json_object_get(call->conditions, key);
    if (list == NULL) {
        list = json_array();
        if (json_object_set_new(call->conditions, key, list) != 0)
            list = NULL;
    }
    if (list == NULL || json_array_append_new(list, json_string(value)) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for a condition, found none");
    return CLV_OK;
}

/* Conditions: operators over the request's context (IAM user guide, "Condition operators"). */
#include <sim/kms/iam.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

typedef bool (*comparison)(const char *found, const char *wanted);

static bool equals(const char *found, const char *wanted)
{
    return strcmp(found, wanted) == 0;
}

static bool equals_any_case(const char *found, const char *wanted)
{
    return strcasecmp(found, wanted) == 0;
}

static bool like(const char *found, const char *wanted)
{
    return clv_iam_match(wanted, found, false);
}

static bool number(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0';
}

static bool numbers(const char *found, const char *wanted, double *difference)
{
    double a, b;
    if (!number(found, &a) || !number(wanted, &b))
        return false;
    *difference = a - b;
    return true;
}

static bool number_equals(const char *found, const char *wanted)
{
    double d;
    return numbers(found, wanted, &d) && !(d < 0) && !(d > 0);
}

static bool number_less(const char *found, const char *wanted)
{
    double d;
    return numbers(found, wanted, &d) && d < 0;
}

static bool number_at_most(const char *found, const char *wanted)
{
    double d;
    return numbers(found, wanted, &d) && !(d > 0);
}

static bool number_greater(const char *found, const char *wanted)
{
    double d;
    return numbers(found, wanted, &d) && d > 0;
}

static bool number_at_least(const char *found, const char *wanted)
{
    double d;
    return numbers(found, wanted, &d) && !(d < 0);
}

/* Negated operators hold when no wanted value compares, and when the key is absent. */
static const struct operator_row {
    const char *name;
    comparison compare;
    bool negated;
} OPERATORS[] = {
    {"StringEquals", equals, false},
    {"StringNotEquals", equals, true},
    {"StringEqualsIgnoreCase", equals_any_case, false},
    {"StringNotEqualsIgnoreCase", equals_any_case, true},
    {"StringLike", like, false},
    {"StringNotLike", like, true},
    {"ArnEquals", like, false},
    {"ArnNotEquals", like, true},
    {"ArnLike", like, false},
    {"ArnNotLike", like, true},
    {"Bool", equals_any_case, false},
    {"NumericEquals", number_equals, false},
    {"NumericNotEquals", number_equals, true},
    {"NumericLessThan", number_less, false},
    {"NumericLessThanEquals", number_at_most, false},
    {"NumericGreaterThan", number_greater, false},
    {"NumericGreaterThanEquals", number_at_least, false},
    {"Null", NULL, false},
};

/* The condition keys that the server fills; one that ends in ':' or '/' takes a name behind it. */
static const char *const KEYS[] = {
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalType",
    "aws:RequestedRegion",
    "aws:RequestTag/",
    "aws:ResourceAccount",
    "aws:ResourceTag/",
    "aws:SecureTransport",
    "aws:SourceIp",
    "aws:TagKeys",
    "aws:username",
    "kms:BypassPolicyLockoutSafetyCheck",
    "kms:CallerAccount",
    "kms:DataKeyPairSpec",
    "kms:EncryptionAlgorithm",
    "kms:EncryptionContext:",
    "kms:EncryptionContextKeys",
    "kms:GrantConstraintType",
    "kms:GrantIsForAWSResource",
    "kms:GrantOperations",
    "kms:GranteePrincipal",
    "kms:KeyAgreementAlgorithm",
    "kms:KeyOrigin",
    "kms:KeySpec",
    "kms:KeyUsage",
    "kms:MacAlgorithm",
    "kms:MessageType",
    "kms:MultiRegion",
    "kms:RecipientAttestation:ImageSha384",
    "kms:RecipientAttestation:NitroTPMPCR",
    "kms:RecipientAttestation:PCR",
    "kms:ReEncryptOnSameKey",
    "kms:RequestAlias",
    "kms:ResourceAliases",
    "kms:RetiringPrincipal",
    "kms:RotationPeriodInDays",
    "kms:ScheduleKeyDeletionPendingWindowInDays",
    "kms:SigningAlgorithm",
};

typedef enum set_mode { SET_NONE, SET_ANY, SET_ALL } set_mode;

typedef struct condition_operator {
    const struct operator_row *row;
    set_mode set;
    bool if_exists;
} condition_operator;

#define IF_EXISTS "IfExists"

static bool read_operator(const char *text, condition_operator *out)
{
    *out = (condition_operator){.set = SET_NONE};
    const char *colon = strchr(text, ':');
    if (colon != NULL) {
        size_t n = (size_t)(colon - text);
        if (n == 11 && strncasecmp(text, "ForAnyValue", n) == 0)
            out->set = SET_ANY;
        else if (n == 12 && strncasecmp(text, "ForAllValues", n) == 0)
            out->set = SET_ALL;
        else
            return false;
        text = colon + 1;
    }
    size_t length = strlen(text), suffix = strlen(IF_EXISTS);
    if (length > suffix && strcasecmp(text + length - suffix, IF_EXISTS) == 0) {
        out->if_exists = true;
        length -= suffix;
    }
    for (size_t i = 0; i < sizeof OPERATORS / sizeof OPERATORS[0]; i++) {
        const struct operator_row *row = &OPERATORS[i];
        if (strlen(row->name) == length && strncasecmp(row->name, text, length) == 0)
            out->row = row;
    }
    bool null_test = out->row != NULL && out->row->compare == NULL;
    return out->row != NULL && !(null_test && (out->if_exists || out->set != SET_NONE));
}

static bool has_suffix_name(const char *key)
{
    char last = key[strlen(key) - 1];
    return last == ':' || last == '/';
}

static bool is_register_key(const char *key)
{
    size_t n = strlen(key);
    return n > 3 && strcmp(key + n - 3, "PCR") == 0;
}

static bool known_key(const char *name)
{
    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++) {
        size_t n = strlen(KEYS[i]);
        const char *rest = name + n;
        if (strncasecmp(name, KEYS[i], n) != 0)
            continue;
        if (has_suffix_name(KEYS[i]) && *rest != '\0')
            return true;
        if (is_register_key(KEYS[i]) && strspn(rest, "0123456789") == strlen(rest) &&
            strlen(rest) >= 1 && strlen(rest) <= 2 && atoi(rest) < 32 &&
            (rest[0] != '0' || rest[1] == '\0'))
            return true;
        if (!is_register_key(KEYS[i]) && *rest == '\0')
            return true;
    }
    return false;
}

static size_t value_count(const json_t *value)
{
    return json_is_array(value) ? json_array_size(value) : 1;
}

/* IAM takes a bare boolean or number where a text is meant. */
static const char *value_text(const json_t *value, size_t i, char number_text[32])
{
    const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
    if (json_is_string(one))
        return json_string_value(one);
    if (json_is_boolean(one))
        return json_is_true(one) ? "true" : "false";
    if (!json_is_number(one))
        return NULL;
    snprintf(number_text, 32, "%.15g", json_number_value(one));
    return number_text;
}

/* Null and Bool have two values. */
static bool two_valued(const condition_operator *op)
{
    return op->row->compare == NULL || strcmp(op->row->name, "Bool") == 0;
}

static clv_status check_values(const condition_operator *op, const char *key, const json_t *value,
                               clv_error *err)
{
    char number_text[32];
    if (value_count(value) == 0)
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                        "Condition \"%.128s\": expected one text or more, found none", key);
    for (size_t i = 0; i < value_count(value); i++) {
        const char *text = value_text(value, i, number_text);
        if (text == NULL)
            return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                            "Condition \"%.128s\": expected texts, found %s", key,
                            json_is_null(value) ? "null" : "something else");
        if (two_valued(op) && strcasecmp(text, "true") != 0 && strcasecmp(text, "false") != 0)
            return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                            "Condition \"%.128s\": expected true or false, found \"%.32s\"", key,
                            text);
        if (strstr(text, "${") != NULL)
            return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                            "Condition \"%.128s\": policy variables (${…}) are not evaluated here",
                            key);
    }
    return CLV_OK;
}

static clv_status check_keys(const condition_operator *op, const json_t *keys, const char *name,
                             clv_error *err)
{
    if (!json_is_object(keys) || json_object_size(keys) == 0)
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                        "Condition \"%.64s\": expected an object of condition keys", name);
    json_t *object = (json_t *)keys;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        const char *key = json_object_iter_key(i);
        if (strcasecmp(key, "kms:ViaService") == 0)
            return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                            "kms:ViaService is not evaluated here: no AWS service calls this KMS, "
                            "so such a condition cannot be shown to hold");
        if (!known_key(key))
            return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                            "Condition key \"%.128s\" is not evaluated here: docs/kms.md lists "
                            "those that are",
                            key);
        CLV_TRY(check_values(op, key, json_object_iter_value(i), err));
    }
    return CLV_OK;
}

clv_status clv_condition_check(const json_t *condition, clv_error *err)
{
    if (!json_is_object(condition))
        return clv_fail(err, CLV_KMS_MALFORMED_POLICY, "Condition: expected an object");
    json_t *object = (json_t *)condition;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        condition_operator op;
        const char *name = json_object_iter_key(i);
        if (!read_operator(name, &op))
            return clv_fail(err, CLV_KMS_MALFORMED_POLICY,
                            "Condition operator \"%.64s\" is not known or not evaluated here",
                            name);
        CLV_TRY(check_keys(&op, json_object_iter_value(i), name, err));
    }
    return CLV_OK;
}

static bool compares(const condition_operator *op, const char *found, const json_t *wanted)
{
    char number_text[32];
    for (size_t i = 0; i < value_count(wanted); i++) {
        if (op->row->compare(found, value_text(wanted, i, number_text)))
            return !op->row->negated;
    }
    return op->row->negated;
}

/* The request's values of a condition key; keys are compared in either case. */
static const json_t *values_of(const json_t *context, const char *key)
{
    json_t *object = (json_t *)context;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        if (strcasecmp(json_object_iter_key(i), key) == 0)
            return json_object_iter_value(i);
    }
    return NULL;
}

static bool key_holds(const condition_operator *op, const json_t *found, const json_t *wanted)
{
    size_t count = json_array_size(found);
    if (op->row->compare == NULL) {
        char number_text[32];
        bool want_absent = strcasecmp(value_text(wanted, 0, number_text), "true") == 0;
        return want_absent == (count == 0);
    }
    if (count == 0)
        return op->if_exists || op->set == SET_ALL || (op->set == SET_NONE && op->row->negated);
    bool all = true, any = false;
    for (size_t i = 0; i < count; i++) {
        bool one = compares(op, json_string_value(json_array_get(found, i)), wanted);
        all = all && one;
        any = any || one;
    }
    if (op->set == SET_ANY)
        return any;
    return op->set == SET_ALL || op->row->negated ? all : any;
}

bool clv_condition_holds(const json_t *condition, const json_t *context)
{
    json_t *object = (json_t *)condition;
    for (void *i = json_object_iter(object); i != NULL; i = json_object_iter_next(object, i)) {
        condition_operator op;
        if (!read_operator(json_object_iter_key(i), &op))
            return false;
        json_t *keys = json_object_iter_value(i);
        for (void *k = json_object_iter(keys); k != NULL; k = json_object_iter_next(keys, k)) {
            const json_t *found = values_of(context, json_object_iter_key(k));
            if (!key_holds(&op, found, json_object_iter_value(k)))
                return false;
        }
    }
    return true;
}

#include <claviger/operation.h>

#include <stdlib.h>

#include <base/cbor.h>
#include <base/crypto.h>

/* Names the schema and keeps these encodings apart from every other use of user_data. */
#define SCHEMA "claviger/operation/1"

/* The members an operation can have, beside its action. */
enum member {
    HAS_KEY = 1,
    HAS_CONTEXT = 2,
    HAS_SIZE = 4,
    HAS_CIPHERTEXT = 8,
    HAS_PAIR_SPEC = 16,
    HAS_PUBLIC_KEY = 32,
};

static const struct {
    const char *name;
    unsigned members;
} action_table[CLV_KMS_ACTION_COUNT] = {
    [CLV_GENERATE_DATA_KEY] = {"GenerateDataKey", HAS_KEY | HAS_CONTEXT | HAS_SIZE},
    [CLV_DECRYPT] = {"Decrypt", HAS_KEY | HAS_CONTEXT | HAS_CIPHERTEXT},
    [CLV_GENERATE_DATA_KEY_PAIR] = {"GenerateDataKeyPair", HAS_KEY | HAS_CONTEXT | HAS_PAIR_SPEC},
    [CLV_GENERATE_RANDOM] = {"GenerateRandom", HAS_SIZE},
    [CLV_DERIVE_SHARED_SECRET] = {"DeriveSharedSecret", HAS_KEY | HAS_PUBLIC_KEY},
};

const char *clv_kms_action_name(clv_kms_action action)
{
    return action_table[action].name;
}

bool clv_kms_action_of(const char *name, clv_kms_action *out)
{
    for (unsigned i = 0; i < CLV_KMS_ACTION_COUNT; i++) {
        if (strcmp(action_table[i].name, name) == 0) {
            *out = (clv_kms_action)i;
            return true;
        }
    }
    return false;
}

void clv_operation_drop(clv_operation *operation)
{
    free(operation->key_arn);
    free(operation->key_pair_spec);
    clv_context_drop(&operation->context);
    clv_buf_drop(&operation->ciphertext);
    clv_buf_drop(&operation->public_key);
    *operation = (clv_operation)CLV_OPERATION_INIT;
}

static clv_status copy_text(const char *from, char **out, clv_error *err)
{
    return from != NULL ? clv_text_dup(clv_bytes_of(from), out, err) : CLV_OK;
}

clv_status clv_operation_copy(const clv_operation *from, clv_operation *out, clv_error *err)
{
    clv_auto(clv_operation) copy = CLV_OPERATION_INIT;
    copy.action = from->action;
    copy.number_of_bytes = from->number_of_bytes;
    CLV_TRY(copy_text(from->key_arn, &copy.key_arn, err));
    CLV_TRY(copy_text(from->key_pair_spec, &copy.key_pair_spec, err));
    CLV_TRY(clv_context_copy(&from->context, &copy.context, err));
    CLV_TRY(clv_buf_append(&copy.ciphertext, clv_buf_bytes(&from->ciphertext), err));
    CLV_TRY(clv_buf_append(&copy.public_key, clv_buf_bytes(&from->public_key), err));
    *out = copy;
    copy = (clv_operation)CLV_OPERATION_INIT;
    return CLV_OK;
}

static unsigned members_of(const clv_operation *o)
{
    return (o->key_arn != NULL ? HAS_KEY : 0) | (o->context.count > 0 ? HAS_CONTEXT : 0) |
           (o->number_of_bytes > 0 ? HAS_SIZE : 0) | (o->ciphertext.n > 0 ? HAS_CIPHERTEXT : 0) |
           (o->key_pair_spec != NULL ? HAS_PAIR_SPEC : 0) |
           (o->public_key.n > 0 ? HAS_PUBLIC_KEY : 0);
}

/* "ECC_NIST_P256", …: KMS adds to them, so their form is checked and not their names. */
static bool is_pair_spec(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return n > 0 && n <= CLV_KEY_PAIR_SPEC_MAX && text[n] == '\0';
}

static clv_status check_limits(const clv_operation *o, const char *name, clv_error *err)
{
    if (o->key_arn != NULL && strlen(o->key_arn) > CLV_KEY_ARN_MAX)
        return clv_fail(err, CLV_OPERATION_INVALID, "%s: expected a key ARN of at most %d bytes",
                        name, CLV_KEY_ARN_MAX);
    if (o->number_of_bytes > CLV_DATA_KEY_MAX)
        return clv_fail(err, CLV_OPERATION_INVALID, "%s: expected 1 to %d bytes, found %u", name,
                        CLV_DATA_KEY_MAX, o->number_of_bytes);
    if (o->key_pair_spec != NULL && !is_pair_spec(o->key_pair_spec))
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "%s: expected a KeyPairSpec of 1 to %d of A-Z, 0-9 and _, found \"%.40s\"",
                        name, CLV_KEY_PAIR_SPEC_MAX, o->key_pair_spec);
    if (o->ciphertext.n > CLV_CIPHERTEXT_BLOB_MAX)
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "%s: expected a CiphertextBlob of 1 to %d bytes, found %zu", name,
                        CLV_CIPHERTEXT_BLOB_MAX, o->ciphertext.n);
    if (o->public_key.n > CLV_PUBLIC_KEY_MAX)
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "%s: expected a public key of 1 to %d bytes, found %zu", name,
                        CLV_PUBLIC_KEY_MAX, o->public_key.n);
    return CLV_OK;
}

clv_status clv_operation_check(const clv_operation *operation, clv_error *err)
{
    if ((unsigned)operation->action >= CLV_KMS_ACTION_COUNT)
        return clv_fail(err, CLV_OPERATION_INVALID, "expected one of %d actions, found %u",
                        CLV_KMS_ACTION_COUNT, (unsigned)operation->action);
    const char *name = action_table[operation->action].name;
    unsigned allowed = action_table[operation->action].members;
    unsigned required = allowed & ~(unsigned)HAS_CONTEXT;
    unsigned found = members_of(operation);
    if ((found & required) != required)
        return clv_fail(err, CLV_OPERATION_INVALID, "%s: a parameter that it needs is absent",
                        name);
    if ((found & ~allowed) != 0)
        return clv_fail(err, CLV_OPERATION_INVALID,
                        "%s: a parameter that it does not take is there", name);
    return check_limits(operation, name, err);
}

/* RFC 8949 section 4.2.1 orders keys by their encoding, whose head puts shorter ones first. */
static int by_encoding(const void *a, const void *b)
{
    const struct clv_context_pair *x = *(const struct clv_context_pair *const *)a;
    const struct clv_context_pair *y = *(const struct clv_context_pair *const *)b;
    size_t n = strlen(x->key), m = strlen(y->key);
    if (n != m)
        return n < m ? -1 : 1;
    return memcmp(x->key, y->key, n);
}

static clv_status put_context(const clv_operation *o, clv_buf *out, clv_error *err)
{
    const struct clv_context_pair *order[CLV_CONTEXT_PAIRS_MAX];
    for (size_t i = 0; i < o->context.count; i++)
        order[i] = &o->context.pair[i];
    qsort(order, o->context.count, sizeof order[0], by_encoding);
    CLV_TRY(clv_cbor_put_map(out, o->context.count, err));
    for (size_t i = 0; i < o->context.count; i++) {
        CLV_TRY(clv_cbor_put_text(out, order[i]->key, err));
        CLV_TRY(clv_cbor_put_text(out, order[i]->value, err));
    }
    return CLV_OK;
}

static clv_status put_schema(const clv_operation *o, clv_buf *out, clv_error *err)
{
    (void)o;
    return clv_cbor_put_text(out, SCHEMA, err);
}

static clv_status put_action(const clv_operation *o, clv_buf *out, clv_error *err)
{
    return clv_cbor_put_text(out, action_table[o->action].name, err);
}

static clv_status put_key(const clv_operation *o, clv_buf *out, clv_error *err)
{
    return clv_cbor_put_text(out, o->key_arn, err);
}

static clv_status put_size(const clv_operation *o, clv_buf *out, clv_error *err)
{
    return clv_cbor_put_uint(out, o->number_of_bytes, err);
}

static clv_status put_ciphertext(const clv_operation *o, clv_buf *out, clv_error *err)
{
    return clv_cbor_put_bytes(out, clv_buf_bytes(&o->ciphertext), err);
}

static clv_status put_pair_spec(const clv_operation *o, clv_buf *out, clv_error *err)
{
    return clv_cbor_put_text(out, o->key_pair_spec, err);
}

static clv_status put_public_key(const clv_operation *o, clv_buf *out, clv_error *err)
{
    return clv_cbor_put_bytes(out, clv_buf_bytes(&o->public_key), err);
}

/* In the order of RFC 8949 section 4.2.1. `when`: the members of which one must be taken by the
 * action; 0 is always written. The context is written for an action that takes one, empty or not.
 */
static const struct {
    const char *name;
    unsigned when;
    clv_status (*put)(const clv_operation *o, clv_buf *out, clv_error *err);
} encoding_table[] = {
    {"action", 0, put_action},
    {"key_id", HAS_KEY, put_key},
    {"schema", 0, put_schema},
    {"context", HAS_CONTEXT, put_context},
    {"ciphertext", HAS_CIPHERTEXT, put_ciphertext},
    {"public_key", HAS_PUBLIC_KEY, put_public_key},
    {"key_pair_spec", HAS_PAIR_SPEC, put_pair_spec},
    {"number_of_bytes", HAS_SIZE, put_size},
};
#define ENCODING_ROWS (sizeof encoding_table / sizeof encoding_table[0])

static bool is_written(size_t row, const clv_operation *o)
{
    unsigned when = encoding_table[row].when;
    return when == 0 || (action_table[o->action].members & when) != 0;
}

clv_status clv_operation_encode(const clv_operation *operation, clv_buf *out, clv_error *err)
{
    CLV_TRY(clv_operation_check(operation, err));
    size_t count = 0;
    for (size_t i = 0; i < ENCODING_ROWS; i++)
        count += is_written(i, operation);
    CLV_TRY(clv_cbor_put_map(out, count, err));
    for (size_t i = 0; i < ENCODING_ROWS; i++) {
        if (!is_written(i, operation))
            continue;
        CLV_TRY(clv_cbor_put_text(out, encoding_table[i].name, err));
        CLV_TRY(encoding_table[i].put(operation, out, err));
    }
    return CLV_OK;
}

clv_status clv_operation_digest(const clv_operation *operation,
                                uint8_t out[CLV_OPERATION_DIGEST_SIZE], clv_error *err)
{
    clv_auto(clv_buf) encoded = CLV_BUF_INIT;
    CLV_TRY(clv_operation_encode(operation, &encoded, err));
    return clv_sha384(clv_buf_bytes(&encoded), out, err);
}

#include <witness/record.h>

#include <sodium.h>

#include <base/cbor.h>
#include <vault/derive.h>

#define TAG             "claviger-witness-1"
#define RECORD_ITEMS    2
#define STATEMENT_ITEMS 8
#define SIGNATURE_SIZE  64

/* An array of two whose first item is a byte string: RFC 8949 section 3.1. A sealed message begins
 * with its version, 0x02. */
#define FIRST_BYTE 0x82

static const char *const kind_name[CLV_RECORD_KIND_COUNT] = {
    [CLV_RECORD_INIT] = "init",
    [CLV_RECORD_STATE] = "state",
    [CLV_RECORD_DELETED] = "deleted",
    [CLV_RECORD_ROOT] = "root",
};

const char *clv_record_kind_name(clv_record_kind kind)
{
    return kind_name[kind];
}

bool clv_record_like(clv_bytes bytes)
{
    return bytes.n > 0 && bytes.p[0] == FIRST_BYTE;
}

static clv_status put_statement(const clv_record *record, clv_buf *out, clv_error *err)
{
    CLV_TRY(clv_cbor_put_array(out, STATEMENT_ITEMS, err));
    CLV_TRY(clv_cbor_put_text(out, TAG, err));
    CLV_TRY(clv_cbor_put_text(out, kind_name[record->kind], err));
    CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(record->fleet, sizeof record->fleet), err));
    CLV_TRY(clv_cbor_put_text(out, record->name, err));
    CLV_TRY(clv_cbor_put_uint(out, record->generation, err));
    CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(record->digest, sizeof record->digest), err));
    CLV_TRY(clv_cbor_put_uint(out, record->time_ms, err));
    return clv_cbor_put_text(out, record->by, err);
}

clv_status clv_record_sign(const clv_record *record, const clv_secret *seed, clv_buf *out,
                           clv_error *err)
{
    clv_auto(clv_buf) statement = CLV_BUF_INIT;
    clv_auto(clv_buf) signature = CLV_BUF_INIT;
    CLV_TRY(put_statement(record, &statement, err));
    CLV_TRY(clv_derive_sign(CLV_DERIVE_ED25519, seed, clv_buf_bytes(&statement), false, &signature,
                            err));
    CLV_TRY(clv_cbor_put_array(out, RECORD_ITEMS, err));
    CLV_TRY(clv_cbor_put_bytes(out, clv_buf_bytes(&statement), err));
    return clv_cbor_put_bytes(out, clv_buf_bytes(&signature), err);
}

static clv_status take_text(clv_cursor *c, char *out, size_t size, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_cbor_expect(c, CLV_CBOR_TEXT, &item, err));
    if (item.bytes.n >= size || memchr(item.bytes.p, '\0', item.bytes.n) != NULL)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected a text of at most %zu bytes", size - 1);
    memcpy(out, item.bytes.p, item.bytes.n);
    out[item.bytes.n] = '\0';
    return CLV_OK;
}

static clv_status take_fixed(clv_cursor *c, uint8_t *out, size_t size, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_cbor_expect(c, CLV_CBOR_BYTES, &item, err));
    if (item.bytes.n != size)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected %zu bytes, found %zu", size,
                        item.bytes.n);
    memcpy(out, item.bytes.p, size);
    return CLV_OK;
}

static clv_status take_number(clv_cursor *c, uint64_t *out, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_cbor_expect(c, CLV_CBOR_UINT, &item, err));
    *out = item.value;
    return CLV_OK;
}

static clv_status take_array(clv_cursor *c, size_t items, clv_error *err)
{
    clv_cbor_item item;
    CLV_TRY(clv_cbor_expect(c, CLV_CBOR_ARRAY, &item, err));
    if (item.value != items)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected an array of %zu", items);
    return CLV_OK;
}

static clv_status take_kind(clv_cursor *c, clv_record_kind *out, clv_error *err)
{
    char text[16];
    CLV_TRY(take_text(c, text, sizeof text, err));
    for (clv_record_kind kind = 0; kind < CLV_RECORD_KIND_COUNT; kind++) {
        if (strcmp(kind_name[kind], text) == 0) {
            *out = kind;
            return CLV_OK;
        }
    }
    return clv_fail(err, CLV_WITNESS_RECORD, "expected a known kind, found \"%s\"", text);
}

static clv_status read_statement(clv_bytes statement, clv_record *out, clv_error *err)
{
    char tag[sizeof TAG];
    clv_cursor c = clv_cursor_of(statement);
    CLV_TRY(take_array(&c, STATEMENT_ITEMS, err));
    CLV_TRY(take_text(&c, tag, sizeof tag, err));
    if (strcmp(tag, TAG) != 0)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected \"%s\", found \"%s\"", TAG, tag);
    CLV_TRY(take_kind(&c, &out->kind, err));
    CLV_TRY(take_fixed(&c, out->fleet, sizeof out->fleet, err));
    CLV_TRY(take_text(&c, out->name, sizeof out->name, err));
    CLV_TRY(take_number(&c, &out->generation, err));
    CLV_TRY(take_fixed(&c, out->digest, sizeof out->digest, err));
    CLV_TRY(take_number(&c, &out->time_ms, err));
    CLV_TRY(take_text(&c, out->by, sizeof out->by, err));
    return c.rest.n == 0 ? CLV_OK : clv_fail(err, CLV_WITNESS_RECORD, "bytes follow the statement");
}

static clv_status split(clv_bytes bytes, clv_bytes *statement, clv_bytes *signature, clv_error *err)
{
    clv_cbor_item item;
    clv_cursor c = clv_cursor_of(bytes);
    CLV_TRY(take_array(&c, RECORD_ITEMS, err));
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_BYTES, &item, err));
    *statement = item.bytes;
    CLV_TRY(clv_cbor_expect(&c, CLV_CBOR_BYTES, &item, err));
    *signature = item.bytes;
    if (signature->n != SIGNATURE_SIZE || c.rest.n != 0)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected a signature of %d bytes at the end",
                        SIGNATURE_SIZE);
    return CLV_OK;
}

static clv_status open_record(clv_bytes bytes, const uint8_t key[CLV_RECORD_PUBLIC],
                              clv_record *out, clv_error *err)
{
    clv_bytes statement, signature;
    if (bytes.n > CLV_RECORD_MAX)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected at most %d bytes, found %zu",
                        CLV_RECORD_MAX, bytes.n);
    CLV_TRY(split(bytes, &statement, &signature, err));
    if (crypto_sign_verify_detached(signature.p, statement.p, statement.n, key) != 0)
        return clv_fail(err, CLV_WITNESS_RECORD,
                        "expected the signature of this fleet, found another");
    return read_statement(statement, out, err);
}

/* Whatever was wrong, in one code. */
static clv_status as_record(clv_status status, clv_error *err)
{
    if (status == CLV_OK)
        return CLV_OK;
    if (err != NULL)
        err->code = CLV_WITNESS_RECORD;
    return clv_blame(err, CLV_WITNESS_RECORD, "a witness's record");
}

clv_status clv_record_open(clv_bytes bytes, const uint8_t key[CLV_RECORD_PUBLIC], clv_record *out,
                           clv_error *err)
{
    *out = (clv_record){.generation = 0};
    return as_record(open_record(bytes, key, out, err), err);
}

clv_status clv_record_tombstone_shape(clv_bytes bytes, const char *name, uint64_t generation,
                                      clv_error *err)
{
    clv_bytes statement, signature;
    clv_record record;
    clv_status status = split(bytes, &statement, &signature, err);
    if (status == CLV_OK)
        status = read_statement(statement, &record, err);
    CLV_TRY(as_record(status, err));
    if (record.kind != CLV_RECORD_DELETED || record.generation != generation ||
        strcmp(record.name, name) != 0)
        return clv_fail(err, CLV_WITNESS_RECORD,
                        "expected a tombstone of this name and generation %llu, found another",
                        (unsigned long long)generation);
    return CLV_OK;
}

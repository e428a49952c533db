/* The export's form: store_record.h. */
#include <cli/store_record.h>

#include <errno.h>
#include <unistd.h>

#include <base/crypto.h>

#define HEAD            "claviger-store-export 1"
#define EXPORT_LINE_MAX 4096
#define BLOB_MAX        CLV_BUF_LIMIT
#define INPUT_SIZE      65536

/* -- writing ---------------------------------------------------------------------------------- */

static clv_status write_line(clv_output *output, clv_bytes line, clv_error *err)
{
    CLV_TRY(clv_output_write(output, line, err));
    return clv_output_write(output, clv_bytes_of("\n"), err);
}

static clv_status write_json(clv_output *output, json_t *json, clv_error *err)
{
    clv_auto(clv_json) owned = json;
    clv_auto(clv_buf) line = CLV_BUF_LIMITED(EXPORT_LINE_MAX);
    if (json == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an export");
    CLV_TRY(clv_json_append(&line, owned, err));
    return write_line(output, clv_buf_bytes(&line), err);
}

static clv_status digest_of(clv_bytes blob, clv_buf *hex, const char **out, clv_error *err)
{
    uint8_t digest[CLV_SHA256_SIZE];
    CLV_TRY(clv_sha256(blob, digest, err));
    CLV_TRY(clv_hex_append(hex, CLV_BYTES(digest, sizeof digest), err));
    return clv_buf_text(hex, out, err);
}

clv_status clv_export_begin(clv_output *output, clv_error *err)
{
    return write_line(output, clv_bytes_of(HEAD), err);
}

clv_status clv_export_record(clv_output *output, const clv_store_record *record, clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT;
    const char *digest;
    CLV_TRY(digest_of(record->blob, &hex, &digest, err));
    json_t *head =
        json_pack("{s:s, s:s, s:s, s:I}", "kind", record->is_key ? "key" : "state", "name",
                  record->name, "sha256", digest, "size", (json_int_t)record->blob.n);
    if (head != NULL && !record->is_key)
        json_object_set_new(head, "generation", json_integer(record->generation));
    CLV_TRY(write_json(output, head, err));
    return write_line(output, record->blob, err);
}

clv_status clv_export_end(clv_output *output, const clv_store_counts *counts, clv_error *err)
{
    return write_json(output,
                      json_pack("{s:s, s:I, s:I}", "kind", "end", "keys", (json_int_t)counts->keys,
                                "states", (json_int_t)counts->states),
                      err);
}

/* -- reading ---------------------------------------------------------------------------------- */

/* A file as a stream of lines and bytes. */
typedef struct reading {
    int fd;
    clv_buf read; /* what was read and not yet taken begins at `at` */
    size_t at;
    clv_buf line, blob;
    clv_store_counts counts;
} reading;

static void reading_drop(reading *r)
{
    clv_buf_drop(&r->read);
    clv_buf_drop(&r->line);
    clv_buf_drop(&r->blob);
}

static clv_status cut_short(const reading *r, clv_error *err)
{
    return clv_fail(err, CLV_EXPORT_FORMAT,
                    "expected a whole export, found its end after %llu keys and %llu states",
                    (unsigned long long)r->counts.keys, (unsigned long long)r->counts.states);
}

/* At least one byte more, or *end. */
static clv_status fill(reading *r, bool *end, clv_error *err)
{
    uint8_t *room;
    *end = false;
    if (r->at < r->read.n)
        return CLV_OK;
    r->read.n = r->at = 0;
    CLV_TRY(clv_buf_reserve(&r->read, INPUT_SIZE, &room, err));
    for (;;) {
        ssize_t n = read(r->fd, room, INPUT_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return clv_fail(err, CLV_SYSTEM, "the export cannot be read: %m");
        r->read.n = (size_t)n;
        *end = n == 0;
        return CLV_OK;
    }
}

static clv_status take_bytes(reading *r, size_t n, clv_buf *out, clv_error *err)
{
    out->n = 0;
    while (out->n < n) {
        bool end;
        CLV_TRY(fill(r, &end, err));
        if (end)
            return cut_short(r, err);
        size_t here = r->read.n - r->at < n - out->n ? r->read.n - r->at : n - out->n;
        CLV_TRY(clv_buf_append(out, CLV_BYTES(r->read.p + r->at, here), err));
        r->at += here;
    }
    return CLV_OK;
}

static clv_status take_line(reading *r, clv_error *err)
{
    r->line.n = 0;
    for (;;) {
        bool end;
        CLV_TRY(fill(r, &end, err));
        if (end)
            return cut_short(r, err);
        uint8_t byte = r->read.p[r->at++];
        if (byte == '\n')
            return CLV_OK;
        if (r->line.n == EXPORT_LINE_MAX)
            return clv_fail(err, CLV_EXPORT_FORMAT,
                            "expected lines of at most %d bytes, found more", EXPORT_LINE_MAX);
        CLV_TRY(clv_buf_u8(&r->line, byte, err));
    }
}

static clv_status take_blob(reading *r, size_t size, const char *digest, clv_error *err)
{
    clv_auto(clv_buf) hex = CLV_BUF_INIT, feed = CLV_BUF_INIT;
    const char *found;
    CLV_TRY(take_bytes(r, size, &r->blob, err));
    CLV_TRY(take_bytes(r, 1, &feed, err));
    CLV_TRY(digest_of(clv_buf_bytes(&r->blob), &hex, &found, err));
    if (feed.p[0] != '\n' || strcmp(found, digest) != 0)
        return clv_fail(err, CLV_EXPORT_FORMAT, "expected bytes of digest %.64s, found others",
                        digest);
    return CLV_OK;
}

static clv_status read_end(reading *r, clv_json_reader *members, clv_error *err)
{
    int64_t keys = 0, states = 0;
    bool end = false;
    CLV_TRY(clv_json_need_integer(members, "keys", 0, INT64_MAX, &keys, err));
    CLV_TRY(clv_json_need_integer(members, "states", 0, INT64_MAX, &states, err));
    CLV_TRY(clv_json_done(members, err));
    if ((uint64_t)keys != r->counts.keys || (uint64_t)states != r->counts.states)
        return cut_short(r, err);
    CLV_TRY(fill(r, &end, err));
    return end ? CLV_OK : clv_fail(err, CLV_EXPORT_FORMAT, "bytes follow the export's end");
}

static clv_status read_record(reading *r, clv_json_reader *members, clv_store_record *out,
                              clv_error *err)
{
    const char *digest;
    int64_t size = 0;
    if (!out->is_key)
        CLV_TRY(clv_json_need_integer(members, "generation", 1, CLV_GENERATION_MAX,
                                      &out->generation, err));
    CLV_TRY(clv_json_need_text(members, "name", &out->name, err));
    CLV_TRY(clv_json_need_text(members, "sha256", &digest, err));
    CLV_TRY(clv_json_need_integer(members, "size", 1, (int64_t)BLOB_MAX, &size, err));
    CLV_TRY(clv_json_done(members, err));
    if (out->name[0] == '\0' || strlen(out->name) > CLV_STORE_NAME_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "name: expected 1 to %d bytes, found %zu",
                        CLV_STORE_NAME_MAX, strlen(out->name));
    CLV_TRY(take_blob(r, (size_t)size, digest, err));
    out->blob = clv_buf_bytes(&r->blob);
    return CLV_OK;
}

static clv_status read_head(reading *r, clv_error *err)
{
    CLV_TRY(take_line(r, err));
    if (!clv_bytes_equal(clv_buf_bytes(&r->line), clv_bytes_of(HEAD)))
        return clv_fail(err, CLV_EXPORT_FORMAT, "expected the line \"%s\", found another", HEAD);
    return CLV_OK;
}

/* A malformed line is a malformed export, whatever the JSON reader calls it. */
static clv_status as_export(const reading *r, clv_status status, clv_error *err)
{
    if (status != CLV_OK && clv_status_exit(status) == CLV_EXIT_INPUT) {
        err->code = CLV_EXPORT_FORMAT;
        return clv_blame(err, CLV_EXPORT_FORMAT, "record %llu",
                         (unsigned long long)(r->counts.keys + r->counts.states + 1));
    }
    return status;
}

/* One line and what it announces; *end: it was the last. */
static clv_status read_next(reading *r, clv_json *json, clv_store_record *out, bool *end,
                            clv_error *err)
{
    clv_json_reader members;
    const char *kind;
    CLV_TRY(take_line(r, err));
    CLV_TRY(clv_json_parse(clv_buf_bytes(&r->line), EXPORT_LINE_MAX, json, err));
    CLV_TRY(clv_json_open(&members, *json, "", err));
    CLV_TRY(clv_json_need_text(&members, "kind", &kind, err));
    *end = strcmp(kind, "end") == 0;
    if (*end)
        return read_end(r, &members, err);
    out->is_key = strcmp(kind, "key") == 0;
    if (!out->is_key && strcmp(kind, "state") != 0)
        return clv_fail(err, CLV_JSON_VALUE, "kind: expected key, state or end, found \"%.20s\"",
                        kind);
    return read_record(r, &members, out, err);
}

clv_status clv_export_each(int fd, clv_record_take take, void *with, clv_error *err)
{
    clv_auto(reading) r = {.fd = fd};
    CLV_TRY(read_head(&r, err));
    for (;;) {
        clv_auto(clv_json) json = NULL;
        clv_store_record record = {.is_key = false};
        bool end = false;
        CLV_TRY(as_export(&r, read_next(&r, &json, &record, &end, err), err));
        if (end)
            return CLV_OK;
        CLV_TRY(take(with, &record, err));
        *(record.is_key ? &r.counts.keys : &r.counts.states) += 1;
    }
}

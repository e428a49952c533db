/*
 * Strict JSON over jansson: duplicate keys, NUL in strings, trailing text, comments and nesting
 * deeper than CLV_JSON_DEPTH are refused; so is every member that a reader did not ask for.
 * jansson's idioms end here; readers get a member's path for their error sentences.
 */
#ifndef CLV_BASE_JSON_H
#define CLV_BASE_JSON_H

#include <jansson.h>

#include <claviger/bytes.h>

#define CLV_JSON_DEPTH 32

/* For clv_auto: a json_t reference that is dropped at the end of the scope. */
typedef json_t *clv_json;
void clv_json_drop(clv_json *json);

/* CLV_JSON_MALFORMED names the member that was being read, line and column; CLV_TOO_LARGE when the
 * text exceeds max bytes. */
CLV_NODISCARD clv_status clv_json_parse(clv_bytes text, size_t max, json_t **out, clv_error *err);

/*
 * The path ("keys.a.operations[1]") of the member that is being read, or was read last, where the
 * first `end` bytes of a JSON text end; no deeper than CLV_JSON_DEPTH, cut to size bytes with the
 * NUL. "" for the document itself. Only names are shown, never values, and only printable ASCII.
 */
void clv_json_place(clv_bytes text, size_t end, char *out, size_t size);

/* Compact text with sorted keys, appended. */
CLV_NODISCARD clv_status clv_json_append(clv_buf *buf, const json_t *json, clv_error *err);

/* Bytes as a new JSON string, in base64 or lower-case hex: the caller's reference, NULL without
 * memory. */
json_t *clv_json_base64(clv_bytes bytes);
json_t *clv_json_hex(clv_bytes bytes);

/*
 * A reader of one object. `path` is where the object stands ("keys.agent-state", "" for the
 * document itself): errors name path + member. Each get marks its member as known;
 * clv_json_done() fails with CLV_JSON_UNKNOWN on the first member that nobody asked for.
 */
typedef struct clv_json_reader {
    const json_t *object;
    char path[160];
    uint64_t seen; /* bit i: the i-th member in iteration order was asked for */
} clv_json_reader;

#define CLV_JSON_MEMBERS_MAX 64

/* CLV_JSON_TYPE when json is not an object. */
CLV_NODISCARD clv_status clv_json_open(clv_json_reader *r, const json_t *json, const char *path,
                                       clv_error *err);
/* Absent members give *out = NULL (texts, values) or leave *out as it was (numbers, booleans). */
CLV_NODISCARD clv_status clv_json_value(clv_json_reader *r, const char *name, json_t **out,
                                        clv_error *err);
CLV_NODISCARD clv_status clv_json_text(clv_json_reader *r, const char *name, const char **out,
                                       clv_error *err);
CLV_NODISCARD clv_status clv_json_integer(clv_json_reader *r, const char *name, int64_t min,
                                          int64_t max, int64_t *out, clv_error *err);
CLV_NODISCARD clv_status clv_json_boolean(clv_json_reader *r, const char *name, bool *out,
                                          clv_error *err);
/* Like the above, but absence is CLV_JSON_MISSING. */
CLV_NODISCARD clv_status clv_json_need_value(clv_json_reader *r, const char *name, json_t **out,
                                             clv_error *err);
CLV_NODISCARD clv_status clv_json_need_text(clv_json_reader *r, const char *name, const char **out,
                                            clv_error *err);
CLV_NODISCARD clv_status clv_json_need_integer(clv_json_reader *r, const char *name, int64_t min,
                                               int64_t max, int64_t *out, clv_error *err);
CLV_NODISCARD clv_status clv_json_done(const clv_json_reader *r, clv_error *err);

/* A member's path ("releases[3].pcrs"), cut to size. For rooms that include no <stdio.h>. */
void clv_json_path(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "an object", "a string", … for error sentences. */
const char *clv_json_type_name(const json_t *json);

#endif

/* Calls made of frames: JSON, then data, then the end. */
#include <channel/frame.h>

void clv_message_drop(clv_message *message)
{
    clv_json_drop(&message->json);
    clv_buf_drop(&message->data);
}

static clv_status write_json(int fd, clv_frame_type type, const json_t *json, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_LIMITED(CLV_CALL_MAX);
    CLV_TRY(clv_json_append(&text, json, err));
    return clv_frame_write(fd, type, clv_buf_bytes(&text), err);
}

static clv_status write_data(int fd, clv_bytes data, clv_error *err)
{
    clv_cursor c = clv_cursor_of(data);
    while (c.rest.n > 0) {
        clv_bytes piece;
        size_t n = c.rest.n < CLV_FRAME_MAX ? c.rest.n : CLV_FRAME_MAX;
        CLV_TRY(clv_cursor_take(&c, n, &piece, err));
        CLV_TRY(clv_frame_write(fd, CLV_FRAME_DATA, piece, err));
    }
    return clv_frame_write(fd, CLV_FRAME_END, CLV_BYTES(NULL, 0), err);
}

static clv_status read_data(int fd, clv_buf *data, clv_error *err)
{
    for (;;) {
        clv_frame_type type;
        size_t before = data->n;
        CLV_TRY(clv_frame_read(fd, &type, data, err));
        if (type == CLV_FRAME_END && data->n == before)
            return CLV_OK;
        /* An empty piece would let a peer hold a call open for nothing. */
        if (type != CLV_FRAME_DATA || data->n == before)
            return clv_fail(err, CLV_FRAME_TYPE, "expected data or the call's end, found type %d",
                            type);
    }
}

static clv_status read_json(clv_bytes text, json_t **out, clv_error *err)
{
    CLV_TRY(clv_json_parse(text, CLV_CALL_MAX, out, err));
    if (json_is_object(*out))
        return CLV_OK;
    return clv_fail(err, CLV_JSON_TYPE, "expected an object, found %s", clv_json_type_name(*out));
}

/* The other side's refusal becomes ours, under the code that it names. */
clv_status clv_fail_as_fault(clv_bytes text, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    clv_json_reader r;
    const char *code, *message;
    CLV_TRY(read_json(text, &json, err));
    CLV_TRY(clv_json_open(&r, json, "fault", err));
    CLV_TRY(clv_json_need_text(&r, "code", &code, err));
    CLV_TRY(clv_json_need_text(&r, "message", &message, err));
    CLV_TRY(clv_json_done(&r, err));
    clv_status status = clv_status_of_slug(code);
    if (status == CLV_STATUS_COUNT || status == CLV_OK)
        return clv_fail(err, CLV_FRAME_FORMAT, "expected a fault of a known code, found \"%.40s\"",
                        code);
    return clv_fail(err, status, "%s", message);
}

static clv_status read_answer(int fd, clv_message *answer, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_frame_type type;
    CLV_TRY(clv_frame_read(fd, &type, &text, err));
    if (type == CLV_FRAME_FAULT)
        return clv_fail_as_fault(clv_buf_bytes(&text), err);
    if (type != CLV_FRAME_RESULT)
        return clv_fail(err, CLV_FRAME_TYPE, "expected a result or a fault, found type %d", type);
    CLV_TRY(read_json(clv_buf_bytes(&text), &answer->json, err));
    return read_data(fd, &answer->data, err);
}

clv_status clv_call(int fd, const json_t *call, clv_bytes data, clv_message *answer, clv_error *err)
{
    CLV_TRY(write_json(fd, CLV_FRAME_CALL, call, err));
    CLV_TRY(write_data(fd, data, err));
    return read_answer(fd, answer, err);
}

clv_status clv_call_once(const char *address, int timeout_ms, const char *op, clv_bytes data,
                         clv_message *answer, clv_error *err)
{
    clv_address to;
    clv_auto(clv_fd) fd = -1;
    clv_auto(clv_json) call = json_pack("{s:s}", "op", op);
    CLV_TRY(clv_address_parse(address, &to, err));
    CLV_TRY(clv_dial(&to, timeout_ms, &fd, err));
    return clv_call(fd, call, data, answer, err);
}

clv_status clv_call_read(int fd, clv_message *call, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    clv_frame_type type;
    CLV_TRY(clv_frame_read(fd, &type, &text, err));
    if (type != CLV_FRAME_CALL)
        return clv_fail(err, CLV_FRAME_TYPE, "expected a call, found type %d", type);
    CLV_TRY(read_json(clv_buf_bytes(&text), &call->json, err));
    return read_data(fd, &call->data, err);
}

clv_status clv_call_answer(int fd, const json_t *result, clv_bytes data, clv_error *err)
{
    CLV_TRY(write_json(fd, CLV_FRAME_RESULT, result, err));
    return write_data(fd, data, err);
}

clv_status clv_call_fault(int fd, const clv_error *fault, clv_error *err)
{
    clv_auto(clv_json) json =
        json_pack("{s:s, s:s}", "code", clv_status_slug(fault->code), "message", fault->text);
    /* A sentence that quotes bytes from outside may not be UTF-8: its code says enough. */
    if (json == NULL)
        json = json_pack("{s:s, s:s}", "code", clv_status_slug(fault->code), "message",
                         clv_status_text(fault->code));
    if (json == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a fault");
    return write_json(fd, CLV_FRAME_FAULT, json, err);
}

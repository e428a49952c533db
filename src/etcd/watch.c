/* Waiting for a change: one watch of etcd's, which answers a line of JSON for each event. */
#include <etcd/kv.h>

/* An event carries the pair. */
#define LINE_MAX 65536

/* Anything but the news that the watch was made is a reason to look. */
static bool is_news(const clv_buf *line)
{
    clv_auto(clv_json) json = NULL;
    if (clv_json_parse(clv_buf_bytes(line), LINE_MAX, &json, NULL) != CLV_OK)
        return true;
    const json_t *result = json_object_get(json, "result");
    return result == NULL || json_is_true(json_object_get(result, "canceled")) ||
           json_array_size(json_object_get(result, "events")) > 0;
}

static bool take(void *with, clv_bytes piece)
{
    clv_buf *line = with;
    for (size_t i = 0; i < piece.n; i++) {
        if (piece.p[i] != '\n' && clv_buf_u8(line, piece.p[i], NULL) != CLV_OK)
            return true;
        if (piece.p[i] != '\n')
            continue;
        if (is_news(line))
            return true;
        line->n = 0;
    }
    return false;
}

clv_status clv_etcd_watch(clv_etcd *etcd, const char *what, const char *name, int64_t revision,
                          int timeout_ms, clv_error *err)
{
    clv_auto(clv_buf) line = CLV_BUF_LIMITED(LINE_MAX);
    json_t *create;
    CLV_TRY(clv_etcd_key_object(etcd, what, name, false, &create, err));
    clv_etcd_set_integer(create, "start_revision", revision + 1);
    return clv_etcd_follow(etcd, "watch", json_pack("{s:o}", "create_request", create), timeout_ms,
                           take, &line, err);
}

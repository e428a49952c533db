/* Where in a JSON text a reader stopped: the path of the member, for error sentences. */
#include <base/json.h>

/* Bytes of one name that a path shows. */
#define NAME_SHOWN 64

/* One object or array that is open. */
typedef struct level {
    bool array, wants_name;
    size_t index;
    clv_bytes name; /* as written, escapes and all */
} level;

typedef struct place {
    level at[CLV_JSON_DEPTH + 1];
    size_t depth;
} place;

/* The text behind a string's opening quote: what is in it. False where it does not end. */
static bool take_string(clv_cursor *c, clv_bytes *out)
{
    clv_bytes taken;
    for (size_t n = 0; n < c->rest.n; n++) {
        if (c->rest.p[n] == '\\')
            n++;
        else if (c->rest.p[n] == '"')
            return clv_cursor_take(c, n, out, NULL) == CLV_OK &&
                   clv_cursor_take(c, 1, &taken, NULL) == CLV_OK;
    }
    return false;
}

static bool take_name(place *p, clv_cursor *c)
{
    clv_bytes text;
    if (!take_string(c, &text))
        return false;
    if (p->depth > 0 && p->at[p->depth - 1].wants_name)
        p->at[p->depth - 1].name = text;
    return true;
}

/* One character of the text. False: as far as the path can be followed. */
static bool step(place *p, uint8_t character, clv_cursor *rest)
{
    level *top = p->depth > 0 ? &p->at[p->depth - 1] : NULL;
    switch (character) {
    case '"':
        return take_name(p, rest);
    case '{':
    case '[':
        if (p->depth > CLV_JSON_DEPTH)
            return false;
        p->at[p->depth++] = (level){.array = character == '[', .wants_name = character == '{'};
        return true;
    case '}':
    case ']':
        p->depth -= top != NULL;
        return true;
    case ',':
        if (top != NULL && top->array)
            top->index++;
        else if (top != NULL)
            top->wants_name = true;
        return true;
    case ':':
        if (top != NULL)
            top->wants_name = false;
        return true;
    default:
        return true;
    }
}

static clv_status append_name(clv_buf *path, clv_bytes name)
{
    if (path->n > 0)
        CLV_TRY(clv_buf_append_text(path, ".", NULL));
    for (size_t i = 0; i < name.n && i < NAME_SHOWN; i++) {
        bool shown = name.p[i] > ' ' && name.p[i] < 0x7f;
        CLV_TRY(clv_buf_append(path, shown ? CLV_BYTES(&name.p[i], 1) : clv_bytes_of("?"), NULL));
    }
    return CLV_OK;
}

void clv_json_place(clv_bytes text, size_t end, char *out, size_t size)
{
    place p = {.depth = 0};
    clv_cursor c = clv_cursor_of(CLV_BYTES(text.p, end < text.n ? end : text.n));
    uint8_t character;
    while (clv_cursor_u8(&c, &character, NULL) == CLV_OK && step(&p, character, &c))
        ;
    clv_auto(clv_buf) path = CLV_BUF_LIMITED(size - 1);
    clv_status status = CLV_OK;
    for (size_t i = 0; i < p.depth && status == CLV_OK; i++) {
        if (p.at[i].array)
            status = clv_buf_printf(&path, NULL, "[%zu]", p.at[i].index);
        else if (p.at[i].name.n > 0)
            status = append_name(&path, p.at[i].name);
    }
    if (path.n > 0)
        memcpy(out, path.p, path.n);
    out[path.n] = '\0';
}

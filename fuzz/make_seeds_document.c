/* Seeds for fuzz_document: right documents and some wrong in one way, into a folder. */
#include <stdio.h>

#include <base/file.h>
#include <maker.h>

static const maker_knobs seeds[] = {
    {.cut = 0},
    {.prefix = "d2"},
    {.indefinite = true},
    {.nitrotpm = true},
    {.field[FIELD_NONCE].omit = true, .field[FIELD_USER_DATA].as = AS_NULL},
    {.field[FIELD_PCRS].size = SIZE(32)},
    {.field[FIELD_PUBLIC_KEY].size = SIZE(1024)},
    {.bundle = BUNDLE_ROOT_ONLY},
    {.certificate[MAKER_LEAF].key = KEY_EXPLICIT},
    {.certificate[MAKER_LEAF].extension = EXTENSION_UNKNOWN_TWICE},
    {.certificate[1].extension = EXTENSION_NAME_CONSTRAINTS_CRITICAL},
    {.signature = SIGNATURE_FLIPPED},
};

static clv_status make_seed(const maker *m, const char *folder, size_t i, clv_error *err)
{
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    clv_auto(clv_buf) path = CLV_BUF_INIT;
    const char *text;
    uint8_t root[CLV_ROOT_DIGEST_SIZE];
    maker_make(m, &seeds[i], &document, root);
    CLV_TRY(clv_buf_printf(&path, err, "%s/%zu", folder, i));
    CLV_TRY(clv_buf_text(&path, &text, err));
    return clv_file_write(text, clv_buf_bytes(&document), 0644, err);
}

int main(int count, char **arguments)
{
    maker m;
    clv_error err = {0};
    if (count != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
        return CLV_EXIT_USAGE;
    }
    maker_start(&m);
    clv_status status = CLV_OK;
    for (size_t i = 0; status == CLV_OK && i < sizeof seeds / sizeof seeds[0]; i++)
        status = make_seed(&m, arguments[1], i, &err);
    maker_drop(&m);
    if (status != CLV_OK)
        fprintf(stderr, "%s: %s\n", arguments[0], err.text);
    return (int)clv_status_exit(status);
}

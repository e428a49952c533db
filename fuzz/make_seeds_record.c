/* One statement of each kind, which fuzz_record signs. */
#include <stdio.h>
#include <stdlib.h>

#include <base/cbor.h>

static clv_status put_statement(const char *kind, const char *name, clv_buf *out)
{
    static const uint8_t zeros[48];
    clv_error *err = NULL;
    CLV_TRY(clv_cbor_put_array(out, 8, err));
    CLV_TRY(clv_cbor_put_text(out, "claviger-witness-1", err));
    CLV_TRY(clv_cbor_put_text(out, kind, err));
    CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(zeros, 16), err));
    CLV_TRY(clv_cbor_put_text(out, name, err));
    CLV_TRY(clv_cbor_put_uint(out, 1, err));
    CLV_TRY(clv_cbor_put_bytes(out, CLV_BYTES(zeros, 48), err));
    CLV_TRY(clv_cbor_put_uint(out, UINT64_C(1795618533385), err));
    return clv_cbor_put_text(out, "uid 1", err);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"init", "state", "deleted", "root"};
    for (size_t i = 0; argc == 2 && i < sizeof kinds / sizeof kinds[0]; i++) {
        clv_auto(clv_buf) statement = CLV_BUF_INIT;
        char path[512];
        snprintf(path, sizeof path, "%s/record-%s", argv[1], kinds[i]);
        FILE *out = fopen(path, "w");
        if (out == NULL || put_statement(kinds[i], i > 0 ? "k/name" : "", &statement) != CLV_OK ||
            fwrite(statement.p, 1, statement.n, out) != statement.n || fclose(out) != 0)
            return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

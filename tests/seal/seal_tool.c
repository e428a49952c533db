/*
 * seal_tool seal HEXKEY ARN FRAME [KEY=VALUE…] < plaintext > message
 * seal_tool unseal HEXKEY < message > plaintext
 *
 * The format alone, with a data key that is given: for comparison with other implementations. The
 * encrypted data key of a message is the four bytes "none".
 */
#include <claviger/seal.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <base/file.h>

#define INPUT_MAX ((size_t)1024 * 1024 * 1024)

static clv_status write_out(void *to, clv_bytes piece, clv_error *err)
{
    if (fwrite(piece.p, 1, piece.n, to) != piece.n)
        return clv_fail(err, CLV_SYSTEM, "cannot write: %m");
    return CLV_OK;
}

static clv_status read_key(const char *hex, clv_secret **out, clv_error *err)
{
    CLV_TRY(clv_secret_new(CLV_SEAL_KEY_SIZE, out, err));
    return clv_hex_decode_exact(clv_bytes_of(hex), clv_secret_writable(*out), CLV_SEAL_KEY_SIZE,
                                err);
}

static clv_status read_input(clv_buf *input, clv_error *err)
{
    input->limit = INPUT_MAX;
    return clv_file_read("-", INPUT_MAX, input, err);
}

static clv_status seal(char **arguments, clv_error *err)
{
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) input = CLV_BUF_INIT;
    clv_auto(clv_context) context = CLV_CONTEXT_INIT;
    clv_auto_ptr(clv_sealer) sealer = NULL;
    CLV_TRY(read_key(arguments[0], &key, err));
    for (char **pair = arguments + 3; *pair != NULL; pair++) {
        char *value = strchr(*pair, '=');
        if (value == NULL)
            return clv_fail(err, CLV_USAGE, "expected KEY=VALUE, found \"%s\"", *pair);
        *value = '\0';
        CLV_TRY(clv_context_add(&context, *pair, value + 1, err));
    }
    CLV_TRY(read_input(&input, err));
    CLV_TRY(clv_sealer_new(key, arguments[1], clv_bytes_of("none"), &context,
                           (uint32_t)strtoul(arguments[2], NULL, 10), write_out, stdout, &sealer,
                           err));
    CLV_TRY(clv_sealer_update(sealer, clv_buf_bytes(&input), err));
    return clv_sealer_finish(sealer, err);
}

static clv_status unseal(char **arguments, clv_error *err)
{
    clv_auto_ptr(clv_secret) key = NULL;
    clv_auto(clv_buf) input = CLV_BUF_INIT;
    clv_auto(clv_seal_header) header = {0};
    clv_auto_ptr(clv_unsealer) unsealer = NULL;
    clv_bytes skipped;
    CLV_TRY(read_key(arguments[0], &key, err));
    CLV_TRY(read_input(&input, err));
    CLV_TRY(clv_seal_header_parse(clv_buf_bytes(&input), &header, err));
    CLV_TRY(clv_unsealer_new(key, &header, write_out, stdout, &unsealer, err));
    clv_cursor c = clv_cursor_of(clv_buf_bytes(&input));
    CLV_TRY(clv_cursor_take(&c, header.length, &skipped, err));
    CLV_TRY(clv_unsealer_update(unsealer, c.rest, err));
    return clv_unsealer_finish(unsealer, err);
}

int main(int argc, char **argv)
{
    clv_error err = {0};
    clv_status status = clv_secret_start(&err);
    if (status == CLV_OK && argc >= 5 && strcmp(argv[1], "seal") == 0)
        status = seal(argv + 2, &err);
    else if (status == CLV_OK && argc == 3 && strcmp(argv[1], "unseal") == 0)
        status = unseal(argv + 2, &err);
    else if (status == CLV_OK)
        status = clv_fail(&err, CLV_USAGE, "expected seal or unseal with their arguments");
    if (status != CLV_OK)
        fprintf(stderr, "seal_tool: %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

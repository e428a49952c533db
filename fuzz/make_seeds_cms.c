/* Seeds for fuzz_cms: every shape in which KMS may answer, into a folder. */
#include <stdio.h>

#include <openssl/rsa.h>

#include <base/crypto.h>
#include <base/file.h>
#include <cms_writer.h>

#define SHAPES 24

static clv_status make_seed(EVP_PKEY *key, const char *folder, unsigned i, clv_error *err)
{
    const cms_shape shape = {.definite = (i & 1) != 0,
                             .long_lengths = (i & 2) != 0,
                             .no_null = (i & 4) != 0,
                             .form = (cms_content_form)(i / 8)};
    clv_auto(clv_buf) cms = CLV_BUF_INIT;
    clv_auto(clv_buf) path = CLV_BUF_INIT;
    const char *text;
    cms_write(&shape, key, clv_bytes_of("thirty-two bytes of a data key.."), &cms);
    CLV_TRY(clv_buf_printf(&path, err, "%s/%u", folder, i));
    CLV_TRY(clv_buf_text(&path, &text, err));
    return clv_file_write(text, clv_buf_bytes(&cms), 0644, err);
}

int main(int count, char **arguments)
{
    clv_error err = {0};
    if (count != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
        return CLV_EXIT_USAGE;
    }
    clv_auto(clv_pkey) key = EVP_RSA_gen(2048);
    clv_status status = key != NULL ? CLV_OK : clv_fail(&err, CLV_INTERNAL, "no RSA key");
    for (unsigned i = 0; status == CLV_OK && i < SHAPES; i++)
        status = make_seed(key, arguments[1], i, &err);
    if (status != CLV_OK)
        fprintf(stderr, "%s: %s\n", arguments[0], err.text);
    return (int)clv_status_exit(status);
}

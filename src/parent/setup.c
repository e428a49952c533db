#include <parent/setup.h>

#include <stdio.h>

#include <base/file.h>
#include <channel/frame.h>

#define REQUEST_MAX 16384
/* Vouching and a KMS call, retries included. */
#define TIMEOUT_MS 60000

typedef struct setup_answer {
    const char *key;
    clv_buf blob;
} setup_answer;

/* What the enclave answered; the parent keeps it and does not need to understand it. */
static clv_status read_answer(const json_t *json, setup_answer *out, clv_error *err)
{
    clv_json_reader r;
    const char *key_id, *blob;
    json_t *context;
    CLV_TRY(clv_json_open(&r, json, "", err));
    CLV_TRY(clv_json_need_text(&r, "key", &out->key, err));
    CLV_TRY(clv_json_need_text(&r, "keyId", &key_id, err));
    CLV_TRY(clv_json_need_value(&r, "encryptionContext", &context, err));
    CLV_TRY(clv_json_need_text(&r, "ciphertextBlob", &blob, err));
    CLV_TRY(clv_json_done(&r, err));
    if (out->key[0] == '\0' || strlen(out->key) > CLV_STORE_NAME_MAX)
        return clv_fail(err, CLV_JSON_VALUE, "key: expected 1 to %d bytes, found %zu",
                        CLV_STORE_NAME_MAX, strlen(out->key));
    return clv_base64_decode(clv_bytes_of(blob), &out->blob, err);
}

static clv_status ask(const clv_setup_options *options, clv_message *answer, clv_error *err)
{
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(options->request, REQUEST_MAX, &request, err));
    return clv_call_once(options->enclave, TIMEOUT_MS, "setup", clv_buf_bytes(&request), answer,
                         err);
}

static clv_status keep(const clv_setup_options *options, const clv_message *answer,
                       const setup_answer *read, clv_error *err)
{
    clv_auto_ptr(clv_store) store = NULL;
    CLV_TRY(clv_store_open(options->store, &store, err));
    CLV_TRY(clv_store_key_put(store, read->key, clv_buf_bytes(&read->blob), err));
    if (options->document == NULL)
        return CLV_OK;
    return clv_file_write(options->document, clv_buf_bytes(&answer->data), 0644, err);
}

clv_status clv_setup_run(const clv_setup_options *options, clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    setup_answer read = {NULL, CLV_BUF_INIT};
    CLV_TRY(ask(options, &answer, err));
    clv_status status = read_answer(answer.json, &read, err);
    if (status == CLV_OK)
        status = keep(options, &answer, &read, err);
    clv_buf_drop(&read.blob);
    CLV_TRY(status);
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_json_append(&text, answer.json, err));
    printf("%.*s\n", (int)text.n, (const char *)text.p);
    return CLV_OK;
}

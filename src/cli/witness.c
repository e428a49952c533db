/* claviger witness: the first use of a freshness witness, and how it stands (docs/freshness.md). */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/pem.h>

#include <base/crypto.h>
#include <base/file.h>
#include <cli/agent.h>
#include <cli/command.h>

#define CERTIFICATE_MAX 16384

typedef struct settings {
    const char *agent, *key, *document, *receipt;
} settings;

static clv_status call(const settings *s, const char *method, const char *path, const char *name,
                       clv_bytes body, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) full = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_buf_append_text(&full, path, err));
    CLV_TRY(clv_agent_query(&full, "key", s->key, err));
    CLV_TRY(clv_agent_query(&full, "name", name, err));
    CLV_TRY(clv_buf_text(&full, &text, err));
    return clv_agent_send(s->agent, method, text, body, out, err);
}

static clv_status print_json(const json_t *json, clv_error *err)
{
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (text == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for an answer");
    puts(text);
    free(text);
    return CLV_OK;
}

/* A member in base64, decoded. */
static clv_status member(const json_t *answer, const char *name, clv_buf *out, clv_error *err)
{
    const char *text = json_string_value(json_object_get(answer, name));
    if (text == NULL)
        return clv_fail(err, CLV_FRAME_FORMAT, "the daemon's answer has no member \"%s\"", name);
    return clv_base64_decode(clv_bytes_of(text), out, err);
}

static clv_status keep_document(const settings *s, const json_t *answer, clv_error *err)
{
    clv_auto(clv_buf) document = CLV_BUF_INIT;
    if (s->document == NULL)
        return CLV_OK;
    CLV_TRY(member(answer, "document", &document, err));
    return clv_file_write(s->document, clv_buf_bytes(&document), 0644, err);
}

static clv_status status(const settings *s, const char *operand, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    (void)operand;
    CLV_TRY(clv_agent_call(s->agent, "GET", "/v1/witness", &answer, err));
    return print_json(answer, err);
}

static clv_status init(const settings *s, const char *operand, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    (void)operand;
    CLV_TRY(call(s, "POST", "/v1/witness/init", NULL, CLV_BYTES(NULL, 0), &answer, err));
    CLV_TRY(keep_document(s, answer, err));
    const char *record = json_string_value(json_object_get(answer, "record"));
    if (record == NULL)
        return clv_fail(err, CLV_FRAME_FORMAT, "the daemon's answer has no record");
    if (s->receipt != NULL)
        return clv_file_write(s->receipt, clv_bytes_of(record), 0600, err);
    puts(record);
    return CLV_OK;
}

static clv_status csr(const settings *s, const char *operand, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    clv_auto(clv_buf) der = CLV_BUF_INIT;
    (void)operand;
    CLV_TRY(call(s, "POST", "/v1/witness/csr", NULL, CLV_BYTES(NULL, 0), &answer, err));
    CLV_TRY(member(answer, "csr", &der, err));
    CLV_TRY(keep_document(s, answer, err));
    if (PEM_write(stdout, PEM_STRING_X509_REQ, "", der.p, (long)der.n) <= 0)
        return clv_fail(err, CLV_SYSTEM, "standard output cannot be written");
    return CLV_OK;
}

static clv_status certificate(const settings *s, const char *operand, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    clv_auto(clv_buf) pem = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(operand, CERTIFICATE_MAX, &pem, err));
    CLV_TRY(call(s, "PUT", "/v1/witness/certificate", NULL, clv_buf_bytes(&pem), &answer, err));
    return print_json(answer, err);
}

static clv_status adopt(const settings *s, const char *operand, clv_error *err)
{
    clv_auto(clv_json) answer = NULL;
    CLV_TRY(call(s, "POST", "/v1/witness/adopt", operand, CLV_BYTES(NULL, 0), &answer, err));
    return print_json(answer, err);
}

static const struct {
    const char *name;
    bool operand;
    clv_status (*run)(const settings *s, const char *operand, clv_error *err);
} act_table[] = {
    {"status", false, status},          {"init", false, init},  {"csr", false, csr},
    {"certificate", true, certificate}, {"adopt", true, adopt},
};

static clv_status take_agent(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->agent = value;
    return CLV_OK;
}

static clv_status take_key(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->key = value;
    return CLV_OK;
}

static clv_status take_document(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->document = value;
    return CLV_OK;
}

static clv_status take_receipt(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->receipt = value;
    return CLV_OK;
}

static const clv_option options[] = {
    {"agent", "ADDRESS", "the daemon's agent socket (" CLV_AGENT_ADDRESS ")", take_agent},
    {"key", "KEY", "the policy's key; not needed where it has only one", take_key},
    {"document", "FILE", "csr, init: keep the attestation document here", take_document},
    {"receipt", "FILE", "init: keep the init receipt here, else it is printed", take_receipt},
    {NULL, NULL, NULL, NULL},
};

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {.agent = CLV_AGENT_ADDRESS};
    int operand;
    CLV_TRY(clv_command_options(&clv_command_witness, count, arguments, &s, 1, 2, &operand, err));
    for (size_t i = 0; i < sizeof act_table / sizeof act_table[0]; i++) {
        if (strcmp(act_table[i].name, arguments[operand]) != 0)
            continue;
        if ((count - operand == 2) != act_table[i].operand)
            return clv_fail(err, CLV_USAGE, "witness %s: expected %s operand, found %s",
                            act_table[i].name, act_table[i].operand ? "one" : "no",
                            act_table[i].operand ? "none" : "one");
        return act_table[i].run(&s, arguments[count - 1], err);
    }
    return clv_fail(err, CLV_USAGE,
                    "witness: expected status, init, csr, certificate or adopt, found \"%.40s\"",
                    arguments[operand]);
}

const clv_command clv_command_witness = {
    "witness",
    "status|init|csr|certificate FILE|adopt NAME",
    "The freshness witness: how it stands, and its first use",
    options,
    run,
};

/* claviger inspect: what a document says, believed or not. */
#include <cli/command.h>

#include <stdio.h>

#include <cli/input.h>
#include <cli/report.h>

typedef struct settings {
    bool json;
} settings;

static clv_status take_json(void *into, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)into)->json = true;
    return CLV_OK;
}

static const clv_option options[] = {
    {"json", NULL, "print JSON", take_json},
    {NULL, NULL, NULL, NULL},
};

static clv_status print_as_json(const clv_document *document, const char *form, clv_error *err)
{
    clv_auto(clv_json) object = NULL;
    json_t *chain;
    CLV_TRY(clv_report_document(document, &object, err));
    CLV_TRY(clv_report_chain(document, &chain, err));
    if (json_object_set_new(object, "chain", chain) != 0 ||
        json_object_set_new(object, "verified", json_false()) != 0 ||
        json_object_set_new(object, "form", json_string(form)) != 0 ||
        json_object_set_new(object, "tagged", json_boolean(document->tagged)) != 0)
        return clv_fail(err, CLV_NO_MEMORY, "a JSON value cannot be made");
    return clv_print_json(object, err);
}

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {0};
    int operand;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    const char *form;
    clv_document document;
    CLV_TRY(clv_command_options(&clv_command_inspect, count, arguments, &s, 1, 1, &operand, err));
    CLV_TRY(clv_input_read(arguments[operand], &bytes, &form, err));
    CLV_TRY(clv_document_parse(clv_buf_bytes(&bytes), &document, err));
    if (s.json)
        return print_as_json(&document, form, err);

    clv_print_line("NOT VERIFIED", "what the document says; `claviger verify` says whether it is "
                                   "true");
    clv_print_line("input", "%s, %zu bytes%s", form, bytes.n,
                   document.tagged ? ", CBOR tag 18" : "");
    CLV_TRY(clv_print_document(&document, err));
    return clv_print_chain(&document, err);
}

const clv_command clv_command_inspect = {
    "inspect", "FILE|-", "Show what an attestation document says, without verifying it",
    options,   run,
};

#include <enclave/control.h>

#include <base/log.h>
#include <enclave/overview.h>

/* What the parent keeps: the wrapped key and the evidence. */
static clv_status answer_setup(void *with, const clv_key_facts *facts, clv_error *err)
{
    clv_message *answer = with;
    answer->json =
        json_pack("{s:s, s:s, s:o, s:o}", "key", facts->key->name, "keyId", facts->key->key_arn,
                  "encryptionContext", clv_context_json(facts->context), "ciphertextBlob",
                  clv_json_base64(facts->encrypted_key));
    if (answer->json == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the answer");
    return clv_buf_append(&answer->data, facts->document, err);
}

static clv_status setup(clv_enclave *enclave, const clv_message *call, clv_message *answer,
                        clv_error *err)
{
    clv_bytes request = clv_buf_bytes(&call->data);
    clv_status status = clv_vault_setup(enclave->vault, request, answer_setup, answer, err);
    if (clv_keeper_can_help(status) && clv_keeper_refresh(enclave->keeper, NULL) == CLV_OK)
        status = clv_vault_setup(enclave->vault, request, answer_setup, answer, err);
    return status;
}

static clv_status status_of(clv_enclave *enclave, const clv_message *call, clv_message *answer,
                            clv_error *err)
{
    (void)call;
    answer->json = clv_overview_json(enclave);
    return answer->json != NULL ? CLV_OK : clv_fail(err, CLV_NO_MEMORY, "no memory for the answer");
}

/* What it renews, the parent gives; what it finds is the enclave's to judge. */
static clv_status reload(clv_enclave *enclave, const clv_message *call, clv_message *answer,
                         clv_error *err)
{
    (void)call;
    CLV_TRY(clv_reload(enclave, err));
    answer->json = json_object();
    return answer->json != NULL ? CLV_OK : clv_fail(err, CLV_NO_MEMORY, "no memory for the answer");
}

static const struct {
    const char *op;
    bool data; /* whether the call carries data */
    clv_status (*answer)(clv_enclave *enclave, const clv_message *call, clv_message *answer,
                         clv_error *err);
} op_table[] = {
    {"setup", true, setup},
    {"status", false, status_of},
    {"reload", false, reload},
};

static clv_status dispatch(clv_enclave *enclave, const clv_message *call, clv_message *answer,
                           clv_error *err)
{
    clv_json_reader r;
    const char *op = NULL;
    CLV_TRY(clv_json_open(&r, call->json, "", err));
    CLV_TRY(clv_json_need_text(&r, "op", &op, err));
    CLV_TRY(clv_json_done(&r, err));
    for (size_t i = 0; i < sizeof op_table / sizeof op_table[0]; i++) {
        if (strcmp(op_table[i].op, op) != 0)
            continue;
        if (!op_table[i].data && call->data.n > 0)
            return clv_fail(err, CLV_REQUEST_FORMAT, "%s: expected no data, found %zu bytes", op,
                            call->data.n);
        return op_table[i].answer(enclave, call, answer, err);
    }
    return clv_fail(err, CLV_REQUEST_FORMAT,
                    "op: expected setup, status or reload, found \"%.40s\"", op);
}

clv_status clv_control_answer(void *with, const clv_message *call, clv_message *answer,
                              clv_error *err)
{
    clv_enclave *enclave = with;
    char operation[CLV_OPERATION_ID_SIZE];
    clv_operation_id(operation);
    atomic_fetch_add(&enclave->metrics.control_calls, 1);
    clv_error fault = {.code = CLV_OK};
    clv_status status = dispatch(enclave, call, answer, &fault);
    if (status == CLV_OK) {
        clv_log(CLV_LOG_INFO, "control.answered", operation, "a call of the parent");
        return CLV_OK;
    }
    atomic_fetch_add(&enclave->metrics.control_faults, 1);
    clv_log_failure(CLV_LOG_WARNING, "control.refused", operation, &fault);
    if (err != NULL)
        *err = fault;
    return status;
}

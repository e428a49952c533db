#include <sim/kms/ops.h>

static const clv_kms_operation OPERATIONS[] = {
    {"CreateKey", clv_op_create_key, CLV_OP_CHANGES},
    {"Decrypt", clv_op_decrypt, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"DescribeKey", clv_op_describe_key, CLV_OP_READS},
    {"Encrypt", clv_op_encrypt, CLV_OP_READS},
    {"GenerateDataKey", clv_op_generate_data_key, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"GenerateDataKeyWithoutPlaintext", clv_op_generate_data_key_without_plaintext, CLV_OP_READS},
    {"GenerateRandom", clv_op_generate_random, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"GetKeyPolicy", clv_op_get_key_policy, CLV_OP_READS},
    {"PutKeyPolicy", clv_op_put_key_policy, CLV_OP_CHANGES},
};

const clv_kms_operation *clv_kms_operation_of(const char *name)
{
    for (size_t i = 0; i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++) {
        if (strcmp(OPERATIONS[i].name, name) == 0)
            return &OPERATIONS[i];
    }
    return NULL;
}

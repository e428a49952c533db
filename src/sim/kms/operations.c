#include <sim/kms/ops.h>

static const clv_kms_operation OPERATIONS[] = {
    {"CancelKeyDeletion", clv_op_cancel_key_deletion, CLV_OP_CHANGES},
    {"CreateAlias", clv_op_create_alias, CLV_OP_CHANGES},
    {"CreateGrant", clv_op_create_grant, CLV_OP_CHANGES},
    {"CreateKey", clv_op_create_key, CLV_OP_CHANGES},
    {"Decrypt", clv_op_decrypt, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"DeleteAlias", clv_op_delete_alias, CLV_OP_CHANGES},
    {"DeriveSharedSecret", clv_op_derive_shared_secret, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"DescribeKey", clv_op_describe_key, CLV_OP_READS},
    {"DisableKey", clv_op_disable_key, CLV_OP_CHANGES},
    {"DisableKeyRotation", clv_op_disable_key_rotation, CLV_OP_CHANGES},
    {"EnableKey", clv_op_enable_key, CLV_OP_CHANGES},
    {"EnableKeyRotation", clv_op_enable_key_rotation, CLV_OP_CHANGES},
    {"Encrypt", clv_op_encrypt, CLV_OP_READS},
    {"GenerateDataKey", clv_op_generate_data_key, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"GenerateDataKeyPair", clv_op_generate_data_key_pair, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"GenerateDataKeyPairWithoutPlaintext", clv_op_generate_data_key_pair_without_plaintext,
     CLV_OP_READS},
    {"GenerateDataKeyWithoutPlaintext", clv_op_generate_data_key_without_plaintext, CLV_OP_READS},
    {"GenerateMac", clv_op_generate_mac, CLV_OP_READS},
    {"GenerateRandom", clv_op_generate_random, CLV_OP_READS | CLV_OP_RECIPIENT},
    {"GetKeyPolicy", clv_op_get_key_policy, CLV_OP_READS},
    {"GetKeyRotationStatus", clv_op_get_key_rotation_status, CLV_OP_READS},
    {"GetPublicKey", clv_op_get_public_key, CLV_OP_READS},
    {"ListAliases", clv_op_list_aliases, CLV_OP_READS},
    {"ListGrants", clv_op_list_grants, CLV_OP_READS},
    {"ListKeyPolicies", clv_op_list_key_policies, CLV_OP_READS},
    {"ListKeyRotations", clv_op_list_key_rotations, CLV_OP_READS},
    {"ListKeys", clv_op_list_keys, CLV_OP_READS},
    {"ListResourceTags", clv_op_list_resource_tags, CLV_OP_READS},
    {"ListRetirableGrants", clv_op_list_retirable_grants, CLV_OP_READS},
    {"PutKeyPolicy", clv_op_put_key_policy, CLV_OP_CHANGES},
    {"ReEncrypt", clv_op_re_encrypt, CLV_OP_READS},
    {"RetireGrant", clv_op_retire_grant, CLV_OP_CHANGES},
    {"RevokeGrant", clv_op_revoke_grant, CLV_OP_CHANGES},
    {"RotateKeyOnDemand", clv_op_rotate_key_on_demand, CLV_OP_CHANGES},
    {"ScheduleKeyDeletion", clv_op_schedule_key_deletion, CLV_OP_CHANGES},
    {"Sign", clv_op_sign, CLV_OP_READS},
    {"TagResource", clv_op_tag_resource, CLV_OP_CHANGES},
    {"UntagResource", clv_op_untag_resource, CLV_OP_CHANGES},
    {"UpdateAlias", clv_op_update_alias, CLV_OP_CHANGES},
    {"UpdateKeyDescription", clv_op_update_key_description, CLV_OP_CHANGES},
    {"Verify", clv_op_verify, CLV_OP_READS},
    {"VerifyMac", clv_op_verify_mac, CLV_OP_READS},
};

const clv_kms_operation *clv_kms_operation_of(const char *name)
{
    for (size_t i = 0; i < sizeof OPERATIONS / sizeof OPERATIONS[0]; i++) {
        if (strcmp(OPERATIONS[i].name, name) == 0)
            return &OPERATIONS[i];
    }
    return NULL;
}

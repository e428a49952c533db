/* Every operation's function; operations.c has the table of their names. */
#ifndef CLV_SIM_KMS_OPS_H
#define CLV_SIM_KMS_OPS_H

#include <sim/kms/call.h>

clv_status clv_op_cancel_key_deletion(clv_call *call, clv_error *err);
clv_status clv_op_create_alias(clv_call *call, clv_error *err);
clv_status clv_op_create_grant(clv_call *call, clv_error *err);
clv_status clv_op_create_key(clv_call *call, clv_error *err);
clv_status clv_op_decrypt(clv_call *call, clv_error *err);
clv_status clv_op_delete_alias(clv_call *call, clv_error *err);
clv_status clv_op_derive_shared_secret(clv_call *call, clv_error *err);
clv_status clv_op_describe_key(clv_call *call, clv_error *err);
clv_status clv_op_disable_key(clv_call *call, clv_error *err);
clv_status clv_op_disable_key_rotation(clv_call *call, clv_error *err);
clv_status clv_op_enable_key(clv_call *call, clv_error *err);
clv_status clv_op_enable_key_rotation(clv_call *call, clv_error *err);
clv_status clv_op_encrypt(clv_call *call, clv_error *err);
clv_status clv_op_generate_data_key(clv_call *call, clv_error *err);
clv_status clv_op_generate_data_key_pair(clv_call *call, clv_error *err);
clv_status clv_op_generate_data_key_pair_without_plaintext(clv_call *call, clv_error *err);
clv_status clv_op_generate_data_key_without_plaintext(clv_call *call, clv_error *err);
clv_status clv_op_generate_mac(clv_call *call, clv_error *err);
clv_status clv_op_generate_random(clv_call *call, clv_error *err);
clv_status clv_op_get_key_policy(clv_call *call, clv_error *err);
clv_status clv_op_get_key_rotation_status(clv_call *call, clv_error *err);
clv_status clv_op_get_public_key(clv_call *call, clv_error *err);
clv_status clv_op_list_aliases(clv_call *call, clv_error *err);
clv_status clv_op_list_grants(clv_call *call, clv_error *err);
clv_status clv_op_list_key_policies(clv_call *call, clv_error *err);
clv_status clv_op_list_key_rotations(clv_call *call, clv_error *err);
clv_status clv_op_list_keys(clv_call *call, clv_error *err);
clv_status clv_op_list_resource_tags(clv_call *call, clv_error *err);
clv_status clv_op_list_retirable_grants(clv_call *call, clv_error *err);
clv_status clv_op_put_key_policy(clv_call *call, clv_error *err);
clv_status clv_op_re_encrypt(clv_call *call, clv_error *err);
clv_status clv_op_retire_grant(clv_call *call, clv_error *err);
clv_status clv_op_revoke_grant(clv_call *call, clv_error *err);
clv_status clv_op_rotate_key_on_demand(clv_call *call, clv_error *err);
clv_status clv_op_schedule_key_deletion(clv_call *call, clv_error *err);
clv_status clv_op_sign(clv_call *call, clv_error *err);
clv_status clv_op_tag_resource(clv_call *call, clv_error *err);
clv_status clv_op_untag_resource(clv_call *call, clv_error *err);
clv_status clv_op_update_alias(clv_call *call, clv_error *err);
clv_status clv_op_update_key_description(clv_call *call, clv_error *err);
clv_status clv_op_verify(clv_call *call, clv_error *err);
clv_status clv_op_verify_mac(clv_call *call, clv_error *err);

/* Shared by several of them: KeyId, required. */
#define CLV_KEY_ID_MAX     2048 /* KMS API reference: KeyId, CiphertextBlob */
#define CLV_CIPHERTEXT_MAX 6144
CLV_NODISCARD clv_status clv_param_key_id(clv_call *call, const char **out, clv_error *err);

/* Tags as the API carries them: [{"TagKey", "TagValue"}], into the table and the conditions. */
/* A list of tags, or NULL, before any of it is stored. */
CLV_NODISCARD clv_status clv_tags_check(const json_t *tags, clv_error *err);
/* All of them or none: TagException when the key would have too many. */
CLV_NODISCARD clv_status clv_tags_add(clv_call *call, const char *key_id, const json_t *tags,
                                      clv_error *err);
CLV_NODISCARD clv_status clv_tags_condition(clv_call *call, const json_t *tags, clv_error *err);

/* EncryptionContext or its like: an object of texts within KMS's size. */
CLV_NODISCARD clv_status clv_param_context(clv_call *call, const char *name, const json_t **out,
                                           clv_error *err);
/* An algorithm that fits the key; `otherwise` (may be NULL) is the one meant when it is absent. */
CLV_NODISCARD clv_status clv_param_algorithm(clv_call *call, const char *name,
                                             const char *otherwise, const clv_key *key,
                                             const clv_algorithm **out, clv_error *err);

/* Under the newest material of a symmetric key. */
CLV_NODISCARD clv_status clv_data_encrypt(clv_call *call, const clv_key *key, const json_t *context,
                                          clv_bytes plaintext, clv_buf *out, clv_error *err);

/* What a caller says of a ciphertext, and in the name of which action it is opened. */
typedef struct clv_ciphertext_source {
    const char *algorithm;
    const char *key_id; /* NULL: the one that a symmetric ciphertext names */
    const json_t *context;
    const char *action;          /* as in clv_key_need */
    const char *grant_operation; /* as in clv_key_need */
} clv_ciphertext_source;

/* Finds the key, authorises, opens. */
CLV_NODISCARD clv_status clv_data_decrypt(clv_call *call, clv_bytes ciphertext,
                                          const clv_ciphertext_source *source, clv_key *key,
                                          clv_buf *plaintext, clv_error *err);
CLV_NODISCARD clv_status clv_require_symmetric(const clv_key *key, clv_error *err);

/* "EncryptionAlgorithms" or its like, as the key's usage has it, into an object. */
CLV_NODISCARD clv_status clv_key_algorithms(const clv_key *key, json_t *to, clv_error *err);

/* A list that is answered in pages (page.c). Rows are added in the order of their `order` text. */
typedef struct clv_page {
    clv_call *call;
    json_t *list; /* the answer's */
    int64_t limit;
    char after[512]; /* begin behind this one; "" at the start */
    char last[512];
} clv_page;

/* Reads Limit (at most max, `usual` when absent) and Marker; the list becomes the member. */
CLV_NODISCARD clv_status clv_page_start(clv_call *call, int64_t max, int64_t usual,
                                        const char *member, clv_page *out, clv_error *err);
bool clv_page_has_room(const clv_page *page);
/* Takes the row over. */
CLV_NODISCARD clv_status clv_page_add(clv_page *page, json_t *row, const char *order,
                                      clv_error *err);
CLV_NODISCARD clv_status clv_page_end(clv_page *page, bool truncated, clv_error *err);

#endif

/* Names of keys: aliases and tags, and the lists of keys. */
#include <sim/kms/ops.h>

#include <stdio.h>

#define ALIAS_MAX       256
#define KEYS_PAGE       1000
#define KEYS_PAGE_USUAL 100
#define PAGE            100
#define PAGE_USUAL      50
#define TAGS_PAGE       50

static clv_status read_alias_name(clv_call *call, const char **out, clv_error *err)
{
    CLV_TRY(clv_param_need_text(call, "AliasName", ALIAS_MAX, out, err));
    if (strspn(*out, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:/_-") !=
        strlen(*out))
        return clv_param_refuse(err, "AliasName", *out,
                                "Member must satisfy regular expression pattern: "
                                "^[a-zA-Z0-9:/_-]+$");
    if (strncmp(*out, "alias/", 6) != 0 || (*out)[6] == '\0')
        return clv_fail(err, CLV_KMS_INVALID_ALIAS_NAME,
                        "Alias must start with the prefix \"alias/\".");
    if (strncmp(*out, "alias/aws/", 10) == 0)
        return clv_fail(err, CLV_KMS_INVALID_ALIAS_NAME,
                        "Alias names with the prefix \"alias/aws/\" are reserved for AWS.");
    return clv_call_condition(call, "kms:RequestAlias", *out, err);
}

static clv_status target_key(clv_call *call, clv_key *out, clv_error *err)
{
    const char *id;
    CLV_TRY(clv_param_need_text(call, "TargetKeyId", CLV_KEY_ID_MAX, &id, err));
    const clv_key_need need = {.any_state = true};
    return clv_call_key(call, id, &need, out, err);
}

static clv_status alias_not_found(clv_call *call, const char *name, clv_error *err)
{
    return clv_fail(err, CLV_KMS_NOT_FOUND, "Alias arn:aws:kms:%s:%s:%s is not found.",
                    call->server->region, call->caller.account, name);
}

clv_status clv_op_create_alias(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *name;
    int changed;
    CLV_TRY(read_alias_name(call, &name, err));
    CLV_TRY(target_key(call, &key, err));
    CLV_TRY(clv_db_run(
        call->server->db, &changed, err, "INSERT OR IGNORE INTO aliases VALUES (?,?,?,?,?)",
        "tttii", call->caller.account, name, key.id, (int64_t)call->now_ms, (int64_t)call->now_ms));
    if (changed == 0)
        return clv_fail(err, CLV_KMS_ALREADY_EXISTS,
                        "An alias with the name arn:aws:kms:%s:%s:%s already exists",
                        call->server->region, call->caller.account, name);
    return CLV_OK;
}

clv_status clv_op_update_alias(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *name;
    int changed;
    CLV_TRY(read_alias_name(call, &name, err));
    CLV_TRY(target_key(call, &key, err));
    CLV_TRY(clv_db_run(call->server->db, &changed, err,
                       "UPDATE aliases SET key_id = ?, updated_ms = ?"
                       " WHERE account = ? AND name = ?",
                       "titt", key.id, (int64_t)call->now_ms, call->caller.account, name));
    return changed > 0 ? CLV_OK : alias_not_found(call, name, err);
}

clv_status clv_op_delete_alias(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const char *name;
    CLV_TRY(read_alias_name(call, &name, err));
    const clv_key_need need = {.any_state = true, .pending = true};
    CLV_TRY(clv_call_key(call, name, &need, &key, err));
    return clv_db_run(call->server->db, NULL, err,
                      "DELETE FROM aliases WHERE account = ? AND name = ?", "tt",
                      call->caller.account, name);
}

static json_t *alias_row(clv_call *call, clv_rows *rows)
{
    char arn[ALIAS_MAX + 64];
    snprintf(arn, sizeof arn, "arn:aws:kms:%s:%s:%s", call->server->region, call->caller.account,
             clv_rows_text(rows, 0));
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "AliasName", clv_rows_text(rows, 0), "AliasArn",
                     arn, "TargetKeyId", clv_rows_text(rows, 1), "CreationDate",
                     clv_timestamp((uint64_t)clv_rows_integer(rows, 2)), "LastUpdatedDate",
                     clv_timestamp((uint64_t)clv_rows_integer(rows, 3)));
}

clv_status clv_op_list_aliases(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    const char *id;
    clv_page page;
    bool more;
    CLV_TRY(clv_param_text(call, "KeyId", CLV_KEY_ID_MAX, &id, err));
    if (id != NULL)
        CLV_TRY(clv_call_find_key(call, id, &key, err));
    CLV_TRY(clv_call_authorise(call, err));
    CLV_TRY(clv_page_start(call, PAGE, PAGE_USUAL, "Aliases", &page, err));
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT name, key_id, created_ms, updated_ms FROM aliases"
                         " WHERE account = ?1 AND (?2 = '' OR key_id = ?2) AND name > ?3"
                         " ORDER BY name LIMIT ?4",
                         "ttti", call->caller.account, key.id, page.after, page.limit + 1));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more && clv_page_has_room(&page)) {
        CLV_TRY(clv_page_add(&page, alias_row(call, &rows), clv_rows_text(&rows, 0), err));
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return clv_page_end(&page, more, err);
}

clv_status clv_op_list_keys(clv_call *call, clv_error *err)
{
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    clv_page page;
    bool more;
    CLV_TRY(clv_call_authorise(call, err));
    CLV_TRY(clv_page_start(call, KEYS_PAGE, KEYS_PAGE_USUAL, "Keys", &page, err));
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT id FROM keys WHERE account = ? AND id > ?"
                         " AND (deletion_ms = 0 OR deletion_ms > ?) ORDER BY id LIMIT ?",
                         "ttii", call->caller.account, page.after, (int64_t)call->now_ms,
                         page.limit + 1));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more && clv_page_has_room(&page)) {
        char arn[160];
        const char *id = clv_rows_text(&rows, 0);
        snprintf(arn, sizeof arn, "arn:aws:kms:%s:%s:key/%s", call->server->region,
                 call->caller.account, id);
        CLV_TRY(clv_page_add(&page, json_pack("{s:s, s:s}", "KeyId", id, "KeyArn", arn), id, err));
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return clv_page_end(&page, more, err);
}

static clv_status tagged_key(clv_call *call, bool pending, clv_key *out, clv_error *err)
{
    const char *id;
    CLV_TRY(clv_param_key_id(call, &id, err));
    const clv_key_need need = {.any_state = true, .pending = pending};
    return clv_call_key(call, id, &need, out, err);
}

clv_status clv_op_tag_resource(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const json_t *tags = json_object_get(call->parameters, "Tags");
    if (!json_is_array(tags))
        return clv_param_refuse(err, "Tags", NULL, "Member must not be null");
    CLV_TRY(clv_tags_check(tags, err));
    CLV_TRY(clv_tags_condition(call, tags, err));
    CLV_TRY(tagged_key(call, false, &key, err));
    return clv_tags_add(call, key.id, tags, err);
}

clv_status clv_op_untag_resource(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    const json_t *names;
    CLV_TRY(clv_param_list(call, "TagKeys", &names, err));
    if (names == NULL)
        return clv_param_refuse(err, "TagKeys", NULL, "Member must not be null");
    for (size_t i = 0; i < json_array_size(names); i++)
        CLV_TRY(clv_call_condition(call, "aws:TagKeys", json_string_value(json_array_get(names, i)),
                                   err));
    CLV_TRY(tagged_key(call, false, &key, err));
    for (size_t i = 0; i < json_array_size(names); i++)
        CLV_TRY(clv_db_run(call->server->db, NULL, err,
                           "DELETE FROM tags WHERE key_id = ? AND name = ?", "tt", key.id,
                           json_string_value(json_array_get(names, i))));
    return CLV_OK;
}

clv_status clv_op_list_resource_tags(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_auto(clv_rows) rows = CLV_ROWS_INIT;
    clv_page page;
    bool more;
    CLV_TRY(tagged_key(call, true, &key, err));
    CLV_TRY(clv_page_start(call, TAGS_PAGE, TAGS_PAGE, "Tags", &page, err));
    CLV_TRY(clv_db_query(call->server->db, &rows, err,
                         "SELECT name, value FROM tags WHERE key_id = ? AND name > ?"
                         " ORDER BY name LIMIT ?",
                         "tti", key.id, page.after, page.limit + 1));
    CLV_TRY(clv_rows_next(&rows, &more, err));
    while (more && clv_page_has_room(&page)) {
        const char *name = clv_rows_text(&rows, 0);
        json_t *row = json_pack("{s:s, s:s}", "TagKey", name, "TagValue", clv_rows_text(&rows, 1));
        CLV_TRY(clv_page_add(&page, row, name, err));
        CLV_TRY(clv_rows_next(&rows, &more, err));
    }
    return clv_page_end(&page, more, err);
}

clv_status clv_op_list_key_policies(clv_call *call, clv_error *err)
{
    clv_auto(clv_key) key = CLV_KEY_INIT;
    clv_page page;
    CLV_TRY(tagged_key(call, true, &key, err));
    CLV_TRY(clv_page_start(call, KEYS_PAGE, KEYS_PAGE_USUAL, "PolicyNames", &page, err));
    CLV_TRY(clv_page_add(&page, json_string("default"), "default", err));
    return clv_page_end(&page, false, err);
}

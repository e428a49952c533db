#include <parent/credentials.h>

#include <stdlib.h>

#include <base/file.h>

#define FILE_PREFIX     "file:"
#define CREDENTIALS_MAX 16384

clv_status clv_credentials_source_check(const char *source, clv_error *err)
{
    if (strcmp(source, "env") == 0 ||
        (strncmp(source, FILE_PREFIX, strlen(FILE_PREFIX)) == 0 && source[strlen(FILE_PREFIX)]))
        return CLV_OK;
    return clv_fail(err, CLV_USAGE, "--credentials: expected env or file:PATH, found \"%.80s\"",
                    source);
}

static clv_status fetch_environment(clv_buf *out, clv_error *err)
{
    const char *id = getenv("AWS_ACCESS_KEY_ID"), *key = getenv("AWS_SECRET_ACCESS_KEY");
    if (id == NULL || key == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "environment: expected %s, found nothing",
                        id == NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
    clv_auto(clv_json) json = json_pack("{s:s, s:s, s:s*}", "AccessKeyId", id, "SecretAccessKey",
                                        key, "Token", getenv("AWS_SESSION_TOKEN"));
    if (json == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "environment: expected UTF-8, found other bytes");
    return clv_json_append(out, json, err);
}

/* Only the shape that makes it worth sending: the enclave checks every member. */
static clv_status check_file(const char *path, clv_bytes text, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    clv_json_reader r;
    const char *value;
    clv_status status = clv_json_parse(text, CREDENTIALS_MAX, &json, err);
    if (status == CLV_OK)
        status = clv_json_open(&r, json, "", err);
    if (status == CLV_OK)
        status = clv_json_need_text(&r, "AccessKeyId", &value, err);
    if (status == CLV_OK)
        status = clv_json_need_text(&r, "SecretAccessKey", &value, err);
    if (status == CLV_OK)
        return CLV_OK;
    if (err != NULL)
        err->code = CLV_KMS_CREDENTIALS;
    return clv_blame(err, CLV_KMS_CREDENTIALS, "%s", path);
}

clv_status clv_credentials_fetch(const char *source, clv_buf *out, clv_error *err)
{
    if (strcmp(source, "env") == 0)
        return fetch_environment(out, err);
    const char *path = source + strlen(FILE_PREFIX);
    CLV_TRY(clv_file_read(path, CREDENTIALS_MAX, out, err));
    return check_file(path, clv_buf_bytes(out), err);
}

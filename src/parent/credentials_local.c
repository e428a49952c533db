/* Sources that are on this machine: the environment, a file, the shared credentials file. */
#include <parent/credentials_sources.h>

#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>
#include <base/time.h>

#define SHARED_FILE_MAX ((size_t)256 * 1024)

clv_status clv_credentials_make(const char *id, const char *secret, const char *token,
                                const char *expiration, clv_buf *out, clv_error *err)
{
    clv_auto(clv_json) json =
        json_pack("{s:s, s:s, s:s*, s:s*}", "AccessKeyId", id, "SecretAccessKey", secret, "Token",
                  token, "Expiration", expiration);
    if (json == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "expected UTF-8, found other bytes");
    return clv_json_append(out, json, err);
}

static clv_status check_members(const json_t *json, uint64_t *expires_ms, clv_error *err)
{
    clv_json_reader r;
    const char *value, *code, *expiration;
    CLV_TRY(clv_json_open(&r, json, "", err));
    /* IMDS answers 200 with another Code when the role cannot be assumed. */
    CLV_TRY(clv_json_text(&r, "Code", &code, err));
    if (code != NULL && strcmp(code, "Success") != 0)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "Code: expected \"Success\", found \"%.60s\"",
                        code);
    CLV_TRY(clv_json_need_text(&r, "AccessKeyId", &value, err));
    CLV_TRY(clv_json_need_text(&r, "SecretAccessKey", &value, err));
    CLV_TRY(clv_json_text(&r, "Expiration", &expiration, err));
    *expires_ms = 0;
    if (expiration == NULL || clv_time_parse(expiration, expires_ms, NULL) == CLV_OK)
        return CLV_OK;
    return clv_fail(err, CLV_KMS_CREDENTIALS, "Expiration: expected a time, found another form");
}

clv_status clv_credentials_check(clv_bytes text, uint64_t *expires_ms, clv_error *err)
{
    clv_auto(clv_json) json = NULL;
    clv_status status = clv_json_parse(text, CLV_CREDENTIALS_MAX, &json, err);
    if (status == CLV_OK)
        status = check_members(json, expires_ms, err);
    if (status != CLV_OK && err != NULL)
        err->code = CLV_KMS_CREDENTIALS;
    return status == CLV_OK ? CLV_OK : CLV_KMS_CREDENTIALS;
}

clv_status clv_credentials_from_env(const char *argument, clv_buf *out, clv_error *err)
{
    (void)argument;
    const char *id = getenv("AWS_ACCESS_KEY_ID"), *key = getenv("AWS_SECRET_ACCESS_KEY");
    if (id == NULL || key == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "environment: expected %s, found nothing",
                        id == NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
    return clv_credentials_make(id, key, getenv("AWS_SESSION_TOKEN"), NULL, out, err);
}

clv_status clv_credentials_from_file(const char *argument, clv_buf *out, clv_error *err)
{
    uint64_t expires_ms;
    CLV_TRY(clv_file_read(argument, CLV_CREDENTIALS_MAX, out, err));
    clv_status status = clv_credentials_check(clv_buf_bytes(out), &expires_ms, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%s", argument);
}

/* AWS CLI user guide, "Configuration and credential file settings": sections in brackets, lines of
 * name = value, comments that begin with # or ;. */
static const char *const setting[] = {"aws_access_key_id", "aws_secret_access_key",
                                      "aws_session_token"};
enum { ID, SECRET, TOKEN, SETTINGS };

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1]) != NULL)
        text[--n] = '\0';
    return text;
}

/* The values point into text, which is cut up. */
static bool find_profile(char *text, const char *profile, const char *value[SETTINGS])
{
    bool inside = false, found = false;
    char *state = NULL;
    for (char *line = strtok_r(text, "\n", &state); line != NULL;
         line = strtok_r(NULL, "\n", &state)) {
        line = trim(line);
        size_t n = strlen(line);
        if (line[0] == '[' && line[n - 1] == ']') {
            line[n - 1] = '\0';
            inside = strcmp(trim(line + 1), profile) == 0;
            found = found || inside;
            continue;
        }
        char *equals = strchr(line, '=');
        if (!inside || equals == NULL || line[0] == '#' || line[0] == ';')
            continue;
        *equals = '\0';
        for (int i = 0; i < SETTINGS; i++) {
            if (strcmp(trim(line), setting[i]) == 0)
                value[i] = trim(equals + 1);
        }
    }
    return found;
}

static clv_status shared_file(char out[512], clv_error *err)
{
    const char *path = getenv("AWS_SHARED_CREDENTIALS_FILE"), *home = getenv("HOME");
    int n = path != NULL ? snprintf(out, 512, "%s", path)
                         : snprintf(out, 512, "%s/.aws/credentials", home != NULL ? home : "");
    if (n > 0 && n < 512)
        return CLV_OK;
    return clv_fail(err, CLV_KMS_CREDENTIALS, "the shared credentials file's name is too long");
}

clv_status clv_credentials_from_profile(const char *argument, clv_buf *out, clv_error *err)
{
    char path[512];
    const char *value[SETTINGS] = {NULL}, *profile = argument;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (*profile == '\0')
        profile = getenv("AWS_PROFILE") != NULL ? getenv("AWS_PROFILE") : "default";
    CLV_TRY(shared_file(path, err));
    CLV_TRY(clv_file_read(path, SHARED_FILE_MAX, &text, err));
    CLV_TRY(clv_buf_append(&text, CLV_BYTES("", 1), err));
    if (strlen((const char *)text.p) != text.n - 1)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "%s: expected text, found a NUL byte", path);
    if (!find_profile((char *)text.p, profile, value))
        return clv_fail(err, CLV_KMS_CREDENTIALS, "%s: expected a section [%.60s], found none",
                        path, profile);
    for (int i = ID; i <= SECRET; i++) {
        if (value[i] == NULL || value[i][0] == '\0')
            return clv_fail(err, CLV_KMS_CREDENTIALS, "%s, [%.60s]: expected %s, found nothing",
                            path, profile, setting[i]);
    }
    return clv_credentials_make(value[ID], value[SECRET], value[TOKEN], NULL, out, err);
}

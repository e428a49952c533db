/* Sources that are on this machine: the environment, a file, the shared credentials file. */
#include <parent/credentials_sources.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

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

const char *clv_credentials_variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

clv_status clv_credentials_from_env(const char *argument, clv_buf *out, clv_error *err)
{
    (void)argument;
    const char *id = clv_credentials_variable("AWS_ACCESS_KEY_ID");
    const char *key = clv_credentials_variable("AWS_SECRET_ACCESS_KEY");
    if (id == NULL || key == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "environment: expected %s, found nothing",
                        id == NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
    return clv_credentials_make(id, key, clv_credentials_variable("AWS_SESSION_TOKEN"), NULL, out,
                                err);
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

/* Settings that give credentials in ways that are not spoken here. */
static const char *const foreign[] = {"credential_process", "role_arn", "sso_session",
                                      "sso_start_url", "web_identity_token_file"};
#define FOREIGN (sizeof foreign / sizeof foreign[0])

typedef struct profile {
    bool found;
    const char *value[SETTINGS]; /* into the file's text, which is cut up */
    const char *foreign;         /* the first of those that it has; NULL: none */
} profile;

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1]) != NULL)
        text[--n] = '\0';
    return text;
}

static void take_setting(profile *p, char *line)
{
    char *equals = strchr(line, '=');
    if (equals == NULL || line[0] == '#' || line[0] == ';')
        return;
    *equals = '\0';
    const char *name = trim(line);
    for (int i = 0; i < SETTINGS; i++) {
        if (strcmp(name, setting[i]) == 0)
            p->value[i] = trim(equals + 1);
    }
    for (size_t i = 0; i < FOREIGN && p->foreign == NULL; i++) {
        if (strcmp(name, foreign[i]) == 0)
            p->foreign = foreign[i];
    }
}

static void find_section(char *text, const char *section, profile *out)
{
    bool inside = false;
    char *state = NULL;
    for (char *line = strtok_r(text, "\n", &state); line != NULL;
         line = strtok_r(NULL, "\n", &state)) {
        line = trim(line);
        size_t n = strlen(line);
        if (n > 1 && line[0] == '[' && line[n - 1] == ']') {
            line[n - 1] = '\0';
            inside = strcmp(trim(line + 1), section) == 0;
            out->found = out->found || inside;
        } else if (inside) {
            take_setting(out, line);
        }
    }
}

/* The two shared files; in the second a section is "profile NAME", but for the default one. */
static const struct shared_file {
    const char *variable, *name, *prefix;
} shared_files[] = {
    {"AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", ""},
    {"AWS_CONFIG_FILE", ".aws/config", "profile "},
};

static clv_status path_of(const struct shared_file *file, char out[512], clv_error *err)
{
    const char *path = clv_credentials_variable(file->variable), *home = getenv("HOME");
    int n = path != NULL ? snprintf(out, 512, "%s", path)
                         : snprintf(out, 512, "%s/%s", home != NULL ? home : "", file->name);
    if (n > 0 && n < 512)
        return CLV_OK;
    return clv_fail(err, CLV_KMS_CREDENTIALS, "the name of %s is too long", file->name);
}

bool clv_credentials_have_profile(void)
{
    char path[512];
    return clv_credentials_variable("AWS_PROFILE") != NULL ||
           clv_credentials_variable(shared_files[0].variable) != NULL ||
           (path_of(&shared_files[0], path, NULL) == CLV_OK && access(path, F_OK) == 0);
}

/* CLV_STATE_NOT_FOUND: this file has no keys of the profile, the other one may. */
static clv_status from_shared_file(const struct shared_file *file, const char *name, clv_buf *out,
                                   clv_error *err)
{
    char path[512], section[128];
    profile p = {.found = false};
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(path_of(file, path, err));
    if (access(path, F_OK) != 0)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "%s: expected a file, found none", path);
    CLV_TRY(clv_file_read(path, SHARED_FILE_MAX, &text, err));
    CLV_TRY(clv_buf_append(&text, CLV_BYTES("", 1), err));
    if (strlen((const char *)text.p) != text.n - 1)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "%s: expected text, found a NUL byte", path);
    snprintf(section, sizeof section, "%s%s", strcmp(name, "default") == 0 ? "" : file->prefix,
             name);
    find_section((char *)text.p, section, &p);
    if (!p.found)
        return clv_fail(err, CLV_STATE_NOT_FOUND, "%s: expected a section [%.60s], found none",
                        path, section);
    for (int i = ID; i <= SECRET; i++) {
        if (p.value[i] == NULL || p.value[i][0] == '\0')
            return clv_fail(err, CLV_STATE_NOT_FOUND, "%s, [%.60s]: expected %s, found %s", path,
                            section, setting[i], p.foreign != NULL ? p.foreign : "nothing");
    }
    return clv_credentials_make(p.value[ID], p.value[SECRET], p.value[TOKEN], NULL, out, err);
}

clv_status clv_credentials_from_profile(const char *argument, clv_buf *out, clv_error *err)
{
    const char *name = *argument != '\0' ? argument : clv_credentials_variable("AWS_PROFILE");
    clv_error first = {.code = CLV_OK}, second = {.code = CLV_OK};
    if (name == NULL)
        name = "default";
    clv_status status = from_shared_file(&shared_files[0], name, out, &first);
    if (status != CLV_STATE_NOT_FOUND)
        return status == CLV_OK ? CLV_OK : clv_fail(err, CLV_KMS_CREDENTIALS, "%s", first.text);
    status = from_shared_file(&shared_files[1], name, out, &second);
    if (status == CLV_OK)
        return CLV_OK;
    return clv_fail(err, CLV_KMS_CREDENTIALS, "%.240s; %.240s", first.text, second.text);
}

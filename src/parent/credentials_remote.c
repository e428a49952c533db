/* Sources that are asked over HTTP: IMDS, the containers' endpoints, STS. */
#include <parent/credentials_sources.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include <base/file.h>
#include <parent/http.h>

#define TIMEOUT_MS   5000
#define TOKEN_MAX    16384
#define ROLE_MAX     128 /* IAM: role names are 1 to 64 characters of [\w+=,.@-] */
#define IMDS         "http://169.254.169.254"
#define ECS          "http://169.254.170.2"
#define SESSION_NAME "claviger-parent"

/* A header or a part of a URL: no space, no line break, nothing beyond ASCII. */
static bool printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

/* An exchange that must end with 200; the sentence names the URL and never the body. */
static clv_status fetch(clv_http_request *r, clv_buf *answer, clv_error *err)
{
    long status = 0;
    r->timeout_ms = TIMEOUT_MS;
    r->answer_max = CLV_CREDENTIALS_MAX;
    CLV_TRY(clv_http(r, &status, answer, err));
    if (status != 200)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "%.200s: expected status 200, found %ld", r->url,
                        status);
    return CLV_OK;
}

static clv_status fetch_object(clv_http_request *r, clv_buf *out, clv_error *err)
{
    uint64_t expires_ms;
    CLV_TRY(fetch(r, out, err));
    clv_status status = clv_credentials_check(clv_buf_bytes(out), &expires_ms, err);
    return status == CLV_OK ? CLV_OK : clv_blame(err, status, "%.200s", r->url);
}

static clv_status need_word(clv_buf *buf, size_t max, const char *what, const char **out,
                            clv_error *err)
{
    CLV_TRY(clv_buf_text(buf, out, err));
    if (**out != '\0' && strlen(*out) == buf->n && buf->n <= max && printable(*out))
        return CLV_OK;
    return clv_fail(err, CLV_KMS_CREDENTIALS, "%s: expected 1 to %zu printable bytes, found %zu",
                    what, max, buf->n);
}

/* AWS EC2 user guide, "Use the Instance Metadata Service": a session token first (version 2), then
 * the role's name, then its credentials. Version 1, without a token, is never used. */
clv_status clv_credentials_from_imds(const char *argument, clv_buf *out, clv_error *err)
{
    (void)argument;
    clv_auto(clv_buf) token = CLV_BUF_INIT, role = CLV_BUF_INIT, header = CLV_BUF_INIT;
    char url[512];
    const char *endpoint = clv_credentials_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"), *text,
               *name;
    if (endpoint == NULL)
        endpoint = IMDS;
    size_t n = strlen(endpoint);
    int bare = (int)(n > 0 && endpoint[n - 1] == '/' ? n - 1 : n);

    snprintf(url, sizeof url, "%.*s/latest/api/token", bare, endpoint);
    clv_http_request ask = {
        .method = "PUT", .url = url, .header = {"X-aws-ec2-metadata-token-ttl-seconds: 21600"}};
    CLV_TRY(fetch(&ask, &token, err));
    CLV_TRY(need_word(&token, TOKEN_MAX, "the IMDS token", &text, err));
    CLV_TRY(clv_buf_printf(&header, err, "X-aws-ec2-metadata-token: %s", text));
    CLV_TRY(clv_buf_text(&header, &text, err));

    snprintf(url, sizeof url, "%.*s/latest/meta-data/iam/security-credentials/", bare, endpoint);
    clv_http_request get = {.method = "GET", .url = url, .header = {text}};
    CLV_TRY(fetch(&get, &role, err));
    CLV_TRY(need_word(&role, ROLE_MAX, "the instance's role", &name, err));
    n = strlen(url);
    snprintf(url + n, sizeof url - n, "%s", name);
    return fetch_object(&get, out, err);
}

/* AWS SDKs reference, "Container credential provider": plain HTTP goes to these hosts alone. */
static const char *const plain_hosts[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23",
                                          "[fd00:ec2::23]"};

static bool may_be_asked(const char *url)
{
    char scheme[8], host[64];
    if (!clv_http_parts(url, scheme, sizeof scheme, host, sizeof host))
        return false;
    if (strcmp(scheme, "https") == 0)
        return true;
    struct in_addr v4;
    if (strcmp(scheme, "http") != 0)
        return false;
    if (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127)
        return true;
    for (size_t i = 0; i < sizeof plain_hosts / sizeof plain_hosts[0]; i++) {
        if (strcmp(host, plain_hosts[i]) == 0)
            return true;
    }
    return false;
}

static clv_status container_url(char out[1024], clv_error *err)
{
    const char *relative = clv_credentials_variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *full = clv_credentials_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    if (relative == NULL && full == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "environment: expected AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or "
                        "AWS_CONTAINER_CREDENTIALS_FULL_URI, found neither");
    int n = relative != NULL ? snprintf(out, 1024, ECS "%s", relative)
                             : snprintf(out, 1024, "%s", full);
    if (n >= 1024 || !printable(out) || (relative != NULL && relative[0] != '/'))
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "the container's credentials: expected a URI of at most 1023 bytes");
    if (!may_be_asked(out))
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "AWS_CONTAINER_CREDENTIALS_FULL_URI: expected https, or http to loopback, "
                        "ECS or EKS, found %.200s",
                        out);
    return CLV_OK;
}

/* The token's file is read at each fetch: Kubernetes replaces it. */
static clv_status container_token(clv_buf *header, const char **out, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    const char *path = clv_credentials_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *token = clv_credentials_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    *out = NULL;
    if (path != NULL) {
        CLV_TRY(clv_file_read(path, TOKEN_MAX, &text, err));
        CLV_TRY(clv_buf_text(&text, &token, err));
    }
    if (token == NULL)
        return CLV_OK;
    size_t n = strcspn(token, "\r\n");
    if (token[n + strspn(token + n, "\r\n")] != '\0' || n == 0)
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "the container's authorization token: expected one line, found more");
    CLV_TRY(clv_buf_printf(header, err, "Authorization: %.*s", (int)n, token));
    return clv_buf_text(header, out, err);
}

clv_status clv_credentials_from_container(const char *argument, clv_buf *out, clv_error *err)
{
    (void)argument;
    char url[1024];
    clv_auto(clv_buf) header = CLV_BUF_INIT;
    clv_http_request get = {.method = "GET", .url = url};
    CLV_TRY(container_url(url, err));
    CLV_TRY(container_token(&header, &get.header[0], err));
    return fetch_object(&get, out, err);
}

/* application/x-www-form-urlencoded: what RFC 3986 section 2.3 leaves unreserved stays. */
static clv_status append_field(clv_buf *form, const char *name, const char *value, clv_error *err)
{
    CLV_TRY(clv_buf_printf(form, err, "&%s=", name));
    for (; *value != '\0'; value++) {
        bool plain = (*value >= '0' && *value <= '9') || (*value >= 'A' && *value <= 'Z') ||
                     (*value >= 'a' && *value <= 'z') || strchr("-._~", *value) != NULL;
        CLV_TRY(clv_buf_printf(form, err, plain ? "%c" : "%%%02X", (uint8_t)*value));
    }
    return CLV_OK;
}

/* STS answers in XML; these elements hold text without entities. */
static clv_status element(const char *xml, const char *name, clv_buf *buf, const char **out,
                          clv_error *err)
{
    char open[40];
    int n = snprintf(open, sizeof open, "<%s>", name);
    const char *start = strstr(xml, open);
    size_t length = start != NULL ? strcspn(start + n, "<&") : 0;
    if (length == 0 || start[(size_t)n + length] != '<')
        return clv_fail(err, CLV_KMS_CREDENTIALS, "STS: expected an element %s, found none", name);
    CLV_TRY(clv_buf_append(buf, CLV_BYTES(start + n, length), err));
    return clv_buf_text(buf, out, err);
}

static clv_status read_sts(clv_buf *answer, clv_buf *out, clv_error *err)
{
    static const char *const name[] = {"AccessKeyId", "SecretAccessKey", "SessionToken",
                                       "Expiration"};
    clv_auto(clv_buf) a = CLV_BUF_INIT, b = CLV_BUF_INIT, c = CLV_BUF_INIT, d = CLV_BUF_INIT;
    clv_buf *part[] = {&a, &b, &c, &d};
    const char *xml, *value[4];
    CLV_TRY(clv_buf_text(answer, &xml, err));
    for (int i = 0; i < 4; i++)
        CLV_TRY(element(xml, name[i], part[i], &value[i], err));
    CLV_TRY(clv_credentials_make(value[0], value[1], value[2], value[3], out, err));
    uint64_t expires_ms;
    return clv_credentials_check(clv_buf_bytes(out), &expires_ms, err);
}

static clv_status sts_url(char out[256], clv_error *err)
{
    const char *url = clv_credentials_variable("AWS_ENDPOINT_URL_STS"),
               *region = clv_credentials_variable("AWS_REGION");
    if (region == NULL)
        region = clv_credentials_variable("AWS_DEFAULT_REGION");
    if (url == NULL && region == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS,
                        "environment: expected AWS_REGION, found nothing");
    const char *domain = "amazonaws.com";
    if (region != NULL && strncmp(region, "cn-", 3) == 0)
        domain = "amazonaws.com.cn";
    else if (region != NULL && strncmp(region, "eusc-", 5) == 0)
        domain = "amazonaws.eu";
    int n = url != NULL ? snprintf(out, 256, "%s", url)
                        : snprintf(out, 256, "https://sts.%s.%s/", region, domain);
    if (n < 256 && printable(out) && may_be_asked(out))
        return CLV_OK;
    return clv_fail(err, CLV_KMS_CREDENTIALS, "STS: expected https, or http to loopback, found %s",
                    out);
}

/* AWS STS API reference, AssumeRoleWithWebIdentity: unsigned, the token is the credential. */
clv_status clv_credentials_from_web_identity(const char *argument, clv_buf *out, clv_error *err)
{
    (void)argument;
    clv_auto(clv_buf) token = CLV_BUF_INIT, form = CLV_BUF_INIT, answer = CLV_BUF_INIT;
    char url[256];
    const char *path = clv_credentials_variable("AWS_WEB_IDENTITY_TOKEN_FILE"),
               *role = clv_credentials_variable("AWS_ROLE_ARN");
    const char *session = clv_credentials_variable("AWS_ROLE_SESSION_NAME"), *text;
    if (path == NULL || role == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "environment: expected %s, found nothing",
                        path == NULL ? "AWS_WEB_IDENTITY_TOKEN_FILE" : "AWS_ROLE_ARN");
    CLV_TRY(sts_url(url, err));
    CLV_TRY(clv_file_read(path, TOKEN_MAX, &token, err));
    while (token.n > 0 && (token.p[token.n - 1] == '\n' || token.p[token.n - 1] == '\r'))
        token.n--;
    CLV_TRY(need_word(&token, TOKEN_MAX, path, &text, err));
    CLV_TRY(clv_buf_append_text(&form, "Action=AssumeRoleWithWebIdentity&Version=2011-06-15", err));
    CLV_TRY(append_field(&form, "RoleArn", role, err));
    CLV_TRY(append_field(&form, "RoleSessionName", session != NULL ? session : SESSION_NAME, err));
    CLV_TRY(append_field(&form, "WebIdentityToken", text, err));
    clv_http_request post = {.method = "POST",
                             .url = url,
                             .header = {"Content-Type: application/x-www-form-urlencoded"},
                             .body = clv_buf_bytes(&form)};
    CLV_TRY(fetch(&post, &answer, err));
    return read_sts(&answer, out, err);
}

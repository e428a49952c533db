#include <parent/http.h>

#include <ctype.h>
#include <pthread.h>

#include <curl/curl.h>

typedef CURL *handle;
static void handle_drop(handle *h)
{
    curl_easy_cleanup(*h);
}

typedef struct curl_slist *header_list;
static void header_list_drop(header_list *list)
{
    curl_slist_free_all(*list);
}

typedef struct sink {
    clv_buf *answer;
    size_t max;
    bool full;
} sink;

static size_t take(char *p, size_t size, size_t count, void *with)
{
    sink *s = with;
    size_t n = size * count;
    if (n <= s->max - s->answer->n && clv_buf_append(s->answer, CLV_BYTES(p, n), NULL) == CLV_OK)
        return n;
    s->full = true;
    return 0;
}

static void start_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static clv_status make_headers(const clv_http_request *r, header_list *out, clv_error *err)
{
    /* Without it libcurl waits for a "100 Continue" that small servers do not send. */
    *out = curl_slist_append(NULL, "Expect:");
    for (size_t i = 0; *out != NULL && i < CLV_HTTP_HEADERS_MAX && r->header[i] != NULL; i++) {
        header_list longer = curl_slist_append(*out, r->header[i]);
        if (longer == NULL)
            return clv_fail(err, CLV_NO_MEMORY, "no memory for a request");
        *out = longer;
    }
    return *out != NULL ? CLV_OK : clv_fail(err, CLV_NO_MEMORY, "no memory for a request");
}

#define SET(option, value) \
    if (code == CURLE_OK)  \
    code = curl_easy_setopt(curl, option, value)

static CURLcode set_options(CURL *curl, const clv_http_request *r, header_list headers, sink *s)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_CUSTOMREQUEST, r->method);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    SET(CURLOPT_WRITEFUNCTION, take);
    SET(CURLOPT_WRITEDATA, s);
    if (r->body.n > 0 || strcmp(r->method, "GET") != 0) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
        SET(CURLOPT_POSTFIELDS, r->body.n > 0 ? (const char *)r->body.p : "");
    }
    if (r->ca_file != NULL)
        SET(CURLOPT_CAINFO, r->ca_file);
    if (r->cert_file != NULL) {
        SET(CURLOPT_SSLCERT, r->cert_file);
        SET(CURLOPT_SSLKEY, r->key_file);
    }
    return code;
}

clv_status clv_http(const clv_http_request *request, long *status, clv_buf *answer, clv_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl);
    clv_auto(handle) curl = curl_easy_init();
    clv_auto(header_list) headers = NULL;
    sink s = {answer, request->answer_max, false};
    if (curl == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a request");
    CLV_TRY(make_headers(request, &headers, err));
    CURLcode code = set_options(curl, request, headers, &s);
    if (code == CURLE_OK)
        code = curl_easy_perform(curl);
    if (s.full)
        return clv_fail(err, CLV_TOO_LARGE, "%.200s: expected an answer of at most %zu bytes",
                        request->url, request->answer_max);
    if (code != CURLE_OK)
        return clv_fail(err, code == CURLE_OPERATION_TIMEDOUT ? CLV_DEADLINE : CLV_UNREACHABLE,
                        "%.200s: %s", request->url, curl_easy_strerror(code));
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    return CLV_OK;
}

typedef CURLU *url_handle;
static void url_handle_drop(url_handle *u)
{
    curl_url_cleanup(*u);
}

static bool copy_part(CURLU *u, CURLUPart part, char *out, size_t size)
{
    char *text = NULL;
    bool fits = curl_url_get(u, part, &text, 0) == CURLUE_OK && strlen(text) < size;
    for (size_t i = 0; fits && (i == 0 || text[i - 1] != '\0'); i++)
        out[i] = (char)tolower((unsigned char)text[i]);
    curl_free(text);
    return fits;
}

bool clv_http_parts(const char *url, char *scheme, size_t scheme_size, char *host, size_t host_size)
{
    clv_auto(url_handle) u = curl_url();
    char *user = NULL;
    if (u == NULL || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK)
        return false;
    bool named = curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK;
    curl_free(user);
    return !named && copy_part(u, CURLUPART_SCHEME, scheme, scheme_size) &&
           copy_part(u, CURLUPART_HOST, host, host_size);
}

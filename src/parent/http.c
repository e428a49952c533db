#include <parent/http.h>

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>

#include <curl/curl.h>

#define POOL_MAX 32

struct clv_http_pool {
    pthread_mutex_t lock; /* protects the rest */
    CURL *spare[POOL_MAX];
    size_t count;
};

clv_status clv_http_pool_new(clv_http_pool **out, clv_error *err)
{
    clv_http_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for connections");
    pthread_mutex_init(&pool->lock, NULL);
    *out = pool;
    return CLV_OK;
}

void clv_http_pool_free(clv_http_pool **pool)
{
    if (*pool == NULL)
        return;
    for (size_t i = 0; i < (*pool)->count; i++)
        curl_easy_cleanup((*pool)->spare[i]);
    pthread_mutex_destroy(&(*pool)->lock);
    free(*pool);
    *pool = NULL;
}

static CURL *take_spare(clv_http_pool *pool)
{
    CURL *curl = NULL;
    pthread_mutex_lock(&pool->lock);
    if (pool->count > 0)
        curl = pool->spare[--pool->count];
    pthread_mutex_unlock(&pool->lock);
    return curl;
}

/* Resetting a handle forgets the request and keeps its connections. */
static bool give_back(clv_http_pool *pool, CURL *curl)
{
    curl_easy_reset(curl);
    pthread_mutex_lock(&pool->lock);
    bool room = pool->count < POOL_MAX;
    if (room)
        pool->spare[pool->count++] = curl;
    pthread_mutex_unlock(&pool->lock);
    return room;
}

typedef struct handle {
    CURL *curl;
    clv_http_pool *pool;
} handle;
static void handle_drop(handle *h)
{
    if (h->curl != NULL && (h->pool == NULL || !give_back(h->pool, h->curl)))
        curl_easy_cleanup(h->curl);
}

typedef struct curl_slist *header_list;
static void header_list_drop(header_list *list)
{
    curl_slist_free_all(*list);
}

typedef struct exchange {
    const clv_http_request *request;
    clv_cursor body; /* what is still to be sent */
    clv_buf *answer;
    bool full, enough;
} exchange;

static size_t take(char *p, size_t size, size_t count, void *with)
{
    exchange *x = with;
    size_t n = size * count;
    if (x->request->take != NULL) {
        x->enough = x->request->take(x->request->take_with, CLV_BYTES(p, n));
        return x->enough ? 0 : n;
    }
    if (n <= x->request->answer_max - x->answer->n &&
        clv_buf_append(x->answer, CLV_BYTES(p, n), NULL) == CLV_OK)
        return n;
    x->full = true;
    return 0;
}

/* A body that is read, and cannot be rewound, is what keeps libcurl from sending it twice. */
static size_t give(char *to, size_t size, size_t count, void *with)
{
    exchange *x = with;
    clv_bytes piece;
    size_t room = size * count;
    size_t n = x->body.rest.n < room ? x->body.rest.n : room;
    if (n == 0 || clv_cursor_take(&x->body, n, &piece, NULL) != CLV_OK)
        return 0;
    memcpy(to, piece.p, piece.n);
    return piece.n;
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

static CURLcode set_options(CURL *curl, const clv_http_request *r, header_list headers, exchange *x)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_URL, r->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_CUSTOMREQUEST, r->method);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_NOPROXY, "*");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    if (r->connect_timeout_ms > 0)
        SET(CURLOPT_CONNECTTIMEOUT_MS, (long)r->connect_timeout_ms);
    SET(CURLOPT_WRITEFUNCTION, take);
    SET(CURLOPT_WRITEDATA, x);
    if (r->body.n > 0 || strcmp(r->method, "GET") != 0) {
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
        SET(CURLOPT_READFUNCTION, give);
        SET(CURLOPT_READDATA, x);
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
    clv_auto(header_list) headers = NULL;
    clv_auto(handle) h = {request->pool != NULL ? take_spare(request->pool) : NULL, request->pool};
    exchange x = {request, clv_cursor_of(request->body), answer, false, false};
    if (h.curl == NULL)
        h.curl = curl_easy_init();
    if (h.curl == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a request");
    CLV_TRY(make_headers(request, &headers, err));
    CURLcode code = set_options(h.curl, request, headers, &x);
    if (code == CURLE_OK)
        code = curl_easy_perform(h.curl);
    if (x.full)
        return clv_fail(err, CLV_TOO_LARGE, "%.200s: expected an answer of at most %zu bytes",
                        request->url, request->answer_max);
    if (code != CURLE_OK && !x.enough)
        return clv_fail(err, code == CURLE_OPERATION_TIMEDOUT ? CLV_DEADLINE : CLV_UNREACHABLE,
                        "%.200s: %s", request->url, curl_easy_strerror(code));
    curl_easy_getinfo(h.curl, CURLINFO_RESPONSE_CODE, status);
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

#include <parent/credentials.h>

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include <sodium.h>

#include <base/clock.h>
#include <base/log.h>
#include <parent/credentials_sources.h>

#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS   60000
/* Asked again at the latest, where the source names no expiry. */
#define REFRESH_MS ((uint64_t)60 * 60 * 1000)

static const struct source {
    const char *name;
    clv_credentials_source fetch;
    enum { NO_ARGUMENT, ARGUMENT, MAYBE } argument;
    bool kept; /* fetched ahead and held */
} source_table[] = {
    {"env", clv_credentials_from_env, NO_ARGUMENT, false},
    {"file", clv_credentials_from_file, ARGUMENT, false},
    {"profile", clv_credentials_from_profile, MAYBE, false},
    {"imds", clv_credentials_from_imds, NO_ARGUMENT, true},
    {"container", clv_credentials_from_container, NO_ARGUMENT, true},
    {"web-identity", clv_credentials_from_web_identity, NO_ARGUMENT, true},
    {"auto", clv_credentials_from_any, NO_ARGUMENT, true},
};

#define ARGUMENT_MAX 512

typedef struct choice {
    const struct source *source;
    char argument[ARGUMENT_MAX];
    unsigned version; /* one more with each reload */
} choice;

struct clv_provider {
    pthread_t thread;
    bool running;
    pthread_mutex_t fetching; /* one fetch at a time; taken before lock */
    pthread_mutex_t lock;     /* protects what follows */
    pthread_cond_t changed;
    bool closed;
    choice choice;
    clv_buf held;
    uint64_t expires_ms; /* 0: never */
    uint64_t next_ms;    /* when to fetch again, monotonic; 0: nothing was fetched yet */
    uint64_t pause_ms;   /* after the next failure */
    uint64_t fetches, failures, failed_ms;
    char failure[CLV_ERROR_TEXT_MAX];
};

/* The order of the AWS SDKs. A source that is configured and fails is not passed over: credentials
 * of another identity would be used without a word. */
clv_status clv_credentials_from_any(const char *argument, clv_buf *out, clv_error *err)
{
    if (clv_credentials_variable("AWS_ACCESS_KEY_ID") != NULL)
        return clv_credentials_from_env(argument, out, err);
    if (clv_credentials_variable("AWS_WEB_IDENTITY_TOKEN_FILE") != NULL)
        return clv_credentials_from_web_identity(argument, out, err);
    if (clv_credentials_have_profile())
        return clv_credentials_from_profile(argument, out, err);
    if (clv_credentials_variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") != NULL ||
        clv_credentials_variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") != NULL)
        return clv_credentials_from_container(argument, out, err);
    return clv_credentials_from_imds(argument, out, err);
}

static clv_status find_source(const char *text, choice *out, clv_error *err)
{
    size_t n = strcspn(text, ":");
    const char *argument = text[n] == ':' ? text + n + 1 : "";
    for (size_t i = 0; i < sizeof source_table / sizeof source_table[0]; i++) {
        const struct source *s = &source_table[i];
        bool fits = s->argument == MAYBE || (*argument != '\0') == (s->argument == ARGUMENT);
        fits = fits && strlen(argument) < sizeof out->argument;
        if (strlen(s->name) != n || strncmp(s->name, text, n) != 0 || !fits)
            continue;
        out->source = s;
        memcpy(out->argument, argument, strlen(argument) + 1);
        return CLV_OK;
    }
    return clv_fail(err, CLV_USAGE,
                    "--credentials: expected env, file:PATH, profile[:NAME], imds, container, "
                    "web-identity or auto, found \"%.80s\"",
                    text);
}

/* The caller holds the lock. Up to a tenth earlier, so that a fleet does not ask all at once. */
static uint64_t refresh_after(uint64_t lifetime_ms)
{
    uint64_t after = lifetime_ms > 2 * CLV_CREDENTIALS_EARLY_MS
                         ? lifetime_ms - CLV_CREDENTIALS_EARLY_MS
                         : lifetime_ms / 2;
    return after - after * randombytes_uniform(100) / 1000;
}

static bool valid(const clv_provider *p)
{
    return p->held.n > 0 && (p->expires_ms == 0 || clv_wall_ms() < p->expires_ms);
}

/* The caller holds the lock. */
static void keep(clv_provider *p, clv_buf *fetched, uint64_t expires_ms)
{
    uint64_t wall = clv_wall_ms();
    uint64_t lifetime = expires_ms == 0 ? REFRESH_MS : expires_ms > wall ? expires_ms - wall : 0;
    clv_buf old = p->held;
    p->held = *fetched;
    *fetched = old;
    p->expires_ms = expires_ms;
    p->pause_ms = RETRY_FIRST_MS;
    p->next_ms = clv_monotonic_ms() + refresh_after(lifetime);
    if (p->next_ms < clv_monotonic_ms() + RETRY_FIRST_MS)
        p->next_ms = clv_monotonic_ms() + RETRY_FIRST_MS;
    pthread_cond_signal(&p->changed);
}

/* The caller holds the lock. */
static void count(clv_provider *p, clv_status status, const clv_error *why)
{
    p->fetches++;
    p->failed_ms = status == CLV_OK ? 0 : clv_wall_ms();
    if (status == CLV_OK)
        return;
    p->failures++;
    memcpy(p->failure, why->text, sizeof p->failure);
}

/* What a source gives, checked and counted. */
static clv_status ask(clv_provider *p, const choice *of, clv_buf *out, uint64_t *expires_ms,
                      clv_error *why)
{
    clv_status status = of->source->fetch(of->argument, out, why);
    if (status == CLV_OK)
        status = clv_credentials_check(clv_buf_bytes(out), expires_ms, why);
    pthread_mutex_lock(&p->lock);
    count(p, status, why);
    pthread_mutex_unlock(&p->lock);
    return status;
}

static choice chosen(clv_provider *p)
{
    pthread_mutex_lock(&p->lock);
    choice now = p->choice;
    pthread_mutex_unlock(&p->lock);
    return now;
}

/* The caller holds the lock. */
static void postpone(clv_provider *p)
{
    p->next_ms = clv_monotonic_ms() + p->pause_ms;
    p->pause_ms = p->pause_ms * 2 < RETRY_MAX_MS ? p->pause_ms * 2 : RETRY_MAX_MS;
}

/* The caller holds the lock of fetching. False: the source was replaced meanwhile, and what the old
 * one gave is thrown away. */
static bool fetch_once(clv_provider *p, clv_error *why, bool *still)
{
    clv_auto(clv_buf) fetched = CLV_BUF_INIT;
    uint64_t expires_ms = 0;
    choice of = chosen(p);
    why->code = CLV_OK;
    why->code = ask(p, &of, &fetched, &expires_ms, why);
    pthread_mutex_lock(&p->lock);
    bool current = of.version == p->choice.version;
    if (current && why->code == CLV_OK)
        keep(p, &fetched, expires_ms);
    else if (current)
        postpone(p);
    *still = valid(p);
    pthread_mutex_unlock(&p->lock);
    return current;
}

static clv_status fetch(clv_provider *p, clv_error *err)
{
    clv_error why;
    bool still;
    while (!fetch_once(p, &why, &still))
        continue;
    if (why.code == CLV_OK)
        return CLV_OK;
    clv_log(CLV_LOG_WARNING, "credentials.failed", NULL, "%s (%s)%s", why.text,
            clv_status_slug(why.code), still ? "; those from before are still valid" : "");
    return clv_fail(err, CLV_KMS_CREDENTIALS, "%s", why.text);
}

static void *run(void *argument)
{
    clv_provider *p = argument;
    pthread_mutex_lock(&p->lock);
    while (!p->closed) {
        uint64_t now = clv_monotonic_ms();
        if (p->next_ms == 0) {
            pthread_cond_wait(&p->changed, &p->lock);
        } else if (now < p->next_ms) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_sec += (time_t)((p->next_ms - now) / 1000 + 1);
            pthread_cond_timedwait(&p->changed, &p->lock, &until);
        } else {
            pthread_mutex_unlock(&p->lock);
            pthread_mutex_lock(&p->fetching);
            clv_status logged = fetch(p, NULL);
            (void)logged;
            pthread_mutex_unlock(&p->fetching);
            pthread_mutex_lock(&p->lock);
        }
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

clv_status clv_provider_new(const char *source, clv_provider **out, clv_error *err)
{
    pthread_condattr_t monotonic;
    clv_auto_ptr(clv_provider) p = calloc(1, sizeof *p);
    if (p == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for credentials");
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&p->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->fetching, NULL);
    p->pause_ms = RETRY_FIRST_MS;
    CLV_TRY(find_source(source, &p->choice, err));
    if (pthread_create(&p->thread, NULL, run, p) != 0)
        return clv_fail(err, CLV_SYSTEM, "no thread for credentials: %m");
    p->running = true;
    *out = p;
    p = NULL;
    return CLV_OK;
}

void clv_provider_free(clv_provider **provider)
{
    clv_provider *p = *provider;
    *provider = NULL;
    if (p == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    p->closed = true;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if (p->running)
        pthread_join(p->thread, NULL);
    clv_buf_drop(&p->held);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->fetching);
    free(p);
}

static bool take_held(clv_provider *p, clv_buf *out, clv_status *status, clv_error *err)
{
    pthread_mutex_lock(&p->lock);
    bool held = valid(p);
    if (held)
        *status = clv_buf_append(out, clv_buf_bytes(&p->held), err);
    pthread_mutex_unlock(&p->lock);
    return held;
}

/* Sources on this machine are read at each call, by as many callers as there are. */
static clv_status read_local(clv_provider *p, const choice *of, clv_buf *out, clv_error *err)
{
    clv_error why = {.code = CLV_OK};
    uint64_t expires_ms = 0;
    clv_status status = ask(p, of, out, &expires_ms, &why);
    if (status != CLV_OK)
        return clv_fail(err, status, "%s", why.text);
    pthread_mutex_lock(&p->lock);
    if (of->version == p->choice.version)
        p->expires_ms = expires_ms;
    pthread_mutex_unlock(&p->lock);
    return CLV_OK;
}

clv_status clv_provider_get(clv_provider *p, clv_buf *out, clv_error *err)
{
    clv_status status = CLV_OK;
    choice of = chosen(p);
    if (!of.source->kept)
        return read_local(p, &of, out, err);
    if (take_held(p, out, &status, err))
        return status;
    pthread_mutex_lock(&p->fetching);
    /* Another caller, or the thread, may have fetched while this one waited. */
    bool held = take_held(p, out, &status, err);
    if (!held)
        status = fetch(p, err);
    pthread_mutex_unlock(&p->fetching);
    if (held || status != CLV_OK)
        return status;
    if (take_held(p, out, &status, err))
        return status;
    return clv_fail(err, CLV_KMS_CREDENTIALS_EXPIRED, "%s: the credentials have expired",
                    of.source->name);
}

clv_status clv_provider_check(const char *source, clv_error *err)
{
    choice found;
    return find_source(source, &found, err);
}

clv_status clv_provider_reload(clv_provider *p, const char *source, clv_error *err)
{
    choice next = {.source = NULL};
    CLV_TRY(find_source(source, &next, err));
    pthread_mutex_lock(&p->lock);
    next.version = p->choice.version + 1;
    p->choice = next;
    if (!next.source->kept)
        clv_buf_drop(&p->held);
    p->pause_ms = RETRY_FIRST_MS;
    p->next_ms = next.source->kept ? clv_monotonic_ms() : 0;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    return CLV_OK;
}

void clv_provider_tell(clv_provider *p, clv_provider_report *out)
{
    pthread_mutex_lock(&p->lock);
    const struct source *source = p->choice.source;
    uint64_t expires_ms = p->fetches > p->failures ? p->expires_ms : 0;
    bool given = source->kept ? p->held.n > 0 : p->fetches > p->failures && p->failed_ms == 0;
    *out = (clv_provider_report){.fetches = p->fetches,
                                 .failures = p->failures,
                                 .expires_ms = expires_ms,
                                 .failed_ms = p->failed_ms};
    out->valid = given && (expires_ms == 0 || clv_wall_ms() < expires_ms);
    memcpy(out->source, source->name, strlen(source->name) + 1);
    if (p->failed_ms != 0)
        memcpy(out->failure, p->failure, sizeof out->failure);
    pthread_mutex_unlock(&p->lock);
}

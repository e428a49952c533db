#include <enclave/keeper.h>

#include <stdlib.h>

#include <base/log.h>

struct clv_keeper {
    clv_services *services;
    clv_kms *kms;
    clv_clock *clock;
    clv_metrics *metrics;
    pthread_t thread;
    pthread_mutex_t stop_lock; /* protects stop */
    pthread_cond_t stopping;
    bool stop;
    pthread_mutex_t fetch_lock; /* held through a fetch; protects the two below */
    uint64_t fetched_at_ms;     /* by the monotonic clock; 0: never */
    clv_error fetched;          /* how the last fetch ended */
};

bool clv_keeper_can_help(clv_status status)
{
    return status == CLV_KMS_EXPIRED_TOKEN || status == CLV_KMS_CREDENTIALS_EXPIRED ||
           status == CLV_KMS_CREDENTIALS || status == CLV_KMS_UNRECOGNIZED_CLIENT;
}

/* Expired ones must not take the place of others that may still serve. */
static clv_status check_expiry(clv_keeper *keeper, const clv_credentials *credentials,
                               clv_error *err)
{
    uint64_t now = 0;
    CLV_TRY(clv_clock_now(keeper->clock, &now, err));
    if (credentials->expires_ms != 0 && credentials->expires_ms <= now)
        return clv_fail(err, CLV_KMS_CREDENTIALS_EXPIRED,
                        "expected AWS credentials that are valid, found %s expired",
                        credentials->access_key_id);
    return CLV_OK;
}

static clv_status fetch(clv_keeper *keeper, clv_error *err)
{
    clv_auto(clv_credentials) credentials = CLV_CREDENTIALS_INIT;
    atomic_fetch_add(&keeper->metrics->credential_fetches, 1);
    clv_status status = clv_services_credentials(keeper->services, &credentials, err);
    if (status == CLV_OK)
        status = check_expiry(keeper, &credentials, err);
    if (status == CLV_OK)
        clv_kms_set_credentials(keeper->kms, &credentials);
    else
        atomic_fetch_add(&keeper->metrics->credential_failures, 1);
    return status;
}

clv_status clv_keeper_refresh(clv_keeper *keeper, clv_error *err)
{
    pthread_mutex_lock(&keeper->fetch_lock);
    uint64_t now = clv_monotonic_ms();
    if (keeper->fetched_at_ms == 0 || now - keeper->fetched_at_ms >= CLV_KEEPER_INTERVAL_MS) {
        keeper->fetched = (clv_error){.code = CLV_OK};
        keeper->fetched.code = fetch(keeper, &keeper->fetched);
        keeper->fetched_at_ms = clv_monotonic_ms();
        if (keeper->fetched.code != CLV_OK)
            clv_log_failure(CLV_LOG_WARNING, "credentials.failed", NULL, &keeper->fetched);
    }
    clv_error result = keeper->fetched;
    pthread_mutex_unlock(&keeper->fetch_lock);
    if (err != NULL)
        *err = result;
    return result.code;
}

static bool due(clv_keeper *keeper)
{
    uint64_t expire = clv_kms_credentials_expire_ms(keeper->kms), now = 0;
    if (expire == UINT64_MAX || clv_clock_now(keeper->clock, &now, NULL) != CLV_OK)
        return false;
    return expire < CLV_KEEPER_BEFORE_MS || now >= expire - CLV_KEEPER_BEFORE_MS;
}

/* True when it is time to end. */
static bool wait_a_look(clv_keeper *keeper)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLV_KEEPER_LOOK_MS / 1000;
    pthread_mutex_lock(&keeper->stop_lock);
    while (!keeper->stop &&
           pthread_cond_timedwait(&keeper->stopping, &keeper->stop_lock, &until) == 0)
        continue;
    bool stop = keeper->stop;
    pthread_mutex_unlock(&keeper->stop_lock);
    return stop;
}

static void *keep(void *of)
{
    clv_keeper *keeper = of;
    while (!wait_a_look(keeper)) {
        clv_error err = {0};
        if (due(keeper) && clv_keeper_refresh(keeper, &err) == CLV_OK)
            clv_log(CLV_LOG_INFO, "credentials.renewed", NULL, "new credentials from the parent");
    }
    return NULL;
}

clv_status clv_keeper_start(clv_services *services, clv_kms *kms, clv_clock *clock,
                            clv_metrics *metrics, clv_keeper **out, clv_error *err)
{
    clv_keeper *keeper = calloc(1, sizeof *keeper);
    if (keeper == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for the credentials' keeper");
    keeper->services = services;
    keeper->kms = kms;
    keeper->clock = clock;
    keeper->metrics = metrics;
    pthread_mutex_init(&keeper->stop_lock, NULL);
    pthread_mutex_init(&keeper->fetch_lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&keeper->stopping, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&keeper->thread, NULL, keep, keeper) != 0) {
        free(keeper);
        return clv_fail(err, CLV_SYSTEM, "the credentials' keeper cannot start");
    }
    *out = keeper;
    return CLV_OK;
}

void clv_keeper_free(clv_keeper **at)
{
    clv_keeper *keeper = *at;
    if (keeper == NULL)
        return;
    pthread_mutex_lock(&keeper->stop_lock);
    keeper->stop = true;
    pthread_cond_signal(&keeper->stopping);
    pthread_mutex_unlock(&keeper->stop_lock);
    pthread_join(keeper->thread, NULL);
    pthread_cond_destroy(&keeper->stopping);
    pthread_mutex_destroy(&keeper->stop_lock);
    pthread_mutex_destroy(&keeper->fetch_lock);
    free(keeper);
    *at = NULL;
}

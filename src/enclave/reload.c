#include <enclave/reload.h>

#include <signal.h>

#include <base/log.h>
#include <enclave/enclave.h>

void clv_review_init(clv_review *review)
{
    *review = (clv_review){.checked_ms = clv_monotonic_ms(), .main_thread = pthread_self()};
    pthread_mutex_init(&review->lock, NULL);
    pthread_mutex_init(&review->result_lock, NULL);
}

void clv_review_drop(clv_review *review)
{
    pthread_mutex_destroy(&review->lock);
    pthread_mutex_destroy(&review->result_lock);
}

static clv_status check_baseline(clv_enclave *enclave, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT, signature = CLV_BUF_INIT;
    if (enclave->policy->release_key_count > 0)
        CLV_TRY(clv_services_baseline(&enclave->services, &text, &signature, err));
    return clv_gate_review(enclave->gate, clv_buf_bytes(&text), clv_buf_bytes(&signature), err);
}

/* A baseline that the parent does not give says nothing: what was last known stands. */
static bool is_verdict(clv_status status)
{
    return status == CLV_OK || clv_status_exit(status) == CLV_EXIT_IDENTITY;
}

static clv_status review_baseline(clv_enclave *enclave, clv_error *err)
{
    clv_review *review = &enclave->review;
    clv_error found = {.code = CLV_OK};
    clv_status status = check_baseline(enclave, &found);
    if (is_verdict(status)) {
        pthread_mutex_lock(&review->result_lock);
        review->checked_ms = clv_monotonic_ms();
        review->baseline = found;
        pthread_mutex_unlock(&review->result_lock);
    }
    if (status == CLV_BASELINE_REVOKED) {
        clv_log_failure(CLV_LOG_ERROR, "reload.revoked", NULL, &found);
        pthread_kill(review->main_thread, SIGTERM);
    }
    return status == CLV_OK ? CLV_OK : clv_fail(err, status, "%s", found.text);
}

static clv_status reload(clv_enclave *enclave, clv_error *err)
{
    clv_error second = {.code = CLV_OK};
    clv_status status = review_baseline(enclave, err);
    clv_status renewed = clv_keeper_refresh(enclave->keeper, &second);
    clv_kms_reconnect(enclave->kms);
    if (status != CLV_OK || renewed == CLV_OK)
        return status;
    return clv_fail(err, renewed, "%s", second.text);
}

clv_status clv_reload(clv_enclave *enclave, clv_error *err)
{
    clv_review *review = &enclave->review;
    pthread_mutex_lock(&review->lock);
    if (review->ended_ms == 0 || clv_monotonic_ms() - review->ended_ms >= CLV_RELOAD_INTERVAL_MS) {
        review->last = (clv_error){.code = CLV_OK};
        review->last.code = reload(enclave, &review->last);
        review->ended_ms = clv_monotonic_ms();
        if (review->last.code == CLV_OK)
            clv_log(CLV_LOG_INFO, "reloaded", NULL, "credentials, baseline and connections");
        else
            clv_log_failure(CLV_LOG_ERROR, "reload.failed", NULL, &review->last);
    }
    clv_error result = review->last;
    pthread_mutex_unlock(&review->lock);
    if (err != NULL)
        *err = result;
    return result.code;
}

void clv_review_read(clv_review *review, uint64_t *checked_ms, clv_error *baseline)
{
    pthread_mutex_lock(&review->result_lock);
    *checked_ms = review->checked_ms;
    *baseline = review->baseline;
    pthread_mutex_unlock(&review->result_lock);
}

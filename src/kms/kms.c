#include <claviger/kms.h>

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include <base/clock.h>
#include <kms/circuit.h>
#include <kms/endpoint.h>
#include <kms/errors.h>
#include <kms/message.h>
#include <kms/sigv4.h>
#include <kms/transport.h>

#define DEFAULT_TIMEOUT_MS 20000
#define BACKOFF_BASE_MS    100
#define BACKOFF_MAX_MS     5000
#define TARGET_PREFIX      "TrentService."
#define CONTENT_TYPE       "application/x-amz-json-1.1"
#define SERVICE            "kms"

struct clv_kms {
    char *region;
    clv_https *https;
    int timeout_ms;
    clv_circuit circuit;
    pthread_mutex_t lock; /* protects the members below */
    clv_credentials credentials;
    uint64_t generation; /* how often they were set; 0: never */
    clv_kms_health health;
};

clv_status clv_kms_open(const clv_kms_options *options, clv_kms **out, clv_error *err)
{
    clv_auto_ptr(clv_kms) kms = calloc(1, sizeof *kms);
    if (kms == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a KMS client");
    pthread_mutex_init(&kms->lock, NULL);
    clv_circuit_init(&kms->circuit);
    kms->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : DEFAULT_TIMEOUT_MS;
    CLV_TRY(clv_text_dup(clv_bytes_of(options->region), &kms->region, err));
    clv_https_options https = {.endpoint = options->endpoint,
                               .ca_file = options->ca_file,
                               .relay = options->relay,
                               .fresh = options->fresh_connections};
    CLV_TRY(clv_https_open(&https, &kms->https, err));
    CLV_TRY(clv_endpoint_check(clv_https_name(kms->https), options->region, err));
    *out = kms;
    kms = NULL;
    return CLV_OK;
}

void clv_kms_free(clv_kms **pointer)
{
    clv_kms *kms = *pointer;
    if (kms == NULL)
        return;
    clv_credentials_drop(&kms->credentials);
    clv_https_free(&kms->https);
    clv_text_drop(&kms->region);
    clv_circuit_drop(&kms->circuit);
    pthread_mutex_destroy(&kms->lock);
    free(kms);
    *pointer = NULL;
}

/* -- credentials -------------------------------------------------------------------------- */

void clv_kms_set_credentials(clv_kms *kms, clv_credentials *credentials)
{
    pthread_mutex_lock(&kms->lock);
    clv_credentials previous = kms->credentials;
    kms->credentials = *credentials;
    kms->generation++;
    pthread_mutex_unlock(&kms->lock);
    *credentials = (clv_credentials)CLV_CREDENTIALS_INIT;
    clv_credentials_drop(&previous);
}

static uint64_t credentials_generation(clv_kms *kms)
{
    pthread_mutex_lock(&kms->lock);
    uint64_t generation = kms->generation;
    pthread_mutex_unlock(&kms->lock);
    return generation;
}

uint64_t clv_kms_credentials_expire_ms(clv_kms *kms)
{
    pthread_mutex_lock(&kms->lock);
    uint64_t expires_ms =
        kms->credentials.expires_ms != 0 ? kms->credentials.expires_ms : UINT64_MAX;
    if (kms->generation == 0)
        expires_ms = 0;
    pthread_mutex_unlock(&kms->lock);
    return expires_ms;
}

static clv_status copy_locked(const clv_kms *kms, clv_credentials *out, clv_error *err)
{
    const clv_credentials *from = &kms->credentials;
    if (from->secret_access_key == NULL)
        return clv_fail(err, CLV_KMS_CREDENTIALS, "expected AWS credentials, found none yet");
    memcpy(out->access_key_id, from->access_key_id, sizeof out->access_key_id);
    memcpy(out->account, from->account, sizeof out->account);
    out->expires_ms = from->expires_ms;
    CLV_TRY(
        clv_secret_copy(clv_secret_bytes(from->secret_access_key), &out->secret_access_key, err));
    if (from->session_token == NULL)
        return CLV_OK;
    return clv_secret_copy(clv_secret_bytes(from->session_token), &out->session_token, err);
}

/* A copy of the credentials for one call, still valid at this time. */
static clv_status take_credentials(clv_kms *kms, uint64_t now_ms, clv_credentials *out,
                                   clv_error *err)
{
    pthread_mutex_lock(&kms->lock);
    clv_status status = copy_locked(kms, out, err);
    pthread_mutex_unlock(&kms->lock);
    if (status != CLV_OK)
        return status;
    if (out->expires_ms != 0 && now_ms >= out->expires_ms)
        return clv_fail(err, CLV_KMS_CREDENTIALS_EXPIRED,
                        "expected AWS credentials that are valid, found %s expired",
                        out->access_key_id);
    return CLV_OK;
}

/* -- health ------------------------------------------------------------------------------- */

void clv_kms_reconnect(clv_kms *kms)
{
    clv_https_disconnect(kms->https);
}

void clv_kms_read_health(clv_kms *kms, clv_kms_health *out)
{
    pthread_mutex_lock(&kms->lock);
    *out = kms->health;
    pthread_mutex_unlock(&kms->lock);
    clv_circuit_state state;
    clv_circuit_read(&kms->circuit, clv_monotonic_ms(), &state);
    out->failures_in_a_row = state.failures;
    out->open_for_ms = state.open_for_ms;
}

static void count_call(clv_kms *kms, clv_status status, const clv_kms_failure *failure)
{
    pthread_mutex_lock(&kms->lock);
    clv_kms_health *h = &kms->health;
    h->calls++;
    if (status != CLV_OK) {
        h->failures++;
        h->failed_ms = clv_monotonic_ms();
        h->failure = status;
        h->http_status = failure->http_status;
        memcpy(h->type, failure->type, sizeof h->type);
        memcpy(h->request_id, failure->request_id, sizeof h->request_id);
    }
    pthread_mutex_unlock(&kms->lock);
}

/* -- one call ----------------------------------------------------------------------------- */

/* One attempt: what it was asked to do, and what became of it. */
typedef struct attempt {
    clv_kms *kms;
    const clv_operation *operation;
    const clv_voucher *voucher;
    uint64_t deadline_ms; /* of the operation, vouching and retries included */
    int most_ms;          /* for one attempt */
    clv_kms_failure failure;
    bool answered; /* KMS answered, with whatever but a fault of its own */
} attempt;

void clv_kms_answer_drop(clv_kms_answer *answer)
{
    clv_secret_free(&answer->plaintext);
    clv_buf_drop(&answer->ciphertext_blob);
    clv_buf_drop(&answer->public_key);
    clv_buf_drop(&answer->document);
    *answer = (clv_kms_answer)CLV_KMS_ANSWER_INIT;
}

static int time_left_ms(const attempt *a)
{
    uint64_t now = clv_monotonic_ms();
    int left = now < a->deadline_ms ? (int)(a->deadline_ms - now) : 1;
    return left < a->most_ms ? left : a->most_ms;
}

/* Sign and send. The signed headers are all there are beside Content-Length and Authorization. */
static clv_status send_signed(const attempt *a, const clv_credentials *credentials, uint64_t now_ms,
                              clv_bytes body, clv_https_answer *answer, clv_error *err)
{
    enum { TYPE, HOST, DATE, TOKEN, TARGET, AUTHORIZATION, COUNT };
    char date[CLV_SIGV4_DATE_SIZE];
    char target[64];
    clv_header header[COUNT];
    size_t n = 0;
    CLV_TRY(clv_sigv4_date(now_ms, date, err));
    snprintf(target, sizeof target, TARGET_PREFIX "%s", clv_kms_action_name(a->operation->action));
    header[n++] = (clv_header){"content-type", clv_bytes_of(CONTENT_TYPE)};
    header[n++] = (clv_header){"host", clv_bytes_of(clv_https_host(a->kms->https))};
    header[n++] = (clv_header){"x-amz-date", clv_bytes_of(date)};
    if (credentials->session_token != NULL)
        header[n++] =
            (clv_header){"x-amz-security-token", clv_secret_bytes(credentials->session_token)};
    header[n++] = (clv_header){"x-amz-target", clv_bytes_of(target)};

    clv_auto(clv_buf) authorization = CLV_BUF_INIT;
    clv_sigv4 to_sign = {.method = "POST",
                         .query = "",
                         .header = header,
                         .header_count = n,
                         .body = body,
                         .region = a->kms->region,
                         .service = SERVICE,
                         .now_ms = now_ms};
    CLV_TRY(clv_sigv4_authorize(&to_sign, credentials->access_key_id,
                                credentials->secret_access_key, &authorization, err));
    header[n++] = (clv_header){"authorization", clv_buf_bytes(&authorization)};
    clv_https_request request = {.header = header,
                                 .header_count = n,
                                 .body = body,
                                 .now_ms = now_ms,
                                 .timeout_ms = time_left_ms(a),
                                 .body_max = CLV_KMS_BODY_MAX};
    return clv_https_post(a->kms->https, &request, answer, err);
}

static clv_status refused(attempt *a, const clv_credentials *credentials,
                          const clv_https_answer *answer, clv_error *err)
{
    clv_kms_answer_error error = {.http_status = answer->status,
                                  .request_id = answer->request_id,
                                  .header_type = answer->error_type,
                                  .body = clv_buf_bytes(&answer->body)};
    clv_document document;
    bool parsed = clv_document_parse(clv_voucher_document(a->voucher), &document, NULL) == CLV_OK;
    clv_status code = clv_kms_error_read(&error, &a->failure);
    a->answered = answer->status < 500;
    clv_kms_situation situation = {.operation = a->operation,
                                   .region = a->kms->region,
                                   .caller_account = credentials->account,
                                   .pcrs = parsed ? &document.pcrs : NULL};
    return clv_kms_explain(code, &a->failure, &situation, err);
}

/* Everything that came with status 200, checked, and the CMS opened. */
static clv_status accept_answer(attempt *a, const clv_https_answer *answer, clv_kms_answer *out,
                                clv_error *err)
{
    clv_auto(clv_kms_body) body = CLV_KMS_BODY_INIT;
    a->answered = true;
    CLV_TRY(clv_kms_response(a->operation, clv_buf_bytes(&answer->body), &body, err));
    CLV_TRY(clv_cms_open(clv_buf_bytes(&body.recipient_ciphertext), clv_voucher_key(a->voucher),
                         &out->plaintext, err));
    CLV_TRY(clv_kms_check_plaintext(a->operation, out->plaintext, err));
    CLV_TRY(clv_buf_append(&out->document, clv_voucher_document(a->voucher), err));
    memcpy(out->request_id, answer->request_id, sizeof out->request_id);
    out->ciphertext_blob = body.ciphertext_blob;
    out->public_key = body.public_key;
    body.ciphertext_blob = body.public_key = (clv_buf)CLV_BUF_INIT;
    return CLV_OK;
}

static bool lost(clv_status status)
{
    return status == CLV_KMS_CONNECT || status == CLV_KMS_TIMEOUT;
}

static clv_status exchange_once(attempt *a, clv_kms_answer *out, clv_error *err)
{
    clv_auto(clv_credentials) credentials = CLV_CREDENTIALS_INIT;
    uint64_t now_ms = clv_voucher_now_ms(a->voucher);
    CLV_TRY(take_credentials(a->kms, now_ms, &credentials, err));
    clv_auto(clv_buf) body = CLV_BUF_INIT;
    CLV_TRY(clv_kms_request(a->operation, clv_voucher_document(a->voucher), &body, err));

    bool probe;
    CLV_TRY(clv_circuit_enter(&a->kms->circuit, clv_monotonic_ms(), &probe, err));
    clv_auto(clv_https_answer) answer = CLV_HTTPS_ANSWER_INIT;
    clv_status status = send_signed(a, &credentials, now_ms, clv_buf_bytes(&body), &answer, err);
    a->failure.retryable = lost(status);
    memcpy(a->failure.request_id, answer.request_id, sizeof a->failure.request_id);
    if (status == CLV_OK && answer.status == 200) {
        a->failure.http_status = answer.status;
        status = accept_answer(a, &answer, out, err);
        if (status != CLV_OK)
            status = clv_blame(err, status, "KMS's answer to %s (request id %s)",
                               clv_kms_action_name(a->operation->action), answer.request_id);
    } else if (status == CLV_OK) {
        status = refused(a, &credentials, &answer, err);
    }
    clv_circuit_leave(&a->kms->circuit, clv_monotonic_ms(), probe, a->answered);
    count_call(a->kms, status, &a->failure);
    return status;
}

/* Spends and destroys the voucher, whatever happens. */
static clv_status attempt_once(attempt *a, clv_voucher **voucher, clv_kms_answer *out,
                               clv_error *err)
{
    clv_auto_ptr(clv_voucher) mine = clv_voucher_move(voucher);
    if (mine == NULL)
        return clv_fail(err, CLV_VOUCHER_SPENT, "expected a voucher, found none");
    CLV_TRY(clv_voucher_spend(mine, a->operation, err));

    clv_auto(clv_kms_answer) answer = CLV_KMS_ANSWER_INIT;
    a->voucher = mine;
    clv_status status = exchange_once(a, &answer, err);
    a->voucher = NULL;
    if (status != CLV_OK)
        return status;
    *out = answer;
    answer = (clv_kms_answer)CLV_KMS_ANSWER_INIT;
    return CLV_OK;
}

clv_status clv_kms_call(clv_kms *kms, clv_voucher **voucher, const clv_operation *operation,
                        clv_kms_answer *out, clv_kms_failure *failure, clv_error *err)
{
    attempt a = {.kms = kms,
                 .operation = operation,
                 .deadline_ms = clv_monotonic_ms() + (uint64_t)kms->timeout_ms,
                 .most_ms = kms->timeout_ms};
    clv_status status = attempt_once(&a, voucher, out, err);
    if (status != CLV_OK && failure != NULL)
        *failure = a.failure;
    return status;
}

/* -- calls with retries ------------------------------------------------------------------- */

/* Full jitter (AWS architecture blog, "Exponential Backoff And Jitter"): anywhere from nothing to
 * the doubled base. */
static uint64_t backoff_ms(unsigned retries)
{
    uint64_t most = BACKOFF_BASE_MS;
    for (unsigned i = 0; i < retries && most < BACKOFF_MAX_MS; i++)
        most *= 2;
    if (most > BACKOFF_MAX_MS)
        most = BACKOFF_MAX_MS;
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
        return most;
    return random % (most + 1);
}

static void sleep_ms(uint64_t ms)
{
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Credentials that ran out may have been replaced while the call was under way. */
static bool replaced_meanwhile(clv_kms *kms, clv_status status, uint64_t generation)
{
    return (status == CLV_KMS_CREDENTIALS_EXPIRED || status == CLV_KMS_EXPIRED_TOKEN ||
            status == CLV_KMS_UNRECOGNIZED_CLIENT) &&
           credentials_generation(kms) != generation;
}

/* Nothing is vouched for while the circuit is open. */
static clv_status vouch_and_call(attempt *a, clv_gate *gate, clv_kms_answer *out, clv_error *err)
{
    clv_auto_ptr(clv_voucher) voucher = NULL;
    CLV_TRY(clv_circuit_check(&a->kms->circuit, clv_monotonic_ms(), err));
    CLV_TRY(clv_gate_vouch(gate, a->operation, &voucher, err));
    return attempt_once(a, &voucher, out, err);
}

clv_status clv_kms_run(clv_kms *kms, clv_gate *gate, const clv_operation *operation,
                       clv_kms_answer *out, clv_kms_failure *failure, clv_error *err)
{
    const uint64_t deadline = clv_monotonic_ms() + (uint64_t)kms->timeout_ms;
    clv_error first = {0};
    clv_kms_failure first_failure = {0};
    for (unsigned retries = 0;; retries++) {
        uint64_t generation = credentials_generation(kms);
        /* Half at most, so that one silent connection leaves time for another. */
        attempt a = {.kms = kms,
                     .operation = operation,
                     .deadline_ms = deadline,
                     .most_ms = kms->timeout_ms / 2 + 1};
        clv_error last = {0};
        clv_status status = vouch_and_call(&a, gate, out, &last);
        if (status == CLV_OK)
            return CLV_OK;
        /* A circuit that opened on the way says less than what opened it. */
        bool circuit = status == CLV_KMS_CIRCUIT;
        if (!circuit || retries == 0) {
            first = last;
            first_failure = a.failure;
        }

        /* Who began before the circuit opened waits it out; who comes later fails at once. */
        uint64_t pause = backoff_ms(retries);
        bool again = (circuit ? retries > 0 : a.failure.retryable) ||
                     replaced_meanwhile(kms, status, generation);
        again = again && clv_monotonic_ms() + pause < deadline;
        if (!again) {
            if (failure != NULL)
                *failure = first_failure;
            if (retries > 0)
                clv_blame(&first, first.code, "after %u retries", retries);
            return clv_fail(err, first.code, "%s", first.text);
        }
        sleep_ms(pause);
    }
}

/*
 * What may be renewed while the daemon serves. The policy is measured and stays; so does the
 * identity of the start. Renewed are the things that come from outside anyway: credentials, the
 * baseline, which is verified again with a new document of this enclave, and the kept connections
 * to KMS. SIGHUP asks for it, or the parent (docs/protocol.md, "Control").
 */
#ifndef CLV_ENCLAVE_RELOAD_H
#define CLV_ENCLAVE_RELOAD_H

#include <pthread.h>

#include <claviger/bytes.h>

struct clv_enclave;

/* Two reloads are at least this far apart, however often the parent asks. */
#define CLV_RELOAD_INTERVAL_MS 2000

/* How the baseline was found when it was last looked at. */
typedef struct clv_review {
    pthread_mutex_t lock; /* held through a reload; protects ended_ms and last */
    uint64_t ended_ms;    /* monotonic; 0: none since the start */
    clv_error last;
    pthread_mutex_t result_lock; /* protects what follows */
    uint64_t checked_ms;         /* monotonic */
    clv_error baseline;
    pthread_t main_thread; /* gets SIGTERM when this release turns out to be revoked */
} clv_review;

void clv_review_init(clv_review *review);
void clv_review_drop(clv_review *review);

/*
 * Everything is tried; the first failure is the result. CLV_BASELINE_REVOKED, under a signature of
 * a release key: the daemon ends. When another reload ended less than CLV_RELOAD_INTERVAL_MS ago,
 * its result stands.
 */
CLV_NODISCARD clv_status clv_reload(struct clv_enclave *enclave, clv_error *err);

/* The result of the last look at the baseline, CLV_OK where it matched. */
void clv_review_read(clv_review *review, uint64_t *checked_ms, clv_error *baseline);

#endif

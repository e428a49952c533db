/*
 * Keeps the KMS client supplied with credentials: fetches them from the parent before the first
 * call, again well before they expire, and at once when KMS says that they have expired.
 *
 * One thread of its own. AWS's guidance is to refresh five minutes before expiry at the latest
 * (IAM user guide, "Using temporary security credentials"); the parent refreshes 15 minutes
 * before, so that asking 10 minutes before finds new ones.
 */
#ifndef CLV_ENCLAVE_KEEPER_H
#define CLV_ENCLAVE_KEEPER_H

#include <base/clock.h>
#include <enclave/metrics.h>
#include <enclave/services.h>

#define CLV_KEEPER_BEFORE_MS   600000 /* ask this long before expiry */
#define CLV_KEEPER_LOOK_MS     30000  /* look at the expiry this often */
#define CLV_KEEPER_INTERVAL_MS 2000   /* two fetches are at least this far apart */

typedef struct clv_keeper clv_keeper;

/* Starts the thread; the first credentials must be set already. All arguments outlive it. */
CLV_NODISCARD clv_status clv_keeper_start(clv_services *services, clv_kms *kms, clv_clock *clock,
                                          clv_metrics *metrics, clv_keeper **out, clv_error *err);
/* Stops and joins the thread. */
void clv_keeper_free(clv_keeper **keeper);

/*
 * Fetch now, on the caller's thread; when another fetch ended less than CLV_KEEPER_INTERVAL_MS
 * ago, its result stands.
 */
CLV_NODISCARD clv_status clv_keeper_refresh(clv_keeper *keeper, clv_error *err);

/* Whether a failure says that newer credentials could help. */
bool clv_keeper_can_help(clv_status status);

#endif

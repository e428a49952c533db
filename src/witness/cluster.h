/*
 * The records in an etcd cluster. Each read and write is one transaction that also compares the
 * init record, so that a cluster that was emptied, put back or set up anew is never taken for the
 * one that this enclave knows:
 *
 *     PREFIX init          the init record
 *     PREFIX state/NAME    what was seen last of a state: kinds state and deleted
 *     PREFIX root/KEY      the root of a policy key
 *
 * Bytes in, bytes out: what the records say, and who signed them, is witness.c's.
 */
#ifndef CLV_WITNESS_CLUSTER_H
#define CLV_WITNESS_CLUSTER_H

#include <etcd/kv.h>

typedef struct clv_cluster_pair {
    clv_buf value;    /* empty: there is none */
    int64_t revision; /* of its last change; 0: there is none */
} clv_cluster_pair;
#define CLV_CLUSTER_PAIR_INIT \
    {                         \
        CLV_BUF_INIT, 0       \
    }
void clv_cluster_pair_drop(clv_cluster_pair *pair);

/* Everything here may fail with CLV_WITNESS_UNAVAILABLE. */
CLV_NODISCARD clv_status clv_cluster_read_init(clv_etcd *etcd, clv_cluster_pair *out,
                                               clv_error *err);
/* CLV_WITNESS_INITIALISED: there is one. */
CLV_NODISCARD clv_status clv_cluster_write_init(clv_etcd *etcd, clv_bytes value, clv_error *err);

/* init: the init record as it was found; CLV_WITNESS_OTHER where it is another now. what: "state/",
 * … */
CLV_NODISCARD clv_status clv_cluster_read(clv_etcd *etcd, const clv_cluster_pair *init,
                                          const char *what, const char *name, clv_cluster_pair *out,
                                          clv_error *err);

/* Put the value where the pair is still of *revision, which becomes the new one:
 * CLV_STATE_CONFLICT where it is not, and where an answer was lost: a read then tells. */
CLV_NODISCARD clv_status clv_cluster_write(clv_etcd *etcd, const clv_cluster_pair *init,
                                           const char *what, const char *name, int64_t *revision,
                                           clv_bytes value, clv_error *err);

/* Every value below what + prefix, one call each. */
typedef clv_status (*clv_cluster_visit)(void *with, clv_bytes value, clv_error *err);
CLV_NODISCARD clv_status clv_cluster_list(clv_etcd *etcd, const clv_cluster_pair *init,
                                          const char *what, const char *prefix,
                                          clv_cluster_visit visit, void *with, clv_error *err);

#endif

/* Between the files of this room: the witness itself, and how its parts are fetched. */
#ifndef CLV_WITNESS_WITNESS_STATE_H
#define CLV_WITNESS_WITNESS_STATE_H

#include <pthread.h>

#include <witness/cluster.h>
#include <witness/keys.h>
#include <witness/witness.h>

/* What the parent keeps for the fleet. No policy key has a "/" in its name, no state begins with
 * one. */
#define CLV_WITNESS_SECRET_NAME      "claviger/witness"
#define CLV_WITNESS_CERTIFICATE_NAME "/claviger/witness-certificate"

struct clv_witness {
    clv_witness_options options;
    clv_witness_metrics metrics;
    X509_STORE *trust;     /* the policy's ca_file, as it was at the start; NULL: there is none */
    pthread_rwlock_t lock; /* protects the rest: read while it is used, written while fetched */
    bool ready;
    clv_witness_keys keys;  /* sign is NULL until they are there */
    clv_etcd *etcd;         /* NULL until there is a certificate */
    clv_record init;        /* kind init, once it is ready */
    clv_cluster_pair found; /* init, as it stands in the cluster */
    clv_error failure;      /* of the last attempt to get ready that failed */
    atomic_ulong failures;  /* how many did; counted with the lock held, read without */
};

/* The policy's section and key. */
const clv_policy_witness *clv_witness_section(const clv_witness *witness);
const clv_policy_key *clv_witness_key(const clv_witness *witness);

/* Ready, and held for reading until clv_witness_release(). */
CLV_NODISCARD clv_status clv_witness_hold(clv_witness *witness, clv_error *err);
void clv_witness_release(clv_witness *witness);

/* Sign as of now; *record's fleet and time are filled in. Needs to be held. */
CLV_NODISCARD clv_status clv_witness_sign(clv_witness *witness, clv_record *record, clv_buf *out,
                                          clv_error *err);
/* A record of this fleet: CLV_WITNESS_RECORD, CLV_WITNESS_OTHER. Needs to be held. */
CLV_NODISCARD clv_status clv_witness_read(clv_witness *witness, clv_bytes bytes, clv_record *out,
                                          clv_error *err);

#endif

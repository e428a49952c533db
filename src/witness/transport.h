/* How the enclave reaches the etcd cluster: TLS that ends here, with the fleet's client key,
 * through one relay of the parent's for each endpoint. */
#ifndef CLV_WITNESS_TRANSPORT_H
#define CLV_WITNESS_TRANSPORT_H

#include <base/clock.h>
#include <base/crypto.h>
#include <claviger/policy.h>
#include <etcd/etcd.h>

/* relay[i]: of witness->endpoint[i]; trust: witness->ca_file as it was read. The witness's texts
 * and the clock must outlive *out; trust, certificate and key are kept by reference. */
CLV_NODISCARD clv_status clv_witness_connect(const clv_policy_witness *witness, X509_STORE *trust,
                                             const char *const *relay, clv_clock *clock,
                                             X509 *certificate, EVP_PKEY *key, clv_etcd **out,
                                             clv_error *err);

#endif

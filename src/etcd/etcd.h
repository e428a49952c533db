/*
 * A client of etcd's v3 API through its JSON gateway (etcd documentation, "Why gRPC gateway"):
 * POST /v3/kv/…, keys and values in base64, 64-bit integers as decimal text. Bytes in, bytes out;
 * what the keys mean is its user's.
 *
 * How a request reaches an endpoint is the transport's: the parent and the enclave have one each.
 * The endpoints are tried in turn, beginning with the one that answered last. An endpoint that is
 * cut off from the majority answers 503 or 504, or nothing: CLV_STORE_UNAVAILABLE when all do.
 */
#ifndef CLV_ETCD_ETCD_H
#define CLV_ETCD_ETCD_H

#include <base/json.h>

#define CLV_ETCD_ENDPOINTS_MAX 16
#define CLV_ETCD_PREFIX_MAX    128
#define CLV_ETCD_ANSWER_MAX    ((size_t)8 * 1024 * 1024)
#define CLV_ETCD_TIMEOUT_MS    7000 /* etcd itself gives up on a majority after 5 to 7 seconds */

typedef struct clv_etcd clv_etcd;

typedef struct clv_etcd_transport {
    void *with;
    /*
     * POST the body, JSON, to /v3/METHOD of one endpoint, within CLV_ETCD_TIMEOUT_MS, an answer of
     * at most CLV_ETCD_ANSWER_MAX. Any answer is a success with its HTTP status;
     * CLV_STORE_UNAVAILABLE: this endpoint gave none.
     */
    clv_status (*post)(void *with, size_t endpoint, const char *method, clv_bytes body,
                       long *status, clv_buf *answer, clv_error *err);
    void (*free)(void *with);
} clv_etcd_transport;

typedef struct clv_etcd_cluster {
    const char *endpoint[CLV_ETCD_ENDPOINTS_MAX];
    size_t endpoints;
    const char *prefix; /* comes before every key */
} clv_etcd_cluster;

/* A list of 1 to CLV_ETCD_ENDPOINTS_MAX URLs http[s]://HOST:PORT; the texts stay the list's. path
 * is the member's name, for errors: CLV_JSON_VALUE. */
CLV_NODISCARD clv_status clv_etcd_read_endpoints(const json_t *list, const char *path,
                                                 clv_etcd_cluster *out, clv_error *err);
CLV_NODISCARD clv_status clv_etcd_check_prefix(const char *prefix, const char *path,
                                               clv_error *err);

/* The transport is taken over; the cluster's texts must live as long as transport->with. */
CLV_NODISCARD clv_status clv_etcd_new(const clv_etcd_cluster *cluster,
                                      const clv_etcd_transport *transport, clv_etcd **out,
                                      clv_error *err);
void clv_etcd_free(clv_etcd **etcd);

/* The key with the prefix before it, in base64; what: a suffix such as "state/". */
CLV_NODISCARD clv_status clv_etcd_key(const clv_etcd *etcd, const char *what, const char *name,
                                      clv_buf *out, clv_error *err);
/* The first key after all that begin with this one, in base64. */
CLV_NODISCARD clv_status clv_etcd_key_end(const clv_etcd *etcd, const char *what, const char *name,
                                          clv_buf *out, clv_error *err);

/* Bytes of the configured prefix, which every key begins with. */
size_t clv_etcd_prefix_length(const clv_etcd *etcd);

/* Takes over the body. *uncertain (may be NULL) is set to true when an attempt may have taken
 * effect although it was not answered. */
CLV_NODISCARD clv_status clv_etcd_call(clv_etcd *etcd, const char *method, json_t *body,
                                       json_t **answer, bool *uncertain, clv_error *err);

/* A member that is an integer as decimal text, absent for 0 (proto3 JSON). */
CLV_NODISCARD clv_status clv_etcd_integer(const json_t *object, const char *name, int64_t *out,
                                          clv_error *err);
void clv_etcd_set_integer(json_t *object, const char *name, int64_t value);

#endif

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
/* Of a call, over all its endpoints. The enclave waits 10 s for its parent, and hears the reason.
 */
#define CLV_ETCD_TIMEOUT_MS 7500
#define CLV_ETCD_CONNECT_MS 1500

typedef struct clv_etcd clv_etcd;

/* One more piece of an answer that goes on; true: it is enough. */
typedef bool (*clv_etcd_take)(void *with, clv_bytes piece);

typedef struct clv_etcd_transport {
    void *with;
    /*
     * POST the body, JSON, to /v3/METHOD of one endpoint, within clv_etcd_try_ms(), an answer of
     * at most CLV_ETCD_ANSWER_MAX. Any answer is a success with its HTTP status;
     * CLV_STORE_UNAVAILABLE: this endpoint gave none. A request is never sent twice.
     */
    clv_status (*post)(void *with, size_t endpoint, const char *method, clv_bytes body,
                       long *status, clv_buf *answer, clv_error *err);
    /*
     * The same for an answer that goes on (watch): its pieces are handed over until that is
     * enough. CLV_STORE_UNAVAILABLE also when timeout_ms is over. NULL: nothing is watched here.
     */
    clv_status (*follow)(void *with, size_t endpoint, const char *method, clv_bytes body,
                         int timeout_ms, clv_etcd_take take, void *take_with, clv_error *err);
    void (*free)(void *with);
} clv_etcd_transport;

typedef struct clv_etcd_cluster {
    const char *endpoint[CLV_ETCD_ENDPOINTS_MAX];
    size_t endpoints;
    const char *prefix; /* comes before every key */
} clv_etcd_cluster;

/* How long one endpoint may take, so that another can still be asked. */
int clv_etcd_try_ms(const clv_etcd_cluster *cluster);

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

/* Takes over the body. Hands over an answer that goes on, of the first endpoint that gives one,
 * until it is enough or timeout_ms is over. CLV_STORE_UNAVAILABLE: none does. */
CLV_NODISCARD clv_status clv_etcd_follow(clv_etcd *etcd, const char *method, json_t *body,
                                         int timeout_ms, clv_etcd_take take, void *with,
                                         clv_error *err);

/*
 * Wait for a change of the key after the revision, at most timeout_ms. That it returns means that
 * it is time to look, not that there is something new. CLV_STORE_UNAVAILABLE.
 */
CLV_NODISCARD clv_status clv_etcd_watch(clv_etcd *etcd, const char *what, const char *name,
                                        int64_t revision, int timeout_ms, clv_error *err);

/* A member that is an integer as decimal text, absent for 0 (proto3 JSON). */
CLV_NODISCARD clv_status clv_etcd_integer(const json_t *object, const char *name, int64_t *out,
                                          clv_error *err);
void clv_etcd_set_integer(json_t *object, const char *name, int64_t value);

#endif

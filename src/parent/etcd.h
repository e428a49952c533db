/*
 * A client of etcd's v3 API through its JSON gateway (etcd documentation, "Why gRPC gateway"):
 * POST /v3/kv/…, keys and values in base64, 64-bit integers as decimal text. Bytes in, bytes out;
 * what the keys mean is store_etcd.c's.
 *
 * The endpoints are tried in turn, beginning with the one that answered last. An endpoint that is
 * cut off from the majority answers 503 or 504, or nothing: CLV_STORE_UNAVAILABLE when all do.
 */
#ifndef CLV_PARENT_ETCD_H
#define CLV_PARENT_ETCD_H

#include <base/json.h>

typedef struct clv_etcd clv_etcd;

/*
 * The configuration file, strict JSON: {"endpoints": ["https://host:2379", …], "prefix": text,
 * "ca_file", "cert_file", "key_file"}. The prefix comes before every key ("claviger/" where it is
 * absent); files are PEM, and needed for https endpoints alone.
 */
CLV_NODISCARD clv_status clv_etcd_open(const char *path, clv_etcd **out, clv_error *err);
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

#endif

/* Keys and values of etcd: what requests and answers are made of. */
#ifndef CLV_ETCD_KV_H
#define CLV_ETCD_KV_H

#include <etcd/etcd.h>

/* {"key": …} or, of a whole folder, {"key": …, "range_end": …}: a new reference. */
CLV_NODISCARD clv_status clv_etcd_key_object(const clv_etcd *etcd, const char *what,
                                             const char *name, bool folder, json_t **out,
                                             clv_error *err);
/* {"key": …, "value": …}: a new reference. */
CLV_NODISCARD clv_status clv_etcd_put_object(const clv_etcd *etcd, const char *what,
                                             const char *name, clv_bytes value, json_t **out,
                                             clv_error *err);
/* The value of a pair, appended; an empty one has no member. */
CLV_NODISCARD clv_status clv_etcd_value(const json_t *kv, clv_buf *out, clv_error *err);

/* The pair of one key at a revision (0: now), borrowed from *answer; NULL: there is none.
 * CLV_STATE_CONFLICT: the revision was compacted away. */
CLV_NODISCARD clv_status clv_etcd_range_one(clv_etcd *etcd, const char *what, const char *name,
                                            int64_t revision, json_t **answer, const json_t **kv,
                                            clv_error *err);

/* One operation ("request_put", …) more of a transaction; takes over the request. */
CLV_NODISCARD clv_status clv_etcd_add_operation(json_t *operations, const char *kind,
                                                json_t *request, clv_error *err);

/* Do the operations where what/name is still of this revision (0: is not there). *done: whether
 * they were done; *uncertain: as of clv_etcd_call(). */
CLV_NODISCARD clv_status clv_etcd_commit(clv_etcd *etcd, const char *what, const char *name,
                                         int64_t revision, json_t *operations, bool *done,
                                         bool *uncertain, clv_error *err);

/* No memory for a request: CLV_NO_MEMORY. */
clv_status clv_etcd_no_memory(clv_error *err);

#endif

/*
 * One upstream of the relay: a name, its port and the addresses that it has just now.
 *
 * A name is resolved by a thread of its own, so that a resolver that hangs delays the connections
 * to this name alone. Addresses are used for CLV_UPSTREAM_FRESH_MS; after that a connection still
 * gets them while they are refreshed, and a resolver's outage leaves the old ones in use: TLS, not
 * DNS, says who answers. A literal address needs no resolver and no thread.
 */
#ifndef CLV_PARENT_UPSTREAM_H
#define CLV_PARENT_UPSTREAM_H

#include <base/net.h>

#define CLV_UPSTREAM_FRESH_MS  60000
#define CLV_UPSTREAM_RETRY_MS  5000 /* between two tries to refresh, while the resolver is out */
#define CLV_UPSTREAM_ADDRESSES 8
#define CLV_HOST_MAX           253 /* RFC 1035 section 2.3.4, as text without the last dot */

typedef struct clv_upstream clv_upstream;

typedef enum clv_resolution {
    CLV_RESOLUTION_READY,
    CLV_RESOLUTION_PENDING, /* ask again when wake_fd was written */
    CLV_RESOLUTION_FAILED,
} clv_resolution;

/* family: AF_UNSPEC, AF_INET or AF_INET6. wake_fd, an eventfd, is duplicated. CLV_USAGE names what
 * is wrong with host or port. */
CLV_NODISCARD clv_status clv_upstream_new(const char *host, const char *port, int family,
                                          int wake_fd, clv_upstream **out, clv_error *err);
/* Does not wait for a resolver that hangs. */
void clv_upstream_free(clv_upstream **upstream);

const char *clv_upstream_host(const clv_upstream *upstream);
uint16_t clv_upstream_port(const clv_upstream *upstream);

/* The addresses to try, in order. FAILED fills err (CLV_UNREACHABLE). `again` is true when the
 * caller asked before for the same connection: a failure known by then is its answer. */
clv_resolution clv_upstream_resolve(clv_upstream *upstream, bool again,
                                    clv_address out[CLV_UPSTREAM_ADDRESSES], size_t *count,
                                    clv_error *err);

#endif

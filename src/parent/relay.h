/*
 * The relay: a byte stream from the enclave to one upstream. It sees TLS records and nothing else.
 */
#ifndef CLV_PARENT_RELAY_H
#define CLV_PARENT_RELAY_H

#include <base/net.h>

typedef struct clv_relay clv_relay;

/*
 * "ADDRESS=HOST:PORT": listen on ADDRESS, connect each connection to HOST:PORT, which is resolved
 * anew each time. *bound gets the address that is listened on.
 */
CLV_NODISCARD clv_status clv_relay_start(const char *rule, clv_relay **out, clv_address *bound,
                                         clv_error *err);
/* Stops accepting and closes every connection. */
void clv_relay_free(clv_relay **relay);

#endif

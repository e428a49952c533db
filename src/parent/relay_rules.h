/* Within the relay: rules become listeners; on a reload they keep the sockets that stay. */
#ifndef CLV_PARENT_RELAY_RULES_H
#define CLV_PARENT_RELAY_RULES_H

#include <parent/relay_connections.h>

/*
 * The listeners of these options: those of now whose address and upstream stay, heirs of those
 * whose upstream changes, new sockets for the rest. On an error nothing is left of them. The thread
 * of the relay must not change the rules of now meanwhile.
 */
CLV_NODISCARD clv_status clv_rules_make(const rules *now, const clv_relay_options *options,
                                        int wake_fd, rules *out, clv_error *err);
void clv_listener_free(listener **l);

/* CLV_RELAY_REFUSED names the rule whose upstream the list lacks. */
CLV_NODISCARD clv_status clv_rules_allowed(const rules *r, const char *allowlist, clv_error *err);

/* [{"address", "upstream", "allowed"}]: a new reference. */
json_t *clv_rules_json(const rules *r);

#endif

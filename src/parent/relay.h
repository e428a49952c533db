/*
 * The relay: byte streams from the enclave to upstreams. It sees TLS records and nothing else.
 *
 * One thread with epoll carries every connection of every upstream, so an idle connection costs
 * two descriptors and starves nobody. Connections are bounded in number, for all and for each peer
 * (the CID on vsock, the address on TCP, the user on a Unix socket), in the time to connect and in
 * the time without a byte. A connection that cannot be made is closed and is one line of the log;
 * an upstream that fails again and again gets one line a second, which counts the others.
 */
#ifndef CLV_PARENT_RELAY_H
#define CLV_PARENT_RELAY_H

#include <base/json.h>
#include <base/net.h>

#define CLV_RELAY_RULES_MAX 16

typedef struct clv_relay_limits {
    size_t connections, per_peer;
    int connect_ms; /* to resolve the name and to reach one of its addresses */
    int idle_ms, drain_ms;
} clv_relay_limits;

typedef struct clv_relay_options {
    const char *rule[CLV_RELAY_RULES_MAX]; /* "ADDRESS=HOST:PORT" */
    size_t rules;
    const char *allowlist; /* a file of allowlist.h; NULL: the rules are the list */
    int family;            /* of upstreams: AF_UNSPEC, AF_INET, AF_INET6 */
    clv_relay_limits limits;
} clv_relay_options;

#define CLV_RELAY_DEFAULTS               \
    {                                    \
        .family = AF_UNSPEC, .limits = { \
            .connections = 4096,         \
            .per_peer = 2048,            \
            .connect_ms = 10000,         \
            .idle_ms = 120000,           \
            .drain_ms = 5000             \
        }                                \
    }

/* Counters since the start, and how many connections there are now. */
typedef struct clv_relay_counts {
    uint64_t accepted, ended, broken, idle, active;
    uint64_t refused_limit, refused_allowlist, refused_upstream;
    uint64_t bytes_up, bytes_down;
} clv_relay_counts;

typedef struct clv_relay clv_relay;

/*
 * Listen for each rule; bound[i] gets the address of rule i. CLV_RELAY_REFUSED: the allowlist lacks
 * an upstream. CLV_USAGE names the rule that is malformed. Nothing of the options is kept.
 */
CLV_NODISCARD clv_status clv_relay_start(const clv_relay_options *options, clv_relay **out,
                                         clv_address bound[CLV_RELAY_RULES_MAX], clv_error *err);
/*
 * Take other options, and read the allowlist again. The socket of an address that stays is not
 * closed for a moment. What has no rule or is no longer allowed gets no new connection; those that
 * are there go on to their end. Options or a list that are malformed change nothing. For one thread
 * at a time.
 */
CLV_NODISCARD clv_status clv_relay_reload(clv_relay *relay, const clv_relay_options *options,
                                          clv_error *err);
/* [{"address", "upstream", "allowed"}] of the rules: a new reference. */
json_t *clv_relay_rules_json(clv_relay *relay);
void clv_relay_count(clv_relay *relay, clv_relay_counts *out);
/* One line of the log with every counter. */
void clv_relay_report(clv_relay *relay);
/* Stops accepting at once, lets connections be made and busy ones end for at most drain_ms, closes
 * the rest. */
void clv_relay_free(clv_relay **relay);

#endif

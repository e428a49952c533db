#include <parent/relay_rules.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/resource.h>

#include <base/log.h>
#include <parent/allowlist.h>

/* Two sockets for each connection, and a pipe for each direction in which a receiver holds back its
 * sender; beside them spare pipes, the store, the services. */
#define DESCRIPTORS_EACH   6
#define DESCRIPTORS_BESIDE 512

/* "ADDRESS=HOST:PORT", where HOST may be [IPv6]. */
typedef struct rule {
    clv_address address;
    char host[CLV_HOST_MAX + 3];
    const char *port;
} rule;

static clv_status parse_rule(const char *text, rule *out, clv_error *err)
{
    char listen[sizeof out->address.text];
    const char *equals = strchr(text, '='), *colon = strrchr(text, ':');
    size_t n = equals != NULL && colon > equals ? (size_t)(colon - equals) - 1 : 0;
    if (n == 0 || n >= sizeof out->host || (size_t)(equals - text) >= sizeof listen)
        return clv_fail(err, CLV_USAGE, "--relay: expected ADDRESS=HOST:PORT, found \"%.80s\"",
                        text);
    snprintf(listen, sizeof listen, "%.*s", (int)(equals - text), text);
    bool bracketed = n > 2 && equals[1] == '[' && equals[n] == ']';
    snprintf(out->host, sizeof out->host, "%.*s", (int)(bracketed ? n - 2 : n),
             equals + 1 + bracketed);
    out->port = colon + 1;
    return clv_address_parse(listen, &out->address, err);
}

void clv_listener_free(listener **l)
{
    if (*l == NULL)
        return;
    clv_fd_drop(&(*l)->fd);
    clv_upstream_free(&(*l)->upstream);
    free(*l);
    *l = NULL;
}

static clv_status open_socket(const rule *from, listener *l, clv_error *err)
{
    CLV_TRY(clv_listen(&from->address, 0660, &l->fd, &l->bound, err));
    if (fcntl(l->fd, F_SETFL, O_NONBLOCK) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be listened on: %m", from->address.text);
    return CLV_OK;
}

/* heir_of: whose socket it will take over; NULL: it gets one of its own. */
static clv_status make_listener(const rule *from, int family, int wake_fd, const listener *heir_of,
                                listener **out, clv_error *err)
{
    listener *l = calloc(1, sizeof *l);
    if (l == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "no memory for a rule");
    *l = (listener){.fd = -1, .address = from->address};
    l->watch = (watch){.kind = WATCH_LISTENER, .owner = l};
    clv_status status =
        clv_upstream_new(from->host, from->port, family, wake_fd, &l->upstream, err);
    if (status != CLV_OK)
        status = clv_blame(err, status, "--relay %.80s", from->address.text);
    else if (heir_of == NULL)
        status = open_socket(from, l, err);
    else
        l->bound = heir_of->bound;
    if (status == CLV_OK)
        *out = l;
    else
        clv_listener_free(&l);
    return status;
}

static listener *find(const rules *r, const char *address)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->listener[i]->address.text, address) == 0)
            return r->listener[i];
    }
    return NULL;
}

static bool leads_to(const listener *l, const rule *to)
{
    return strcasecmp(clv_upstream_host(l->upstream), to->host) == 0 &&
           clv_upstream_port(l->upstream) == strtoul(to->port, NULL, 10);
}

static clv_status add_rule(const rules *now, const char *text, int family, int wake_fd, rules *out,
                           clv_error *err)
{
    rule parsed;
    CLV_TRY(parse_rule(text, &parsed, err));
    if (find(out, parsed.address.text) != NULL)
        return clv_fail(err, CLV_USAGE, "--relay: expected %s once, found it twice",
                        parsed.address.text);
    size_t i = out->count;
    listener *old = find(now, parsed.address.text);
    if (old != NULL && leads_to(old, &parsed)) {
        out->listener[i] = old;
    } else {
        CLV_TRY(make_listener(&parsed, family, wake_fd, old, &out->listener[i], err));
        out->heir_of[i] = old;
    }
    out->count++;
    return CLV_OK;
}

static clv_status check_list(rules *r, const char *path, clv_error *err)
{
    clv_auto_ptr(clv_allowlist) list = NULL;
    if (path != NULL)
        CLV_TRY(clv_allowlist_read(path, &list, err));
    for (size_t i = 0; i < r->count; i++) {
        const clv_upstream *u = r->listener[i]->upstream;
        r->allowed[i] =
            list == NULL || clv_allowlist_has(list, clv_upstream_host(u), clv_upstream_port(u));
    }
    return CLV_OK;
}

/* More connections than descriptors would break those that are there. */
static size_t affordable(size_t connections)
{
    struct rlimit limit;
    size_t wanted = DESCRIPTORS_EACH * connections + DESCRIPTORS_BESIDE;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return connections;
    size_t most = limit.rlim_cur > 2 * DESCRIPTORS_BESIDE
                      ? (size_t)(limit.rlim_cur - DESCRIPTORS_BESIDE) / DESCRIPTORS_EACH
                      : (size_t)limit.rlim_cur / 2 / DESCRIPTORS_EACH;
    clv_log(CLV_LOG_WARNING, "relay.descriptors", NULL,
            "expected %zu descriptors for %zu connections, found a limit of %llu: %zu connections",
            wanted, connections, (unsigned long long)limit.rlim_cur, most);
    return most;
}

clv_status clv_rules_make(const rules *now, const clv_relay_options *options, int wake_fd,
                          rules *out, clv_error *err)
{
    *out = (rules){.limits = options->limits};
    clv_status status = CLV_OK;
    for (size_t i = 0; i < options->rules && status == CLV_OK; i++)
        status = add_rule(now, options->rule[i], options->family, wake_fd, out, err);
    if (status == CLV_OK)
        status = check_list(out, options->allowlist, err);
    out->limits.connections = affordable(options->limits.connections);
    for (size_t i = 0; i < out->count && status != CLV_OK; i++) {
        if (find(now, out->listener[i]->address.text) != out->listener[i])
            clv_listener_free(&out->listener[i]);
    }
    return status;
}

clv_status clv_rules_allowed(const rules *r, const char *allowlist, clv_error *err)
{
    for (size_t i = 0; i < r->count; i++) {
        const clv_upstream *u = r->listener[i]->upstream;
        if (!r->allowed[i])
            return clv_fail(err, CLV_RELAY_REFUSED, "%s: expected an entry for %s:%u, found none",
                            allowlist, clv_upstream_host(u), clv_upstream_port(u));
    }
    return CLV_OK;
}

json_t *clv_rules_json(const rules *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->count; i++) {
        const listener *l = r->listener[i];
        char upstream[CLV_HOST_MAX + 8];
        snprintf(upstream, sizeof upstream, "%s:%u", clv_upstream_host(l->upstream),
                 clv_upstream_port(l->upstream));
        json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "address", l->bound.text,
                                              "upstream", upstream, "allowed", l->allowed));
    }
    return list;
}

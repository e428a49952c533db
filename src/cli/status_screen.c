#include <cli/status_screen.h>

#include <inttypes.h>
#include <stdio.h>

#include <base/log.h>

#define BOLD  "\033[1m"
#define GREEN "\033[32m"
#define RED   "\033[31m"
#define OFF   "\033[0m"

typedef struct page {
    const clv_status_view *view;
    bool colour;
    clv_buf *out;
} page;

/* A member some levels down ("kms.calls"), or NULL. */
static const json_t *find(const json_t *from, const char *path)
{
    char name[48];
    while (from != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)n, path);
        from = json_object_get(from, name);
        path += n + (path[n] == '/');
    }
    return from;
}

/* The programs at the other end are not trusted with the terminal. */
static const char *text_of(const page *p, const char *path, char out[96])
{
    const char *text = json_string_value(find(p->view->said, path));
    size_t n = 0;
    for (; text != NULL && text[n] != '\0' && n < 95; n++)
        out[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    out[n] = '\0';
    return text != NULL ? out : "-";
}

static int64_t number_of(const page *p, const char *path)
{
    return json_integer_value(find(p->view->said, path));
}

static bool is(const page *p, const char *path)
{
    return json_is_true(find(p->view->said, path));
}

static const char *paint(const page *p, bool good)
{
    return !p->colour ? "" : good ? GREEN : RED;
}

static const char *plain(const page *p)
{
    return p->colour ? OFF : "";
}

/* "  label      value": a label of twelve. */
static clv_status label(const page *p, const char *name, clv_error *err)
{
    return clv_buf_printf(p->out, err, "  %-12s ", name);
}

static clv_status verdict(const page *p, bool good, const char *yes, const char *no, clv_error *err)
{
    return clv_buf_printf(p->out, err, "%s%s%s", paint(p, good), good ? yes : no, plain(p));
}

/* A counter, and how fast it grows since the last look. */
static clv_status counted(const page *p, const char *what, const char *path, clv_error *err)
{
    int64_t now = number_of(p, path);
    CLV_TRY(clv_buf_printf(p->out, err, "%s %" PRId64, what, now));
    if (p->view->before == NULL || p->view->seconds <= 0)
        return CLV_OK;
    int64_t before = json_integer_value(find(p->view->before, path));
    return clv_buf_printf(p->out, err, " (%.1f/s)", (double)(now - before) / p->view->seconds);
}

static clv_status row(const page *p, const char *name, const char *const pair[][2], size_t n,
                      clv_error *err)
{
    CLV_TRY(label(p, name, err));
    for (size_t i = 0; i < n; i++) {
        CLV_TRY(clv_buf_append_text(p->out, i > 0 ? ", " : "", err));
        CLV_TRY(counted(p, pair[i][0], pair[i][1], err));
    }
    return clv_buf_append_text(p->out, "\n", err);
}
#define ROW(page, name, pairs, err) row(page, name, pairs, sizeof(pairs) / sizeof(pairs)[0], err)

static clv_status duration(const page *p, int64_t seconds, clv_error *err)
{
    if (seconds < 120)
        return clv_buf_printf(p->out, err, "%" PRId64 " s", seconds);
    if (seconds < 7200)
        return clv_buf_printf(p->out, err, "%" PRId64 " min", seconds / 60);
    return clv_buf_printf(p->out, err, "%" PRId64 " h %" PRId64 " min", seconds / 3600,
                          seconds / 60 % 60);
}

static clv_status title(const page *p, clv_error *err)
{
    char program[96], version[96];
    CLV_TRY(clv_buf_printf(p->out, err, "%s%s%s  %s, up ", p->colour ? BOLD : "",
                           text_of(p, "program", program), plain(p),
                           text_of(p, "version", version)));
    CLV_TRY(duration(p, number_of(p, "uptime_s"), err));
    return clv_buf_append_text(p->out, "\n", err);
}

/* -- the enclave ------------------------------------------------------------------------------- */

static clv_status identity(const page *p, clv_error *err)
{
    char a[96], b[96], pcr0[96], policy[96];
    CLV_TRY(label(p, "identity", err));
    CLV_TRY(clv_buf_printf(p->out, err, "%s, module %s\n", text_of(p, "identity/enclave", a),
                           text_of(p, "identity/module_id", b)));
    CLV_TRY(label(p, "", err));
    return clv_buf_printf(p->out, err, "PCR0 %.16s…, policy %.16s…%s\n",
                          text_of(p, "identity/pcrs/0", pcr0),
                          text_of(p, "identity/policy_sha384", policy),
                          is(p, "identity/debug") ? ", DEBUG MODE" : "");
}

static clv_status baseline(const page *p, clv_error *err)
{
    char by[96], release[96], problem[96];
    CLV_TRY(label(p, "baseline", err));
    CLV_TRY(verdict(p, is(p, "baseline/match"), "match", "NO MATCH", err));
    CLV_TRY(clv_buf_printf(p->out, err, " by %s, release \"%s\"", text_of(p, "baseline/by", by),
                           text_of(p, "baseline/release", release)));
    if (find(p->view->said, "baseline/problem") != NULL)
        CLV_TRY(clv_buf_printf(p->out, err, ", %s", text_of(p, "baseline/problem", problem)));
    CLV_TRY(clv_buf_append_text(p->out, ", checked ", err));
    CLV_TRY(duration(p, number_of(p, "baseline/checked_s_ago"), err));
    return clv_buf_append_text(p->out, " ago\n", err);
}

static clv_status enclave_credentials(const page *p, clv_error *err)
{
    char expires[96];
    CLV_TRY(label(p, "credentials", err));
    CLV_TRY(verdict(p, is(p, "credentials/valid"), "valid", "NOT VALID", err));
    if (find(p->view->said, "credentials/expires") != NULL) {
        CLV_TRY(clv_buf_printf(p->out, err, " until %s, for ",
                               text_of(p, "credentials/expires", expires)));
        CLV_TRY(duration(p, number_of(p, "credentials/expires_in_s"), err));
    }
    return clv_buf_printf(p->out, err, "; fetched %" PRId64 " times, failed %" PRId64 "\n",
                          number_of(p, "credentials/fetches"),
                          number_of(p, "credentials/failures"));
}

static clv_status kms(const page *p, clv_error *err)
{
    char circuit[96], code[96], type[96], id[96];
    bool closed = strcmp(text_of(p, "kms/circuit", circuit), "closed") == 0;
    CLV_TRY(label(p, "KMS", err));
    CLV_TRY(clv_buf_printf(p->out, err, "circuit %s%s%s, ", paint(p, closed), circuit, plain(p)));
    CLV_TRY(counted(p, "calls", "kms/calls", err));
    CLV_TRY(clv_buf_append_text(p->out, ", ", err));
    CLV_TRY(counted(p, "failed", "kms/failures", err));
    CLV_TRY(clv_buf_append_text(p->out, "\n", err));
    if (find(p->view->said, "kms/last_failure") == NULL)
        return CLV_OK;
    CLV_TRY(label(p, "", err));
    CLV_TRY(clv_buf_printf(p->out, err, "last failure %s (%s), request %s, ",
                           text_of(p, "kms/last_failure/code", code),
                           text_of(p, "kms/last_failure/type", type),
                           text_of(p, "kms/last_failure/request_id", id)));
    CLV_TRY(duration(p, number_of(p, "kms/last_failure/s_ago"), err));
    return clv_buf_append_text(p->out, " ago\n", err);
}

static clv_status witness(const page *p, clv_error *err)
{
    char mode[96], code[96];
    static const char *const counts[][2] = {{"read", "witness/reads"},
                                            {"committed", "witness/commits"},
                                            {"out of reach", "witness/unavailable"},
                                            {"stores refused", "witness/refused"}};
    if (find(p->view->said, "witness") == NULL)
        return CLV_OK;
    CLV_TRY(label(p, "witness", err));
    CLV_TRY(clv_buf_printf(p->out, err, "%s, ", text_of(p, "witness/mode", mode)));
    CLV_TRY(verdict(p, is(p, "witness/ready"), "ready", "NOT READY: ", err));
    CLV_TRY(clv_buf_printf(p->out, err, "%s\n",
                           is(p, "witness/ready") ? "" : text_of(p, "witness/code", code)));
    return ROW(p, "", counts, err);
}

static clv_status enclave_page(const page *p, clv_error *err)
{
    char problem[96];
    static const char *const store[][2] = {{"newest generation", "store/generation"},
                                           {"stored", "store/stored"},
                                           {"conflicts", "store/conflicts"},
                                           {"calls", "store/calls"},
                                           {"failed", "store/failures"}};
    static const char *const requests[][2] = {{"answered", "requests/total"},
                                              {"4xx", "requests/4xx"},
                                              {"5xx", "requests/5xx"},
                                              {"denied", "requests/denied"},
                                              {"open", "requests/connections"}};
    static const char *const vouchers[][2] = {{"made", "vouchers/vouched"},
                                              {"spent", "vouchers/spent"},
                                              {"refused", "vouchers/refused"},
                                              {"expired", "vouchers/expired"}};
    CLV_TRY(label(p, "ready", err));
    CLV_TRY(verdict(p, is(p, "ready"), "yes", "NO: ", err));
    CLV_TRY(
        clv_buf_printf(p->out, err, "%s\n", is(p, "ready") ? "" : text_of(p, "problem", problem)));
    CLV_TRY(identity(p, err));
    CLV_TRY(baseline(p, err));
    CLV_TRY(enclave_credentials(p, err));
    CLV_TRY(kms(p, err));
    CLV_TRY(ROW(p, "store", store, err));
    CLV_TRY(witness(p, err));
    CLV_TRY(ROW(p, "requests", requests, err));
    return ROW(p, "vouchers", vouchers, err);
}

/* -- the parent -------------------------------------------------------------------------------- */

static clv_status parent_credentials(const page *p, clv_error *err)
{
    char source[96], expires[96], failure[96];
    CLV_TRY(label(p, "credentials", err));
    CLV_TRY(clv_buf_printf(p->out, err, "%s, ", text_of(p, "credentials/source", source)));
    if (number_of(p, "credentials/fetches") == 0)
        return clv_buf_append_text(p->out, "not asked for yet\n", err);
    CLV_TRY(verdict(p, is(p, "credentials/valid"), "valid", "NOT VALID", err));
    if (find(p->view->said, "credentials/expires") != NULL)
        CLV_TRY(
            clv_buf_printf(p->out, err, " until %s", text_of(p, "credentials/expires", expires)));
    if (find(p->view->said, "credentials/failure") != NULL)
        CLV_TRY(clv_buf_printf(p->out, err, "; failed: %s",
                               text_of(p, "credentials/failure", failure)));
    return clv_buf_append_text(p->out, "\n", err);
}

static clv_status rules(const page *p, clv_error *err)
{
    size_t i;
    json_t *rule;
    json_array_foreach((json_t *)find(p->view->said, "relay/rules"), i, rule)
    {
        char address[96], upstream[96];
        page of = *p;
        clv_status_view view = {.said = rule};
        of.view = &view;
        CLV_TRY(label(p, i == 0 ? "relay" : "", err));
        CLV_TRY(clv_buf_printf(p->out, err, "%s to %s%s\n", text_of(&of, "address", address),
                               text_of(&of, "upstream", upstream),
                               is(&of, "allowed") ? "" : ", NOT ALLOWED"));
    }
    return CLV_OK;
}

static clv_status parent_page(const page *p, clv_error *err)
{
    static const char *const connections[][2] = {{"open", "relay/active"},
                                                 {"accepted", "relay/accepted"},
                                                 {"broken", "relay/broken"},
                                                 {"idle", "relay/idle"}};
    static const char *const refused[][2] = {{"by upstream", "relay/refused_upstream"},
                                             {"by limit", "relay/refused_limit"},
                                             {"by allowlist", "relay/refused_allowlist"}};
    static const char *const bytes[][2] = {{"up", "relay/bytes_up"}, {"down", "relay/bytes_down"}};
    static const char *const store[][2] = {{"newest generation", "store/generation"},
                                           {"puts", "services/state.put/calls"},
                                           {"refused", "services/state.put/faults"},
                                           {"gets", "services/state.get/calls"}};
    CLV_TRY(parent_credentials(p, err));
    CLV_TRY(rules(p, err));
    CLV_TRY(ROW(p, "connections", connections, err));
    CLV_TRY(ROW(p, "refused", refused, err));
    CLV_TRY(ROW(p, "bytes", bytes, err));
    return ROW(p, "store", store, err);
}

/* The reason may be the words of the program at the other end. */
static clv_status no_answer(const page *p, clv_error *err)
{
    char problem[CLV_ERROR_TEXT_MAX];
    snprintf(problem, sizeof problem, "%s", p->view->problem);
    clv_log_printable(problem);
    return clv_buf_printf(p->out, err, "%s%s%s  %sno answer%s: %s\n", p->colour ? BOLD : "",
                          p->view->name, plain(p), paint(p, false), plain(p), problem);
}

clv_status clv_status_screen(const clv_status_view *view, bool colour, clv_buf *out, clv_error *err)
{
    page p = {view, colour, out};
    char program[96];
    if (view->said == NULL)
        return no_answer(&p, err);
    CLV_TRY(title(&p, err));
    return strcmp(text_of(&p, "program", program), "claviger-parent") == 0 ? parent_page(&p, err)
                                                                           : enclave_page(&p, err);
}

/* claviger status: how the enclave and its parent are, once, or again and again on a terminal. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <channel/frame.h>
#include <cli/agent.h>
#include <cli/command.h>
#include <cli/status_screen.h>

#define TIMEOUT_MS   5000
#define INTERVAL_MAX 3600
#define SOURCES      3

/* Where something can be asked, and how. */
typedef clv_status (*source_ask)(const char *address, json_t **out, clv_error *err);

typedef struct settings {
    const char *address[SOURCES]; /* agent, control, parent */
    bool json, once;
    int interval_s; /* 0: once, unless standard output is a terminal */
} settings;

typedef struct sample {
    json_t *said;
    uint64_t at_ms;
    clv_error problem;
} sample;

static clv_status ask_agent(const char *address, json_t **out, clv_error *err)
{
    return clv_agent_call(address, "GET", "/v1/status", out, err);
}

static clv_status ask_parent(const char *address, json_t **out, clv_error *err)
{
    return clv_agent_call(address, "GET", "/status", out, err);
}

static clv_status ask_control(const char *address, json_t **out, clv_error *err)
{
    clv_auto(clv_message) answer = CLV_MESSAGE_INIT;
    CLV_TRY(clv_call_once(address, TIMEOUT_MS, "status", CLV_BYTES(NULL, 0), &answer, err));
    *out = json_incref(answer.json);
    return CLV_OK;
}

static const struct {
    const char *name, *shown;
    source_ask ask;
} source_table[SOURCES] = {{"agent", "enclave", ask_agent},
                           {"control", "enclave", ask_control},
                           {"parent", "parent", ask_parent}};

static void take_sample(const char *address, source_ask ask, sample *out)
{
    *out = (sample){.at_ms = clv_monotonic_ms()};
    out->problem.code = ask(address, &out->said, &out->problem);
    if (out->problem.code != CLV_OK)
        clv_json_drop(&out->said);
}

/* One look at every source that was named. The first failure is *worst. */
static void look(const settings *s, sample now[SOURCES], clv_error *worst)
{
    *worst = (clv_error){.code = CLV_OK};
    for (size_t i = 0; i < SOURCES; i++) {
        if (s->address[i] == NULL)
            continue;
        take_sample(s->address[i], source_table[i].ask, &now[i]);
        if (now[i].problem.code != CLV_OK && worst->code == CLV_OK) {
            *worst = now[i].problem;
            clv_blame(worst, worst->code, "%s", source_table[i].name);
        }
    }
}

static clv_status print_json(const sample now[SOURCES], clv_error *err)
{
    clv_auto(clv_json) all = json_object();
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    for (size_t i = 0; i < SOURCES; i++) {
        if (now[i].said != NULL)
            json_object_set(all, source_table[i].name, now[i].said);
        else if (now[i].problem.code != CLV_OK)
            json_object_set_new(all, source_table[i].name,
                                json_pack("{s:s}", "code", clv_status_slug(now[i].problem.code)));
    }
    CLV_TRY(clv_json_append(&text, all, err));
    printf("%.*s\n", (int)text.n, (const char *)text.p);
    return CLV_OK;
}

static clv_status print_screen(const sample now[SOURCES], const sample before[SOURCES], bool live,
                               clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    if (live)
        CLV_TRY(clv_buf_append_text(&text, "\033[H\033[J", err));
    for (size_t i = 0; i < SOURCES; i++) {
        if (now[i].at_ms == 0)
            continue;
        clv_status_view view = {.name = source_table[i].shown,
                                .said = now[i].said,
                                .problem = now[i].problem.text,
                                .before = before[i].said,
                                .seconds = (double)(now[i].at_ms - before[i].at_ms) / 1000};
        CLV_TRY(clv_status_screen(&view, live, &text, err));
        CLV_TRY(clv_buf_append_text(&text, "\n", err));
    }
    fwrite(text.p, 1, text.n, stdout);
    return CLV_OK;
}

static void forget(sample samples[SOURCES])
{
    for (size_t i = 0; i < SOURCES; i++)
        clv_json_drop(&samples[i].said);
}

static clv_status show_once(const settings *s, clv_error *err)
{
    sample now[SOURCES] = {{NULL}}, none[SOURCES] = {{NULL}};
    clv_error worst;
    look(s, now, &worst);
    clv_status status = s->json ? print_json(now, err) : print_screen(now, none, false, err);
    forget(now);
    CLV_TRY(status);
    return worst.code == CLV_OK ? CLV_OK : clv_fail(err, worst.code, "%s", worst.text);
}

/* True when a signal says to end. */
static bool wait_for_next(const sigset_t *stop, int seconds)
{
    struct timespec pause = {.tv_sec = seconds};
    return sigtimedwait(stop, NULL, &pause) > 0;
}

/* Until interrupted. A source that does not answer is shown as such, and asked again. */
static clv_status show_live(const settings *s, clv_error *err)
{
    sample before[SOURCES] = {{NULL}};
    clv_error worst;
    sigset_t stop;
    bool screen = !s->json && isatty(STDOUT_FILENO) != 0;
    clv_status status = CLV_OK;
    sigemptyset(&stop);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    if (screen)
        fputs("\033[?25l", stdout); /* no cursor */
    do {
        sample now[SOURCES] = {{NULL}};
        look(s, now, &worst);
        status = s->json ? print_json(now, err) : print_screen(now, before, screen, err);
        forget(before);
        memcpy(before, now, sizeof before);
        if (fflush(stdout) != 0)
            status = clv_fail(err, CLV_SYSTEM, "standard output cannot be written: %m");
    } while (status == CLV_OK && !wait_for_next(&stop, s->interval_s));
    forget(before);
    if (screen)
        fputs("\033[?25h", stdout);
    return status;
}

/* -- the command line -------------------------------------------------------------------------- */

static clv_status take_agent(void *with, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)with)->address[0] = value;
    return CLV_OK;
}

static clv_status take_control(void *with, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)with)->address[1] = value;
    return CLV_OK;
}

static clv_status take_parent(void *with, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)with)->address[2] = value;
    return CLV_OK;
}

static clv_status take_interval(void *with, const char *value, clv_error *err)
{
    size_t digits = strspn(value, "0123456789");
    int seconds = digits > 0 && digits <= 4 && value[digits] == '\0' ? atoi(value) : 0;
    if (seconds < 1 || seconds > INTERVAL_MAX)
        return clv_fail(err, CLV_USAGE, "expected 1 to %d seconds, found \"%.20s\"", INTERVAL_MAX,
                        value);
    ((settings *)with)->interval_s = seconds;
    return CLV_OK;
}

static clv_status take_json(void *with, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)with)->json = true;
    return CLV_OK;
}

static clv_status take_once(void *with, const char *value, clv_error *err)
{
    (void)value;
    (void)err;
    ((settings *)with)->once = true;
    return CLV_OK;
}

static const clv_option status_options[] = {
    {"agent", "ADDRESS", "the daemon's socket, inside the enclave (default " CLV_AGENT_ADDRESS ")",
     take_agent},
    {"control", "ADDRESS", "the daemon's control address, from the parent", take_control},
    {"parent", "ADDRESS", "where claviger-parent serves its metrics", take_parent},
    {"interval", "SECONDS", "look again so often (default 1 on a terminal)", take_interval},
    {"once", NULL, "look once, also on a terminal", take_once},
    {"json", NULL, "print JSON, one object a line for each look", take_json},
    {NULL, NULL, NULL, NULL},
};

static clv_status run_status(int count, char **arguments, clv_error *err)
{
    settings s = {.interval_s = 0};
    int operands;
    CLV_TRY(clv_command_options(&clv_command_status, count, arguments, &s, 0, 0, &operands, err));
    if (s.once && s.interval_s > 0)
        return clv_fail(err, CLV_USAGE, "status: expected --once or --interval, found both");
    if (s.address[0] == NULL && s.address[1] == NULL && s.address[2] == NULL)
        s.address[0] = CLV_AGENT_ADDRESS;
    bool terminal = !s.json && isatty(STDOUT_FILENO) != 0;
    if (s.once || (s.interval_s == 0 && !terminal))
        return show_once(&s, err);
    if (s.interval_s == 0)
        s.interval_s = 1;
    return show_live(&s, err);
}

const clv_command clv_command_status = {"status", "", "Show how an enclave and its parent are",
                                        status_options, run_status};

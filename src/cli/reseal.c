/* claviger reseal: the store's states, sealed anew under this release's context. */
#include <stdio.h>

#include <base/log.h>
#include <cli/agent.h>
#include <cli/command.h>
#include <cli/progress.h>

typedef struct settings {
    const char *agent, *key, *prefix;
} settings;

/* An agent that writes a state meanwhile takes its generation: then it is looked at anew. */
#define ATTEMPTS 3

typedef struct tally {
    size_t resealed, current, gone, failed;
    clv_status first_failure;
} tally;

static clv_status list_states(const settings *s, json_t **out, clv_error *err)
{
    clv_auto(clv_buf) path = CLV_BUF_INIT;
    const char *text;
    CLV_TRY(clv_buf_append_text(&path, "/v1/state", err));
    CLV_TRY(clv_agent_query(&path, "key", s->key, err));
    CLV_TRY(clv_agent_query(&path, "prefix", s->prefix, err));
    CLV_TRY(clv_buf_text(&path, &text, err));
    return clv_agent_call(s->agent, "GET", text, out, err);
}

static clv_status reseal(const settings *s, const char *name, bool *resealed, clv_error *err)
{
    clv_auto(clv_buf) path = CLV_BUF_INIT;
    clv_auto(clv_json) answer = NULL;
    const char *text;
    CLV_TRY(clv_buf_append_text(&path, "/v1/reseal", err));
    CLV_TRY(clv_agent_query(&path, "name", name, err));
    CLV_TRY(clv_agent_query(&path, "key", s->key, err));
    CLV_TRY(clv_buf_text(&path, &text, err));
    CLV_TRY(clv_agent_call(s->agent, "POST", text, &answer, err));
    *resealed = json_is_true(json_object_get(answer, "resealed"));
    return CLV_OK;
}

/* One that fails does not keep the others from being done. */
static void reseal_one(const settings *s, const json_t *state, clv_progress *progress, tally *t)
{
    clv_error err = {0};
    bool resealed = false;
    const char *name = json_string_value(json_object_get(state, "name"));
    clv_status status = CLV_STATE_CONFLICT;
    if (name == NULL)
        status = clv_fail(&err, CLV_FRAME_FORMAT, "a state has no name");
    for (int i = 0; i < ATTEMPTS && status == CLV_STATE_CONFLICT; i++)
        status = reseal(s, name, &resealed, &err);
    t->resealed += status == CLV_OK && resealed;
    t->current += status == CLV_OK && !resealed;
    t->gone += status == CLV_STATE_NOT_FOUND; /* deleted since it was listed */
    if (status == CLV_OK || status == CLV_STATE_NOT_FOUND)
        return;
    clv_progress_end(progress);
    clv_log_printable(err.text);
    fprintf(stderr, "claviger: %s: %s (%s)\n", name != NULL ? name : "?", err.text,
            clv_status_slug(status));
    if (t->failed++ == 0)
        t->first_failure = status;
}

static clv_status take_agent(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->agent = value;
    return CLV_OK;
}

static clv_status take_key(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->key = value;
    return CLV_OK;
}

static clv_status take_prefix(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->prefix = value;
    return CLV_OK;
}

static const clv_option options[] = {
    {"agent", "ADDRESS", "the daemon's agent socket (" CLV_AGENT_ADDRESS ")", take_agent},
    {"key", "KEY", "the policy's key; not needed where it has only one", take_key},
    {"prefix", "PREFIX", "only states whose names begin so", take_prefix},
    {NULL, NULL, NULL, NULL},
};

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {.agent = CLV_AGENT_ADDRESS};
    tally t = {0};
    int operand;
    clv_auto(clv_json) answer = NULL;
    clv_progress progress;
    CLV_TRY(clv_command_options(&clv_command_reseal, count, arguments, &s, 0, 0, &operand, err));
    CLV_TRY(list_states(&s, &answer, err));
    const json_t *states = json_object_get(answer, "states");
    clv_progress_start(&progress, "resealing", 0);
    for (size_t i = 0; i < json_array_size(states); i++) {
        reseal_one(&s, json_array_get(states, i), &progress, &t);
        clv_progress_count(&progress, i + 1, json_array_size(states));
    }
    clv_progress_end(&progress);
    printf("%zu resealed, %zu sealed by this release already, %zu deleted meanwhile, %zu failed\n",
           t.resealed, t.current, t.gone, t.failed);
    if (t.failed > 0)
        return clv_fail(err, t.first_failure, "%zu of %zu states could not be sealed anew",
                        t.failed, json_array_size(states));
    return CLV_OK;
}

const clv_command clv_command_reseal = {
    "reseal", "",  "Seal the store's states anew after a release; may be stopped and run again",
    options,  run,
};

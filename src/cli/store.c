/* claviger store: a store's content taken out, brought in, looked through. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/log.h>
#include <base/net.h>
#include <claviger/operation.h>
#include <cli/command.h>
#include <cli/progress.h>
#include <cli/store_record.h>
#include <seal/state.h>
#include <witness/record.h>

/* A fault and whose it is. */
#define LINE_SIZE (CLV_ERROR_TEXT_MAX + 400)

typedef struct settings {
    const char *output;
} settings;

/* What is under way. */
typedef struct job {
    clv_store *from, *to;
    clv_output output;
    clv_progress progress;
    clv_store_counts done;
    uint64_t copied, present, newer, differ; /* of what is brought into a store */
    uint64_t faults;                         /* of what is looked through */
} job;

#define JOB_INIT                   \
    {                              \
        .output = CLV_OUTPUT_INIT, \
    }

static void job_drop(job *j)
{
    clv_progress_end(&j->progress);
    clv_output_drop(&j->output);
    clv_store_free(&j->from);
    clv_store_free(&j->to);
}

static void count_record(job *j, const clv_store_record *record)
{
    *(record->is_key ? &j->done.keys : &j->done.states) += 1;
    j->done.bytes += record->blob.n;
    clv_progress_show(&j->progress, j->done.bytes);
}

static clv_status start_from(job *j, const char *address, const char *what, clv_error *err)
{
    clv_store_counts all = {0, 0, 0};
    CLV_TRY(clv_store_open_existing(address, &j->from, err));
    /* Where this fails, what follows says why. */
    if (clv_store_count(j->from, &all, NULL) != CLV_OK)
        all.bytes = 0;
    clv_progress_start(&j->progress, what, all.bytes);
    return CLV_OK;
}

/* -- out -------------------------------------------------------------------------------------- */

static clv_status export_record(void *with, const clv_store_record *record, clv_error *err)
{
    job *j = with;
    CLV_TRY(clv_export_record(&j->output, record, err));
    count_record(j, record);
    return CLV_OK;
}

static clv_status run_export(char **operand, const settings *s, clv_error *err)
{
    clv_auto(job) j = JOB_INIT;
    CLV_TRY(start_from(&j, operand[0], "exporting", err));
    CLV_TRY(clv_output_open(s->output, &j.output, err));
    CLV_TRY(clv_export_begin(&j.output, err));
    CLV_TRY(clv_store_each(j.from, export_record, NULL, &j, err));
    CLV_TRY(clv_export_end(&j.output, &j.done, err));
    CLV_TRY(clv_output_commit(&j.output, err));
    clv_progress_end(&j.progress);
    fprintf(stderr, "%" PRIu64 " keys and %" PRIu64 " states exported\n", j.done.keys,
            j.done.states);
    return CLV_OK;
}

/* -- in --------------------------------------------------------------------------------------- */

static void say_differs(job *j, const clv_store_record *record)
{
    char name[CLV_STORE_NAME_MAX + 1];
    snprintf(name, sizeof name, "%s", record->name);
    clv_log_printable(name);
    clv_progress_end(&j->progress);
    j->differ++;
    if (record->is_key)
        fprintf(stderr, "claviger: key %s: the store holds another one, which stays\n", name);
    else
        fprintf(stderr,
                "claviger: state %s: the store holds other bytes of generation %" PRId64
                ", which stay\n",
                name, record->generation);
}

static clv_status bring_key(job *j, const clv_store_record *record, clv_error *err)
{
    clv_auto(clv_buf) held = CLV_BUF_INIT;
    clv_status status = clv_store_key_put(j->to, record->name, record->blob, err);
    if (status != CLV_STATE_CONFLICT) {
        j->copied += status == CLV_OK;
        return status;
    }
    CLV_TRY(clv_store_key_get(j->to, record->name, &held, err));
    if (clv_bytes_equal(clv_buf_bytes(&held), record->blob))
        j->present++;
    else
        say_differs(j, record);
    return CLV_OK;
}

/* What the store holds of this or a later generation stays. */
static clv_status compare_held(job *j, const clv_store_record *record, clv_error *err)
{
    clv_auto(clv_buf) held = CLV_BUF_INIT;
    int64_t generation;
    CLV_TRY(clv_store_get(j->to, record->name, &generation, &held, err));
    if (generation > record->generation)
        j->newer++;
    else if (clv_bytes_equal(clv_buf_bytes(&held), record->blob))
        j->present++;
    else
        say_differs(j, record);
    return CLV_OK;
}

/* Another writer may come between a look and the put: then we look again. */
static clv_status bring_state(job *j, const clv_store_record *record, clv_error *err)
{
    for (;;) {
        int64_t held;
        CLV_TRY(clv_store_generation(j->to, record->name, &held, err));
        if (held > record->generation) {
            j->newer++;
            return CLV_OK;
        }
        if (held == record->generation)
            return compare_held(j, record, err);
        clv_status status =
            clv_store_replace(j->to, record->name, held, record->generation, record->blob, err);
        if (status == CLV_STATE_CONFLICT)
            continue;
        j->copied += status == CLV_OK;
        return status;
    }
}

static clv_status bring(void *with, const clv_store_record *record, clv_error *err)
{
    job *j = with;
    clv_status status = record->is_key ? bring_key(j, record, err) : bring_state(j, record, err);
    if (status != CLV_OK)
        return clv_blame(err, status, "%s %.128s", record->is_key ? "key" : "state", record->name);
    count_record(j, record);
    return CLV_OK;
}

static clv_status conclude(job *j, clv_status status, clv_error *err)
{
    clv_progress_end(&j->progress);
    printf("%" PRIu64 " keys and %" PRIu64 " states: %" PRIu64 " copied, %" PRIu64
           " there already, %" PRIu64 " newer in the store and kept, %" PRIu64
           " different and kept\n",
           j->done.keys, j->done.states, j->copied, j->present, j->newer, j->differ);
    if (status == CLV_OK && j->differ > 0)
        return clv_fail(err, CLV_STATE_CONFLICT,
                        "%" PRIu64 " records differ from what the store holds under the same name",
                        j->differ);
    return status;
}

static clv_status run_import(char **operand, const settings *s, clv_error *err)
{
    clv_auto(job) j = JOB_INIT;
    struct stat file;
    (void)s;
    bool standard = strcmp(operand[1], "-") == 0;
    clv_auto(clv_fd) fd = standard ? dup(STDIN_FILENO) : open(operand[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be opened: %m", operand[1]);
    CLV_TRY(clv_store_open(operand[0], &j.to, err));
    bool sized = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
    clv_progress_start(&j.progress, "importing", sized ? (uint64_t)file.st_size : 0);
    return conclude(&j, clv_export_each(fd, bring, &j, err), err);
}

static clv_status run_migrate(char **operand, const settings *s, clv_error *err)
{
    clv_auto(job) j = JOB_INIT;
    (void)s;
    CLV_TRY(start_from(&j, operand[0], "migrating", err));
    CLV_TRY(clv_store_open(operand[1], &j.to, err));
    return conclude(&j, clv_store_each(j.from, bring, NULL, &j, err), err);
}

/* -- looking through -------------------------------------------------------------------------- */

static void say_fault(void *with, const char *fault)
{
    job *j = with;
    char line[LINE_SIZE];
    clv_progress_end(&j->progress);
    j->faults++;
    snprintf(line, sizeof line, "%s", fault);
    clv_log_printable(line);
    printf("%s\n", line);
}

/* States begin with their key's name; what begins so is the daemons' own and no sealed message. */
#define DAEMONS_OWN "/claviger/"

static clv_status judge(const clv_store_record *record, clv_error *err)
{
    if (!record->is_key && strncmp(record->name, DAEMONS_OWN, strlen(DAEMONS_OWN)) == 0)
        return CLV_OK;
    if (!record->is_key && clv_record_like(record->blob))
        return clv_record_tombstone_shape(record->blob, record->name, (uint64_t)record->generation,
                                          err);
    if (!record->is_key)
        return clv_state_shape_check(record->name, (uint64_t)record->generation, record->blob, err);
    if (record->blob.n == 0 || record->blob.n > CLV_CIPHERTEXT_BLOB_MAX)
        return clv_fail(err, CLV_SEAL_DATA_KEYS,
                        "expected a wrapped key of 1 to %d bytes, found %zu",
                        CLV_CIPHERTEXT_BLOB_MAX, record->blob.n);
    return CLV_OK;
}

static void say_judgement(job *j, const char *kind, const char *name, const clv_error *fault)
{
    char line[LINE_SIZE];
    snprintf(line, sizeof line, "%s %.256s: %s (%s)", kind, name, fault->text,
             clv_status_slug(fault->code));
    say_fault(j, line);
}

static void say_unreadable(void *with, bool is_key, const char *name, const clv_error *fault)
{
    say_judgement(with, is_key ? "key" : "state", name, fault);
}

static clv_status look_at(void *with, const clv_store_record *record, clv_error *err)
{
    job *j = with;
    clv_error fault = {.code = CLV_OK};
    (void)err;
    if (judge(record, &fault) != CLV_OK)
        say_judgement(j, record->is_key ? "key" : "state", record->name, &fault);
    count_record(j, record);
    return CLV_OK;
}

static clv_status run_check(char **operand, const settings *s, clv_error *err)
{
    clv_auto(job) j = JOB_INIT;
    (void)s;
    CLV_TRY(start_from(&j, operand[0], "checking", err));
    CLV_TRY(clv_store_check(j.from, say_fault, &j, err));
    clv_status status = clv_store_each(j.from, look_at, say_unreadable, &j, err);
    clv_progress_end(&j.progress);
    if (status == CLV_STORE_FAILED)
        say_judgement(&j, "the store", "cannot be read to its end", err);
    else
        CLV_TRY(status);
    printf("%" PRIu64 " keys and %" PRIu64 " states: %" PRIu64 " faults\n", j.done.keys,
           j.done.states, j.faults);
    if (j.faults > 0)
        return clv_fail(err, CLV_STORE_DAMAGED, "the store has %" PRIu64 " faults", j.faults);
    return CLV_OK;
}

/* -- the command line ------------------------------------------------------------------------- */

static clv_status take_output(void *into, const char *value, clv_error *err)
{
    (void)err;
    ((settings *)into)->output = value;
    return CLV_OK;
}

static const clv_option options[] = {
    {"output", "FILE", "where an export goes (standard output)", take_output},
    {NULL, NULL, NULL, NULL},
};

static const struct {
    const char *name;
    int operands;
    clv_status (*run)(char **operand, const settings *s, clv_error *err);
} verbs[] = {
    {"export", 1, run_export},
    {"import", 2, run_import},
    {"check", 1, run_check},
    {"migrate", 2, run_migrate},
};

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {.output = "-"};
    int at;
    CLV_TRY(clv_command_options(&clv_command_store, count, arguments, &s, 2, 3, &at, err));
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(arguments[at], verbs[i].name) != 0)
            continue;
        if (count - at - 1 != verbs[i].operands)
            return clv_fail(err, CLV_USAGE, "store %s: expected %d operands, found %d",
                            verbs[i].name, verbs[i].operands, count - at - 1);
        return verbs[i].run(arguments + at + 1, &s, err);
    }
    return clv_fail(err, CLV_USAGE,
                    "store: expected export, import, check or migrate, found \"%.40s\"",
                    arguments[at]);
}

const clv_command clv_command_store = {
    "store",
    "export STORE | import STORE FILE|- | check STORE | migrate FROM TO",
    "Take a store's content out, bring it in, look through it, or copy it to another engine",
    options,
    run,
};

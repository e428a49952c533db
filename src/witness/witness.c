/* Seeing and committing. */
#include <stdio.h>

#include <witness/witness_state.h>

#define STATE "state/"
#define ROOT  "root/"

/* Room for CLV_RECEIPTS_MAX records in base64. */
#define PRESENTED_MAX ((size_t)CLV_RECEIPTS_MAX * CLV_RECORD_MAX * 4 / 3)

/* For clv_auto: held for reading. */
typedef clv_witness *held;
static void held_drop(held *witness)
{
    if (*witness != NULL)
        clv_witness_release(*witness);
}

static clv_status hold(clv_witness *witness, held *out, clv_error *err)
{
    CLV_TRY(clv_witness_hold(witness, err));
    *out = witness;
    return CLV_OK;
}

clv_status clv_witness_sign(clv_witness *witness, clv_record *record, clv_buf *out, clv_error *err)
{
    memcpy(record->fleet, witness->init.fleet, sizeof record->fleet);
    CLV_TRY(clv_clock_now(witness->options.clock, &record->time_ms, err));
    return clv_record_sign(record, witness->keys.sign, out, err);
}

clv_status clv_witness_read(clv_witness *witness, clv_bytes bytes, clv_record *out, clv_error *err)
{
    CLV_TRY(clv_record_open(bytes, witness->keys.verify, out, err));
    if (memcmp(out->fleet, witness->init.fleet, sizeof out->fleet) != 0)
        return clv_fail(err, CLV_WITNESS_OTHER,
                        "expected a record since the last `claviger witness init`, found an older "
                        "one's");
    return CLV_OK;
}

/* -- receipts --------------------------------------------------------------------------------- */

static bool is_of(const clv_record *record, bool root, const char *name)
{
    bool kind = root ? record->kind == CLV_RECORD_ROOT
                     : record->kind == CLV_RECORD_STATE || record->kind == CLV_RECORD_DELETED;
    return kind && strcmp(record->name, name) == 0;
}

static bool says_the_same(const clv_record *a, const clv_record *b)
{
    return a->kind == b->kind && a->generation == b->generation &&
           memcmp(a->digest, b->digest, sizeof a->digest) == 0;
}

/* Two branches of one name, which the parent showed to two callers, meet in one caller's hand. */
static clv_status check_history(const clv_presented *presented, const clv_record *record,
                                clv_error *err)
{
    for (size_t i = 0; i < presented->count; i++) {
        const clv_record *other = &presented->record[i];
        if (is_of(record, other->kind == CLV_RECORD_ROOT, other->name) &&
            record->generation == other->generation && !says_the_same(record, other))
            return clv_fail(err, CLV_WITNESS_FORK,
                            "%.200s: expected receipts of one history, found two that differ at "
                            "generation %llu",
                            record->name, (unsigned long long)record->generation);
    }
    return CLV_OK;
}

static clv_status present_one(clv_witness *witness, clv_bytes text, clv_presented *out,
                              clv_error *err)
{
    clv_auto(clv_buf) bytes = CLV_BUF_LIMITED(CLV_RECORD_MAX);
    if (out->count == CLV_RECEIPTS_MAX)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected at most %d receipts, found more",
                        CLV_RECEIPTS_MAX);
    if (clv_base64_decode(text, &bytes, NULL) != CLV_OK)
        return clv_fail(err, CLV_WITNESS_RECORD, "expected receipts in base64, found another text");
    CLV_TRY(clv_witness_read(witness, clv_buf_bytes(&bytes), &out->record[out->count], err));
    CLV_TRY(check_history(out, &out->record[out->count], err));
    out->count++;
    return CLV_OK;
}

static clv_status present_all(clv_witness *witness, const char *text, clv_presented *out,
                              clv_error *err)
{
    clv_auto(held) own = NULL;
    CLV_TRY(hold(witness, &own, err));
    for (const char *at = text; *at != '\0';) {
        at += strspn(at, ", ");
        size_t n = strcspn(at, ", ");
        if (n > 0)
            CLV_TRY(present_one(witness, CLV_BYTES(at, n), out, err));
        at += n;
    }
    return CLV_OK;
}

clv_status clv_witness_present(clv_witness *witness, const char *text, clv_presented *out,
                               clv_error *err)
{
    out->count = 0;
    if (text == NULL)
        return CLV_OK;
    clv_status status =
        strlen(text) > PRESENTED_MAX
            ? clv_fail(err, CLV_WITNESS_RECORD, "expected receipts of at most %zu bytes, found %zu",
                       PRESENTED_MAX, strlen(text))
            : present_all(witness, text, out, err);
    if (status == CLV_WITNESS_RECORD || status == CLV_WITNESS_OTHER || status == CLV_WITNESS_FORK)
        atomic_fetch_add(&witness->metrics.refused, 1);
    return status;
}

/* The newest receipt of the name. An init receipt says that its holder knows of nothing. */
static clv_status see_presented(const clv_presented *presented, bool root, const char *name,
                                clv_seen *out, clv_error *err)
{
    bool init = false;
    *out = (clv_seen){.known = false};
    for (size_t i = 0; presented != NULL && i < presented->count; i++) {
        const clv_record *record = &presented->record[i];
        init = init || record->kind == CLV_RECORD_INIT;
        if (is_of(record, root, name) &&
            (!out->known || record->generation > out->record.generation)) {
            out->known = true;
            out->record = *record;
        }
    }
    if (!out->known && !init)
        return clv_fail(err, CLV_WITNESS_RECEIPT,
                        "expected the receipt of \"%.200s\", or the init receipt of one who has "
                        "none, found neither in Claviger-Receipt",
                        name);
    return CLV_OK;
}

/* -- the cluster ------------------------------------------------------------------------------ */

static clv_status see_cluster(clv_witness *witness, bool root, const char *name, clv_seen *out,
                              clv_error *err)
{
    clv_auto(held) own = NULL;
    clv_auto(clv_cluster_pair) pair = CLV_CLUSTER_PAIR_INIT;
    *out = (clv_seen){.exact = true};
    CLV_TRY(hold(witness, &own, err));
    CLV_TRY(
        clv_cluster_read(witness->etcd, &witness->found, root ? ROOT : STATE, name, &pair, err));
    out->revision = pair.revision;
    if (pair.revision == 0)
        return CLV_OK;
    CLV_TRY(clv_witness_read(witness, clv_buf_bytes(&pair.value), &out->record, err));
    if (!is_of(&out->record, root, name))
        return clv_fail(err, CLV_WITNESS_RECORD,
                        "expected the witness's record of \"%.200s\", found another's", name);
    out->known = true;
    return CLV_OK;
}

static void count(clv_witness *witness, clv_status status)
{
    if (status == CLV_WITNESS_UNAVAILABLE)
        atomic_fetch_add(&witness->metrics.unavailable, 1);
}

clv_status clv_witness_see(clv_witness *witness, const clv_presented *presented, bool root,
                           const char *name, clv_seen *out, clv_error *err)
{
    if (clv_witness_by_receipts(witness))
        return see_presented(presented, root, name, out, err);
    atomic_fetch_add(&witness->metrics.reads, 1);
    clv_status status = see_cluster(witness, root, name, out, err);
    count(witness, status);
    return status;
}

/* Another enclave may have taken over what this one stored: then it is committed all the same. */
static clv_status lost(clv_witness *witness, clv_seen *seen, const clv_record *next, clv_error *err)
{
    bool root = next->kind == CLV_RECORD_ROOT;
    CLV_TRY(clv_witness_see(witness, NULL, root, next->name, seen, err));
    if (seen->known && says_the_same(&seen->record, next))
        return CLV_OK;
    if (seen->known && seen->record.generation > next->generation)
        return clv_fail(err, CLV_STORE_UNAVAILABLE,
                        "%.200s: generation %llu may have counted before others went on to %llu",
                        next->name, (unsigned long long)next->generation,
                        (unsigned long long)seen->record.generation);
    return clv_fail(err, CLV_STATE_CONFLICT,
                    "%.200s: expected to be the first to commit generation %llu, found another",
                    next->name, (unsigned long long)next->generation);
}

static clv_status write_cluster(clv_witness *witness, clv_seen *seen, clv_record *next,
                                clv_error *err)
{
    clv_auto(held) own = NULL;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    const char *what = next->kind == CLV_RECORD_ROOT ? ROOT : STATE;
    CLV_TRY(hold(witness, &own, err));
    CLV_TRY(clv_witness_sign(witness, next, &bytes, err));
    return clv_cluster_write(witness->etcd, &witness->found, what, next->name, &seen->revision,
                             clv_buf_bytes(&bytes), err);
}

static clv_status commit_cluster(clv_witness *witness, clv_seen *seen, clv_record *next,
                                 clv_error *err)
{
    clv_error conflict = {.code = CLV_OK};
    clv_status status = write_cluster(witness, seen, next, &conflict);
    if (status == CLV_STATE_CONFLICT)
        return lost(witness, seen, next, err);
    if (status != CLV_OK && err != NULL)
        *err = conflict;
    return status;
}

static clv_status commit_receipt(clv_witness *witness, clv_record *next, clv_buf *receipt,
                                 clv_error *err)
{
    clv_auto(held) own = NULL;
    CLV_TRY(hold(witness, &own, err));
    return clv_witness_sign(witness, next, receipt, err);
}

clv_status clv_witness_commit(clv_witness *witness, clv_seen *seen, clv_record *next,
                              clv_buf *receipt, clv_error *err)
{
    atomic_fetch_add(&witness->metrics.commits, 1);
    clv_status status = clv_witness_by_receipts(witness)
                            ? commit_receipt(witness, next, receipt, err)
                            : commit_cluster(witness, seen, next, err);
    count(witness, status);
    CLV_TRY(status);
    seen->known = true;
    seen->record = *next;
    return CLV_OK;
}

/* -- lists ------------------------------------------------------------------------------------ */

typedef struct listing {
    clv_witness *witness;
    const char *prefix;
    clv_witness_visit visit;
    void *with;
} listing;

static clv_status visit_record(const listing *l, const clv_record *record, clv_error *err)
{
    bool state = is_of(record, false, record->name);
    if (!state || strncmp(record->name, l->prefix, strlen(l->prefix)) != 0)
        return CLV_OK;
    return l->visit(l->with, record, err);
}

static clv_status visit_bytes(void *with, clv_bytes value, clv_error *err)
{
    const listing *l = with;
    clv_record record;
    CLV_TRY(clv_witness_read(l->witness, value, &record, err));
    return visit_record(l, &record, err);
}

clv_status clv_witness_list(clv_witness *witness, const clv_presented *presented,
                            const char *prefix, clv_witness_visit visit, void *with, clv_error *err)
{
    listing l = {witness, prefix, visit, with};
    clv_auto(held) own = NULL;
    if (clv_witness_by_receipts(witness)) {
        if (presented->count == 0)
            return clv_fail(err, CLV_WITNESS_RECEIPT,
                            "expected receipts, or the init receipt of one who has none, found "
                            "nothing in Claviger-Receipt");
        for (size_t i = 0; i < presented->count; i++)
            CLV_TRY(visit_record(&l, &presented->record[i], err));
        return CLV_OK;
    }
    atomic_fetch_add(&witness->metrics.reads, 1);
    clv_status status = hold(witness, &own, err);
    if (status == CLV_OK)
        status =
            clv_cluster_list(witness->etcd, &witness->found, STATE, prefix, visit_bytes, &l, err);
    count(witness, status);
    return status;
}

/* -- tombstones ------------------------------------------------------------------------------- */

clv_status clv_witness_tombstone(clv_witness *witness, const char *name, uint64_t generation,
                                 clv_buf *out, clv_error *err)
{
    clv_auto(held) own = NULL;
    clv_record record = {.kind = CLV_RECORD_DELETED, .generation = generation};
    snprintf(record.name, sizeof record.name, "%s", name);
    CLV_TRY(hold(witness, &own, err));
    return clv_witness_sign(witness, &record, out, err);
}

clv_status clv_witness_check_tombstone(clv_witness *witness, clv_bytes bytes, const char *name,
                                       uint64_t generation, bool earlier, clv_error *err)
{
    clv_auto(held) own = NULL;
    clv_record record;
    CLV_TRY(hold(witness, &own, err));
    CLV_TRY(earlier ? clv_record_open(bytes, witness->keys.verify, &record, err)
                    : clv_witness_read(witness, bytes, &record, err));
    if (record.kind != CLV_RECORD_DELETED || record.generation != generation ||
        strcmp(record.name, name) != 0)
        return clv_fail(err, CLV_WITNESS_RECORD,
                        "expected that \"%.200s\" was deleted as generation %llu, found another "
                        "statement",
                        name, (unsigned long long)generation);
    return CLV_OK;
}

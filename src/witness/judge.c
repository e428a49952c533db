#include <witness/judge.h>

static clv_status rollback(const char *name, uint64_t seen, uint64_t held, clv_error *err)
{
    if (held == 0)
        return clv_fail(err, CLV_WITNESS_ROLLBACK,
                        "%.200s: expected generation %llu, found that the store has none", name,
                        (unsigned long long)seen);
    return clv_fail(err, CLV_WITNESS_ROLLBACK, "%.200s: expected generation %llu, found %llu", name,
                    (unsigned long long)seen, (unsigned long long)held);
}

clv_status clv_judge(const char *name, const clv_seen *seen, const clv_held *held, clv_verdict *out,
                     clv_error *err)
{
    uint64_t last = seen->known ? seen->record.generation : 0;
    if (held->generation < last)
        return rollback(name, last, held->generation, err);
    if (held->generation > last) {
        if (seen->exact && held->generation - last > 1)
            return clv_fail(err, CLV_WITNESS_FORK,
                            "%.200s: expected generation %llu, or one not acknowledged yet behind "
                            "it, found %llu, which the witness never saw",
                            name, (unsigned long long)last, (unsigned long long)held->generation);
        *out = CLV_VERDICT_AHEAD;
        return CLV_OK;
    }
    if (last == 0) {
        *out = CLV_VERDICT_ABSENT;
        return CLV_OK;
    }
    /* What a deleted state left in the store means nothing any more: the witness's word stands. */
    if (seen->record.kind != CLV_RECORD_DELETED &&
        memcmp(seen->record.digest, held->digest, sizeof held->digest) != 0)
        return clv_fail(err, CLV_WITNESS_FORK,
                        "%.200s: expected the message of generation %llu that the witness saw, "
                        "found another of the same number",
                        name, (unsigned long long)last);
    *out = CLV_VERDICT_SAME;
    return CLV_OK;
}

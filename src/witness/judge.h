/*
 * The witness's judgement: what it saw last, against what the parent's store says now. Pure.
 *
 * A store is written first and the witness after it, and only then is a seal acknowledged. So an
 * honest store holds what the witness saw, or, after a crash between the two, exactly one
 * generation more. Everything else is refused.
 */
#ifndef CLV_WITNESS_JUDGE_H
#define CLV_WITNESS_JUDGE_H

#include <witness/record.h>

/* What the witness saw last of one name. */
typedef struct clv_seen {
    bool known; /* false: nothing, ever */
    /*
     * Whether nobody can have advanced the name without this witness knowing. An etcd cluster is
     * exact; a caller's receipt is a lower bound, since other callers write too.
     */
    bool exact;
    clv_record record; /* where it is known */
    int64_t revision;  /* of the record in the etcd cluster; 0: is not there */
} clv_seen;

/* What the store says it holds. */
typedef struct clv_held {
    uint64_t generation;             /* 0: nothing */
    uint8_t digest[CLV_SHA384_SIZE]; /* of the bytes */
} clv_held;

typedef enum clv_verdict {
    CLV_VERDICT_ABSENT, /* there is nothing, rightly */
    CLV_VERDICT_SAME,   /* the store holds what the witness saw last */
    /* The store is ahead as it may be: its bytes must prove to be of this fleet, name and
     * generation before they are believed, and the witness told before they are used. */
    CLV_VERDICT_AHEAD,
} clv_verdict;

/*
 * CLV_WITNESS_ROLLBACK: the store holds less than the witness saw. CLV_WITNESS_FORK: other bytes of
 * the same generation, or more than an exact witness can be behind.
 */
CLV_NODISCARD clv_status clv_judge(const char *name, const clv_seen *seen, const clv_held *held,
                                   clv_verdict *out, clv_error *err);

#endif

/*
 * Faults on demand: rules that make the KMS throttle, fail, answer late, drop connections or
 * answer wrongly, for tests of its clients. Rules are tried in the order in which they were added.
 */
#ifndef CLV_SIM_KMS_FAULTS_H
#define CLV_SIM_KMS_FAULTS_H

#include <sim/kms/call.h>

#define CLV_FAULT_RULES_MAX      64
#define CLV_FAULT_LATENCY_MAX_MS 60000

typedef struct clv_fault {
    char operation[64]; /* or "*" */
    char error[64];     /* a name from the error table, or "" */
    char message[256];
    unsigned status;     /* HTTP; 0: as the error has it */
    int64_t latency_ms;  /* before anything else happens */
    int64_t count;       /* how many more calls it hits; below 0: all */
    bool drop;           /* close the connection without an answer … */
    bool after;          /* … or fail only after the operation was performed */
    json_t *answer;      /* members put over the answer's, null ones removed from it; owned */
    json_t *description; /* the rule as it was given; owned */
} clv_fault;

void clv_fault_drop(clv_fault *fault);

clv_faults *clv_faults_new(void);
void clv_faults_free(clv_faults **faults);

/* A rule as JSON (docs/kms.md). CLV_JSON_… says what is wrong with it. */
CLV_NODISCARD clv_status clv_faults_add(clv_faults *faults, const json_t *rule, clv_error *err);
void clv_faults_clear(clv_faults *faults);
/* The rules that are left, as they were given. */
json_t *clv_faults_list(clv_faults *faults);

/* The rule that hits this call, if there is one; it is counted. The caller drops *out. */
bool clv_faults_take(clv_faults *faults, const char *operation, clv_fault *out);

#endif

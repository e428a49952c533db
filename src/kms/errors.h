/*
 * Errors as KMS answers them (AWS KMS API reference, "Common errors" and each operation's
 * "Errors"), turned into one code and one sentence that people can act on. The table is also
 * docs/kms-errors.md; a test holds the two together.
 */
#ifndef CLV_KMS_ERRORS_H
#define CLV_KMS_ERRORS_H

#include <claviger/kms.h>

typedef struct clv_kms_error {
    clv_status code; /* its slug is KMS's name */
    bool retryable;
    const char *cause; /* the usual one */
    const char *cure;
} clv_kms_error;

extern const clv_kms_error clv_kms_errors[];
extern const size_t clv_kms_errors_count;

/* The row of this code, or NULL. */
const clv_kms_error *clv_kms_error_of(clv_status code);

/* An answer with another status than 200, as it came. */
typedef struct clv_kms_answer_error {
    int http_status;
    const char *request_id;  /* x-amzn-RequestId, or "" */
    const char *header_type; /* x-amzn-ErrorType, or "" */
    clv_bytes body;
} clv_kms_answer_error;

/*
 * Read it into *out; returns the code: of the table, CLV_KMS_UNKNOWN_ERROR for a name that is not
 * in it, CLV_KMS_RESPONSE for an answer without a name. Retryable: the rows that say so, status
 * 429, and every 5xx.
 */
clv_status clv_kms_error_read(const clv_kms_answer_error *answer, clv_kms_failure *out);

/* What is known about a call that failed: for hints. */
typedef struct clv_kms_situation {
    const clv_operation *operation;
    const char *region;         /* of the policy */
    const char *caller_account; /* "" where it is not known */
    const clv_pcrs *pcrs;       /* of the document that was sent; NULL: not known */
} clv_kms_situation;

/* The sentence: what was asked, KMS's name and message, the request id, the usual cause here. */
clv_status clv_kms_explain(clv_status code, const clv_kms_failure *failure,
                           const clv_kms_situation *situation, clv_error *err);

#endif

/*
 * Errors: one code, one sentence, one idiom.
 *
 * Every function that can fail returns a clv_status and takes a clv_error as its last argument:
 *
 *     CLV_TRY(clv_document_parse(bytes, &doc, err));
 *
 * The function that finds the fault fills the clv_error with clv_fail(); a caller that knows
 * something the sentence lacks (a file name, a member's path) adds it once with clv_blame().
 * A clv_error may be NULL where only the code matters. No error text ever holds a secret.
 *
 * All codes stand in error_codes.def, a table from which this enumeration, the names below, the
 * documentation and the exit statuses of the programs are made.
 */
#ifndef CLAVIGER_ERROR_H
#define CLAVIGER_ERROR_H

#include <stdarg.h>
#include <stddef.h>

typedef enum clv_status {
#define CLV_CODE(name, slug, exit_class, text) CLV_##name,
#include <claviger/error_codes.def>
#undef CLV_CODE
    CLV_STATUS_COUNT
} clv_status;

/*
 * What a program's exit status says. Each code belongs to one class (error_codes.def).
 * The numbers are part of the command line's contract: see docs/exit-codes.md.
 */
typedef enum clv_exit {
    CLV_EXIT_OK = 0,        /* everything asked for was done */
    CLV_EXIT_INTERNAL = 1,  /* a fault of the program or the machine: memory, a library, a bug */
    CLV_EXIT_USAGE = 2,     /* the command line is wrong */
    CLV_EXIT_INPUT = 3,     /* an input is malformed: wrong shape, length, type or encoding */
    CLV_EXIT_SIGNATURE = 4, /* a signature, chain or root does not hold */
    CLV_EXIT_IDENTITY = 5,  /* genuine, but not what was expected: PCR, nonce, key, kind */
    CLV_EXIT_TIME = 6,      /* expired, not yet valid, too old, clock went backwards */
    CLV_EXIT_REFUSED = 7,   /* a policy, a voucher or a capability forbids it */
    CLV_EXIT_KMS = 8,       /* KMS answered with an error, or with an answer that is refused */
    CLV_EXIT_NETWORK = 9,   /* a peer cannot be reached, or TLS to it failed */
    CLV_EXIT_STATE = 10,    /* stored state is missing, conflicting or damaged */
} clv_exit;

/* Longest sentence kept, with its NUL; a longer one is cut. */
#define CLV_ERROR_TEXT_MAX 640

typedef struct clv_error {
    clv_status code;
    char text[CLV_ERROR_TEXT_MAX];
} clv_error;

#define CLV_NODISCARD __attribute__((warn_unused_result))

/*
 * Record a failure and return its code, so that `return clv_fail(err, CLV_X, "…")` reads as one
 * step. The sentence says what was expected and what was found. err may be NULL.
 */
clv_status clv_fail(clv_error *err, clv_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Put the place in front of the sentence already recorded ("policy.json: " + text) and return
 * err->code (or status, where err is NULL), so that it can stand in a return statement.
 */
clv_status clv_blame(clv_error *err, clv_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The code's stable name, as documents and JSON carry it: "att-signature". Never NULL. */
const char *clv_status_slug(clv_status status);

/* One sentence about the code itself, for tables and help. Never NULL. */
const char *clv_status_text(clv_status status);

/* The exit status of a program that ends with this code. */
clv_exit clv_status_exit(clv_status status);

/* The code with this slug, or CLV_STATUS_COUNT where there is none. */
clv_status clv_status_of_slug(const char *slug);

/* Return at once when the expression failed: the normal way for an error to travel up. */
#define CLV_TRY(expression)                        \
    do {                                           \
        clv_status clv_try_status_ = (expression); \
        if (clv_try_status_ != CLV_OK)             \
            return clv_try_status_;                \
    } while (0)

/*
 * The one idiom for cleanup: `clv_auto(clv_buf) b = CLV_BUF_INIT;` calls clv_buf_drop(&b) on every
 * way out of the scope. A type T that owns something defines `void T_drop(T *)`, which releases
 * what *t owns, wipes what was secret and leaves *t empty; NULL pointees are fine. For an opaque
 * type handled through a pointer, `clv_auto_ptr(clv_nsm) n = NULL;` calls clv_nsm_free(&n), which
 * frees and sets n to NULL.
 */
#define clv_auto(type)     __attribute__((cleanup(type##_drop))) type
#define clv_auto_ptr(type) __attribute__((cleanup(type##_free))) type *

#endif

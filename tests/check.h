/* What every cmocka test program starts with, and the assertions that speak of clv_status. */
#ifndef CLV_TESTS_CHECK_H
#define CLV_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <claviger/bytes.h>

/* The call succeeded; otherwise the test fails with the error's sentence. */
#define assert_ok(call)                                                                      \
    do {                                                                                     \
        clv_error check_err_ = {0};                                                          \
        clv_error *err = &check_err_;                                                        \
        clv_status check_status_ = (call);                                                   \
        if (check_status_ != CLV_OK)                                                         \
            fail_msg("%s: expected ok, found %s: %s", #call, clv_status_slug(check_status_), \
                     err->text);                                                             \
    } while (0)

/* The call failed with exactly this code, and its sentence is not empty. */
#define assert_code(call, expected)                                                     \
    do {                                                                                \
        clv_error check_err_ = {0};                                                     \
        clv_error *err = &check_err_;                                                   \
        clv_status check_status_ = (call);                                              \
        if (check_status_ != (expected))                                                \
            fail_msg("%s: expected %s, found %s: %s", #call, clv_status_slug(expected), \
                     clv_status_slug(check_status_), err->text);                        \
        assert_int_equal(err->code, check_status_);                                     \
        assert_int_not_equal(strlen(err->text), 0);                                     \
    } while (0)

#define assert_bytes(found, literal)                                         \
    do {                                                                     \
        clv_bytes check_found_ = (found);                                    \
        assert_int_equal(check_found_.n, sizeof(literal) - 1);               \
        assert_memory_equal(check_found_.p, (literal), sizeof(literal) - 1); \
    } while (0)

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

#endif

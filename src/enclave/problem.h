/*
 * Errors as agents see them: an HTTP status, and a problem document (RFC 9457) with a stable code
 * and what was expected and found. Which code gives which status is one table, in problem.c;
 * docs/agent-api.md prints it.
 */
#ifndef CLV_ENCLAVE_PROBLEM_H
#define CLV_ENCLAVE_PROBLEM_H

#include <claviger/bytes.h>

#define CLV_PROBLEM_MEDIA_TYPE "application/problem+json"

unsigned clv_http_status(clv_status status);

/*
 * {"type","title","status","code","detail","operation"}, and "expected" and "found" where the
 * sentence has them ("expected …, found …"). operation: the id that the log carries. error_member:
 * say the sentence once more as "error", where dstack's clients look for it.
 */
CLV_NODISCARD clv_status clv_problem_append(clv_buf *out, unsigned status, const clv_error *problem,
                                            const char *operation, bool error_member,
                                            clv_error *err);

#endif

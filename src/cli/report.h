/* What a document says, as JSON for programs and as lines for people. */
#ifndef CLV_CLI_REPORT_H
#define CLV_CLI_REPORT_H

#include <base/json.h>
#include <claviger/attestation.h>

/* The document's members: docs/verify.md lists them. A new reference. */
CLV_NODISCARD clv_status clv_report_document(const clv_document *document, json_t **out,
                                             clv_error *err);
/* The chain, root first, leaf last. An unreadable certificate becomes {"error": …}. */
CLV_NODISCARD clv_status clv_report_chain(const clv_document *document, json_t **out,
                                          clv_error *err);

/* The same for people, on standard output. Text of the document is escaped. */
CLV_NODISCARD clv_status clv_print_document(const clv_document *document, clv_error *err);
CLV_NODISCARD clv_status clv_print_chain(const clv_document *document, clv_error *err);
/* One line: a label and what stands beside it. */
void clv_print_line(const char *label, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The object as indented text with a line break, on standard output. */
CLV_NODISCARD clv_status clv_print_json(const json_t *json, clv_error *err);

#endif

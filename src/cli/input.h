/* Documents as people hand them over: raw bytes, base64 or hex, in a file or on standard input. */
#ifndef CLV_CLI_INPUT_H
#define CLV_CLI_INPUT_H

#include <claviger/bytes.h>

/*
 * Read a document. Text, which a raw document never is, is hex when it has hex digits alone, else
 * base64: of RFC 4648 section 4 or 5, padded or not. White space inside is skipped. *form becomes
 * "raw", "hex" or "base64". CLV_BAD_ENCODING, CLV_TOO_LARGE.
 */
CLV_NODISCARD clv_status clv_input_read(const char *path, clv_buf *out, const char **form,
                                        clv_error *err);

/* A value given on the command line: hex, or @FILE for the file's bytes as they stand. */
CLV_NODISCARD clv_status clv_input_value(const char *text, size_t max, clv_buf *out,
                                         clv_error *err);

#endif

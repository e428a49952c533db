/*
 * A reader of BER (X.690 section 8) over a cursor: single-byte identifiers, definite lengths of up
 * to four octets, indefinite lengths on constructed encodings. It allocates nothing. Whatever the
 * form of the length was, the content comes back as one view, so that nobody above has to ask.
 */
#ifndef CLV_KMS_BER_H
#define CLV_KMS_BER_H

#include <claviger/bytes.h>

/* Identifier octets (X.690 section 8.1.2): class, form and number in one. */
#define CLV_BER_INTEGER        0x02
#define CLV_BER_OCTET_STRING   0x04
#define CLV_BER_NULL           0x05
#define CLV_BER_OID            0x06
#define CLV_BER_SEQUENCE       0x30
#define CLV_BER_SET            0x31
#define CLV_BER_CONTEXT(n)     (0x80 | (n)) /* primitive */
#define CLV_BER_CONSTRUCTED(n) (0xa0 | (n)) /* context-specific, constructed */

/* How deep encodings of indefinite length may nest. */
#define CLV_BER_DEPTH 12

/* Take the next encoding, whatever its tag. CLV_CMS_FORMAT when the bytes are not BER or end too
 * early; the cursor then stays where it was. */
CLV_NODISCARD clv_status clv_ber_next(clv_cursor *c, uint8_t *tag, clv_bytes *content,
                                      clv_error *err);

/* Take the next encoding, which must have this tag; `what` names it in the error. */
CLV_NODISCARD clv_status clv_ber_expect(clv_cursor *c, uint8_t tag, const char *what,
                                        clv_bytes *content, clv_error *err);

/* The tag of the next encoding, 0 at the end. */
uint8_t clv_ber_peek(const clv_cursor *c);

/* Nothing may be left. */
CLV_NODISCARD clv_status clv_ber_end(const clv_cursor *c, const char *what, clv_error *err);

#endif

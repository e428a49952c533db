/*
 * The strict CBOR items of an attestation document: no tag, no break, no indefinite length, no
 * array or map where a string or number stands. Whoever needs an exception reads with
 * base/cbor.h itself.
 */
#ifndef CLV_ATTESTATION_ITEM_H
#define CLV_ATTESTATION_ITEM_H

#include <base/cbor.h>

/*
 * Take one item. CLV_ATT_CBOR: malformed, cut short or a stray break. CLV_ATT_TAG: a tag.
 * CLV_ATT_INDEFINITE: of indefinite length. `what` names the place in error sentences.
 */
CLV_NODISCARD clv_status clv_item_next(clv_cursor *c, const char *what, clv_cbor_item *out,
                                       clv_error *err);

/*
 * Take one item of this type. Beside the above: CLV_ATT_DEPTH for a whole array or map
 * where none may stand (CLV_ATT_CBOR where it is cut short), `otherwise` for every other wrong
 * type.
 */
CLV_NODISCARD clv_status clv_item_expect(clv_cursor *c, clv_cbor_type type, clv_status otherwise,
                                         const char *what, clv_cbor_item *out, clv_error *err);

#endif

/*
 * A request's state in the parent's store, as the witness confirms it where the policy has one
 * (R18): looked at, opened, replaced and deleted in one place, so that no route can pass the
 * witness by.
 *
 * The order is what makes it safe: the store is written first, then the witness, and only then is
 * anything acknowledged. A crash between the two leaves the store one generation ahead, and the
 * next look takes that over. A deleted state leaves a tombstone, so that generations never begin
 * again.
 */
#ifndef CLV_ENCLAVE_STATES_H
#define CLV_ENCLAVE_STATES_H

#include <enclave/request.h>

typedef struct clv_state_view {
    bool exists;         /* false: there never was one, or it was deleted */
    uint64_t generation; /* of the state or its tombstone; 0: there never was one */
    bool newer;          /* mode receipts: than what the caller has shown */
    clv_buf sealed;
    bool opened; /* the plaintext is there */
    clv_buf plaintext;
    clv_seen seen;
} clv_state_view;

#define CLV_STATE_VIEW_INIT                                                                   \
    {                                                                                         \
        .exists = false, .sealed = CLV_BUF_LIMITED(CLV_SEALED_MAX), .plaintext = CLV_BUF_INIT \
    }
void clv_state_view_drop(clv_state_view *view);

/* What the store has under the request's name, whose memory the request must hold.
 * CLV_WITNESS_…: the witness does not confirm it. */
CLV_NODISCARD clv_status clv_states_look(clv_request *request, clv_state_view *out, clv_error *err);

/* The same without the message, as long as the store says that it is where the witness is. Needs a
 * witness. newer: then nothing else is known. */
CLV_NODISCARD clv_status clv_states_glance(clv_request *request, clv_state_view *out,
                                           clv_error *err);

/*
 * What the request wants to replace, its If-Match and If-None-Match being checked: a generation,
 * without the message, which is not looked at: whatever it is, its successor is the request's, and
 * commits to the witness only on top of what that saw. CLV_API_PRECONDITION; CLV_STATE_CONFLICT
 * where it is newer than the caller's receipt. Without a witness the conditions are left to the
 * store.
 */
CLV_NODISCARD clv_status clv_states_look_to_replace(clv_request *request, clv_state_view *out,
                                                    clv_error *err);

/* Unseal what was looked at, if that was not done on the way. */
CLV_NODISCARD clv_status clv_states_open(clv_request *request, clv_state_view *view,
                                         clv_error *err);

/* Seal, store and commit the successor of what was looked at; view->generation is its. */
CLV_NODISCARD clv_status clv_states_put(clv_request *request, clv_state_view *view,
                                        clv_bytes plaintext, clv_error *err);
CLV_NODISCARD clv_status clv_states_delete(clv_request *request, clv_state_view *view,
                                           clv_error *err);

/*
 * Take a state into the witness that was stored before there was one: whatever generation the store
 * has, when it unseals. CLV_WITNESS_FORK: the witness knows the name already.
 */
CLV_NODISCARD clv_status clv_states_adopt(clv_request *request, clv_state_view *out,
                                          clv_error *err);

/* Names, generations and sealed sizes of the request's key and prefix, as docs/openapi.yaml says.
 */
CLV_NODISCARD clv_status clv_states_list(clv_request *request, json_t **out, clv_error *err);

/* The receipts that the request carries; none where the witness needs none. */
CLV_NODISCARD clv_status clv_states_presented(clv_request *request, clv_presented *out,
                                              clv_error *err);
/* The receipt to answer with, in base64; nothing for no bytes. */
CLV_NODISCARD clv_status clv_states_give_receipt(clv_request *request, const clv_buf *record,
                                                 clv_error *err);

#endif

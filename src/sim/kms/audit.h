/*
 * The audit table: one record for each request, in the shape of a CloudTrail event
 * (docs.aws.amazon.com/kms/latest/developerguide/ct-attestation.html), also of those refused.
 */
#ifndef CLV_SIM_KMS_AUDIT_H
#define CLV_SIM_KMS_AUDIT_H

#include <sim/kms/dispatch.h>

typedef struct clv_audit_note {
    const clv_call *call;
    const char *event_name; /* the operation asked for, known or not */
    const char *source_ip;
    const char *user_agent;
    const char *error_code; /* NULL: none */
    const char *error_message;
} clv_audit_note;

CLV_NODISCARD clv_status clv_audit_append(clv_db *db, const clv_audit_note *note, clv_error *err);

/* The records with an id above `after`, oldest first, as a JSON array. */
CLV_NODISCARD clv_status clv_audit_read(clv_db *db, int64_t after, json_t **out, clv_error *err);

#endif

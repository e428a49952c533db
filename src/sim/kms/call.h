/*
 * One call of an operation: who asks, with which parameters, under which attestation, and the
 * answer that grows. The operations (ops_*.c) are written against this.
 *
 * Failures carry KMS's own names: CLV_KMS_… codes, whose slugs are the `__type` of the answer.
 */
#ifndef CLV_SIM_KMS_CALL_H
#define CLV_SIM_KMS_CALL_H

#include <pthread.h>
#include <stdatomic.h>

#include <claviger/attestation.h>
#include <sim/kms/blob.h>
#include <sim/kms/cms.h>
#include <sim/kms/db.h>
#include <sim/kms/iam.h>
#include <sim/kms/keyspec.h>

#define CLV_REGION_MAX      31
#define CLV_REQUEST_ID_SIZE 37 /* a UUID and a NUL */

typedef struct clv_faults clv_faults;

/* The server: what calls share. */
typedef struct clv_kms_server {
    clv_db *db;
    char region[CLV_REGION_MAX + 1];
    uint8_t root_sha256[CLV_ROOT_DIGEST_SIZE];
    pthread_mutex_t changes; /* held by an operation that changes keys, from start to end */
    clv_faults *faults;
    _Atomic int64_t clock_offset_ms; /* for tests: added to the wall clock */
    _Atomic int cms_shape;           /* clv_cms_shape */
} clv_kms_server;

uint64_t clv_kms_now(const clv_kms_server *server);

/* A caller whose signature held. */
typedef struct clv_caller {
    char access_key[129];
    char arn[CLV_ARN_MAX + 1];
    char principal_arn[CLV_ARN_MAX + 1]; /* the role's, for a role's session */
    char account[CLV_ACCOUNT_SIZE];
    char type[16]; /* "IAMUser", "AssumedRole", "Root" */
    char name[129];
    json_t *policy; /* its identity policy; owned */
} clv_caller;

void clv_caller_drop(clv_caller *caller);

/* A verified attestation document that an answer is to be encrypted for. */
typedef struct clv_recipient {
    bool present;
    clv_buf bytes;
    clv_document document; /* views into bytes */
} clv_recipient;

struct clv_call;

typedef struct clv_kms_operation {
    const char *name;
    clv_status (*run)(struct clv_call *call, clv_error *err);
    unsigned flags;
} clv_kms_operation;

#define CLV_OP_CHANGES   1u /* changes keys: one at a time */
#define CLV_OP_READS     2u /* readOnly in the audit record */
#define CLV_OP_RECIPIENT 4u /* takes a Recipient */

/* NULL when there is none of this name. */
const clv_kms_operation *clv_kms_operation_of(const char *name);

typedef struct clv_call {
    clv_kms_server *server;
    const clv_kms_operation *operation;
    uint64_t now_ms;
    char request_id[CLV_REQUEST_ID_SIZE];
    clv_caller caller;
    json_t *parameters; /* owned; an object */
    json_t *answer;     /* owned; an object */
    json_t *conditions; /* owned; condition keys to arrays of texts */
    json_t *resources;  /* owned; ARNs for the audit record */
    clv_recipient recipient;
    bool dry_run;
} clv_call;

void clv_call_drop(clv_call *call);

/* Parameters (params.c). Absent and null give NULL, or leave *out as it was; `need` ones fail. */
CLV_NODISCARD clv_status clv_param_text(clv_call *call, const char *name, size_t max,
                                        const char **out, clv_error *err);
CLV_NODISCARD clv_status clv_param_need_text(clv_call *call, const char *name, size_t max,
                                             const char **out, clv_error *err);
CLV_NODISCARD clv_status clv_param_integer(clv_call *call, const char *name, int64_t min,
                                           int64_t max, int64_t *out, clv_error *err);
CLV_NODISCARD clv_status clv_param_boolean(clv_call *call, const char *name, bool *out,
                                           clv_error *err);
/* Base64, 1 to max bytes. *present says whether there was one. */
CLV_NODISCARD clv_status clv_param_blob(clv_call *call, const char *name, size_t max, clv_buf *out,
                                        bool *present, clv_error *err);
CLV_NODISCARD clv_status clv_param_need_blob(clv_call *call, const char *name, size_t max,
                                             clv_buf *out, clv_error *err);
/* An object of texts, or an array of texts. */
CLV_NODISCARD clv_status clv_param_map(clv_call *call, const char *name, const json_t **out,
                                       clv_error *err);
CLV_NODISCARD clv_status clv_param_list(clv_call *call, const char *name, const json_t **out,
                                        clv_error *err);
/* ValidationException in KMS's form: value NULL stands for null. */
clv_status clv_param_refuse(clv_error *err, const char *name, const char *value,
                            const char *constraint);

/* The answer. */
CLV_NODISCARD clv_status clv_answer_text(clv_call *call, const char *name, const char *value,
                                         clv_error *err);
CLV_NODISCARD clv_status clv_answer_json(clv_call *call, const char *name, json_t *value,
                                         clv_error *err);
CLV_NODISCARD clv_status clv_answer_blob(clv_call *call, const char *name, clv_bytes value,
                                         clv_error *err);
/* A secret: base64 under its name, or, for a recipient, CiphertextForRecipient in its place. */
CLV_NODISCARD clv_status clv_answer_secret(clv_call *call, const char *name, clv_bytes value,
                                           clv_error *err);
/* A text that came from outside or was cut: what is not UTF-8 is shown as '?', and at most
 * CLV_LOSSY_MAX bytes are kept. */
#define CLV_LOSSY_MAX 1024
json_t *clv_lossy_text(const char *text);
/* KMS's timestamps: seconds since 1970 with a fraction. */
json_t *clv_timestamp(uint64_t ms);

/* A value that a condition key has in this call. */
CLV_NODISCARD clv_status clv_call_condition(clv_call *call, const char *key, const char *value,
                                            clv_error *err);

/* Reads, verifies and records the Recipient, when there is one (recipient.c). */
CLV_NODISCARD clv_status clv_recipient_read(clv_call *call, clv_error *err);
/* For the audit record: additionalEventData's member, or NULL without a recipient. */
json_t *clv_recipient_audit(const clv_recipient *recipient);

/* Keys (keys.c). */
typedef struct clv_key {
    char id[CLV_KEY_ID_SIZE];
    char arn[160];
    char account[CLV_ACCOUNT_SIZE];
    char spec[32];
    char usage[32];
    char state[32]; /* "Enabled", "Disabled", "PendingDeletion" */
    char *description;
    char *policy;
    uint64_t created_ms;
    uint64_t deletion_ms;      /* 0: none is scheduled */
    int64_t rotation_days;     /* 0: off */
    uint64_t rotation_from_ms; /* when the current period began */
    uint32_t version;          /* of the material that encrypts */
} clv_key;

#define CLV_KEY_INIT \
    {                \
        .version = 0 \
    }
void clv_key_drop(clv_key *key);

/* By id. What time has brought (deletion, rotation) happens here. */
CLV_NODISCARD clv_status clv_key_load(clv_call *call, const char *id, clv_key *out, bool *found,
                                      clv_error *err);
CLV_NODISCARD clv_status clv_key_insert(clv_call *call, const clv_key *key, clv_bytes material,
                                        clv_error *err);
CLV_NODISCARD clv_status clv_key_update(clv_call *call, const clv_key *key, clv_error *err);
CLV_NODISCARD clv_status clv_key_rotate(clv_call *call, clv_key *key, bool manual, clv_error *err);
CLV_NODISCARD clv_status clv_key_material(clv_call *call, const char *id, uint32_t version,
                                          clv_buf *out, clv_error *err);
/* Random bytes in the form of a UUID (RFC 4122 version 4). */
CLV_NODISCARD clv_status clv_uuid(char out[CLV_KEY_ID_SIZE], clv_error *err);

/* What an operation needs of a key before it may use it. */
typedef struct clv_key_need {
    const char *action;          /* NULL: "kms:" and the operation's name */
    const char *usage;           /* NULL: any */
    bool any_state;              /* a disabled key will do */
    bool pending;                /* one that is to be deleted will do too */
    const json_t *context;       /* the encryption context that conditions see, or NULL */
    const char *grant_operation; /* NULL: the operation's name */
} clv_key_need;

/*
 * Find the key that a KeyId (id, ARN, alias name or alias ARN) names, authorise the caller for
 * it, check its state and usage; with DryRun, end there.
 */
CLV_NODISCARD clv_status clv_call_key(clv_call *call, const char *text, const clv_key_need *need,
                                      clv_key *out, clv_error *err);
/* The two halves of it. */
CLV_NODISCARD clv_status clv_call_find_key(clv_call *call, const char *text, clv_key *out,
                                           clv_error *err);
CLV_NODISCARD clv_status clv_call_use_key(clv_call *call, const clv_key *key,
                                          const clv_key_need *need, clv_error *err);
/* For operations without a key: only the identity policy speaks. */
CLV_NODISCARD clv_status clv_call_authorise(clv_call *call, clv_error *err);
/* Whether a key policy would let the caller change it later. */
CLV_NODISCARD clv_status clv_call_not_locked_out(clv_call *call, const json_t *policy,
                                                 const char *arn, clv_error *err);

#endif

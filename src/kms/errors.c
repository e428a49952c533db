#include <kms/errors.h>

#include <stdio.h>

#include <base/json.h>
#include <claviger/policy.h>

#define ROWS(table)    (sizeof(table) / sizeof((table)[0]))
#define ACCOUNT_LENGTH 12
#define SHOWN_BYTES    8 /* of a register, in a sentence */

const clv_kms_error clv_kms_errors[] = {
    {CLV_KMS_ACCESS_DENIED, false,
     "the key policy has no allowing statement whose PCR and context conditions match this enclave",
     "compare kms:RecipientAttestation:* in the key policy with the image's PCRs, and Principal "
     "with the role"},
    {CLV_KMS_NOT_FOUND, false, "the key is of another region or account, or was deleted",
     "check region and account in the key ARN of the policy file"},
    {CLV_KMS_DISABLED, false, "the key is disabled", "enable it: aws kms enable-key"},
    {CLV_KMS_INVALID_CIPHERTEXT, false,
     "the encryption context differs from the one at encryption, or the blob was changed",
     "compare the policy's encryption_context with the one the blob was made under"},
    {CLV_KMS_INCORRECT_KEY, false, "the blob was encrypted under another key",
     "use the blob with the policy key that made it"},
    {CLV_KMS_INVALID_KEY_USAGE, false, "the key's KeyUsage or KeySpec is not for this operation",
     "use a symmetric ENCRYPT_DECRYPT key (DeriveSharedSecret: KEY_AGREEMENT)"},
    {CLV_KMS_INVALID_STATE, false, "the key is pending deletion, import or replication",
     "cancel the deletion or wait, then enable the key"},
    {CLV_KMS_VALIDATION, false,
     "KMS finds a parameter or the attestation document malformed or too old",
     "look at KMS's message; a document must be younger than five minutes"},
    {CLV_KMS_INVALID_GRANT_TOKEN, false, "a grant token is not valid", "create the grant again"},
    {CLV_KMS_UNSUPPORTED, false, "this region or key does not support the operation",
     "use a key that does"},
    {CLV_KMS_DRY_RUN, false, "the request was a dry run", "send it without DryRun"},
    {CLV_KMS_THROTTLING, true, "the account's request rate for this operation is used up",
     "retried; raise the quota or use a data key for longer"},
    {CLV_KMS_LIMIT, false, "a quota of the account is used up", "raise the quota"},
    {CLV_KMS_DEPENDENCY_TIMEOUT, true, "KMS timed out inside", "retried"},
    {CLV_KMS_INTERNAL, true, "KMS failed inside", "retried"},
    {CLV_KMS_KEY_UNAVAILABLE, true, "the key is not available just now", "retried"},
    {CLV_KMS_UNRECOGNIZED_CLIENT, false,
     "the credentials are of another partition, deleted, or not active in this region",
     "check the role, and the region's partition"},
    {CLV_KMS_INVALID_SIGNATURE, false,
     "the secret key does not belong to the access key id, or the clock is off",
     "deliver the credentials again"},
    {CLV_KMS_INCOMPLETE_SIGNATURE, false, "a header was changed on the way",
     "let no proxy end TLS between enclave and KMS"},
    {CLV_KMS_EXPIRED_TOKEN, false, "the session token expired before it was replaced",
     "look at the parent's credential source"},
    {CLV_KMS_MISSING_TOKEN, false, "the Authorization header did not arrive",
     "let no proxy end TLS between enclave and KMS"},
    {CLV_KMS_UNKNOWN_OPERATION, false, "the endpoint does not know the operation",
     "check that the endpoint is KMS in this region"},
    {CLV_KMS_SERIALIZATION, false, "KMS cannot read the request",
     "let no proxy end TLS between enclave and KMS"},
    {CLV_KMS_SERVICE_UNAVAILABLE, true, "KMS is unavailable", "retried"},
    {CLV_KMS_MALFORMED_HTTP, false, "the request was changed on the way",
     "let no proxy end TLS between enclave and KMS"},
    {CLV_KMS_REQUEST_ABORTED, false, "the connection ended before KMS answered",
     "look at the relay and the network"},
    {CLV_KMS_REQUEST_TOO_LARGE, false, "the request was changed on the way",
     "let no proxy end TLS between enclave and KMS"},
    {CLV_KMS_REQUEST_TIMEOUT, true, "the request reached KMS too slowly", "retried"},
    {CLV_KMS_OPT_IN, false, "the account is not signed up for KMS or for this region",
     "enable the region for the account"},
    {CLV_KMS_INVALID_ARN, false, "the key ARN is not one that KMS accepts",
     "copy the key ARN from aws kms describe-key"},
};
const size_t clv_kms_errors_count = ROWS(clv_kms_errors);

/* Names of the same thing in other AWS documents and older services. */
static const struct {
    const char *name;
    clv_status code;
} aliases[] = {
    {"AccessDenied", CLV_KMS_ACCESS_DENIED},
    {"NotAuthorized", CLV_KMS_ACCESS_DENIED},
    {"Throttling", CLV_KMS_THROTTLING},
    {"TooManyRequestsException", CLV_KMS_THROTTLING},
    {"RequestLimitExceeded", CLV_KMS_THROTTLING},
    {"InternalFailure", CLV_KMS_INTERNAL},
    {"InternalServerError", CLV_KMS_INTERNAL},
    {"ServiceUnavailable", CLV_KMS_SERVICE_UNAVAILABLE},
    {"ValidationError", CLV_KMS_VALIDATION},
    {"InvalidClientTokenId", CLV_KMS_UNRECOGNIZED_CLIENT},
    {"IncompleteSignature", CLV_KMS_INCOMPLETE_SIGNATURE},
    {"SignatureDoesNotMatch", CLV_KMS_INVALID_SIGNATURE},
    {"RequestExpired", CLV_KMS_INVALID_SIGNATURE},
    {"ExpiredToken", CLV_KMS_EXPIRED_TOKEN},
    {"MissingAuthenticationToken", CLV_KMS_MISSING_TOKEN},
    {"InvalidAction", CLV_KMS_UNKNOWN_OPERATION},
    {"RequestTimeout", CLV_KMS_REQUEST_TIMEOUT},
};

/* A status that says enough where no name came with it. */
static const struct {
    int http_status;
    clv_status code;
} statuses[] = {
    {429, CLV_KMS_THROTTLING},          {500, CLV_KMS_INTERNAL},
    {502, CLV_KMS_SERVICE_UNAVAILABLE}, {503, CLV_KMS_SERVICE_UNAVAILABLE},
    {504, CLV_KMS_SERVICE_UNAVAILABLE},
};

/* A closer cause, where a word of KMS's message tells it. */
static const struct {
    clv_status code;
    const char *fragment;
    const char *cause;
} closer_causes[] = {
    {CLV_KMS_INVALID_SIGNATURE, "Signature expired",
     "clock skew: the enclave's attested clock is behind KMS by more than five minutes"},
    {CLV_KMS_INVALID_SIGNATURE, "Signature not yet current",
     "clock skew: the enclave's attested clock is ahead of KMS by more than five minutes"},
    {CLV_KMS_INVALID_SIGNATURE, "Credential should be scoped",
     "the policy's region is not the endpoint's"},
    {CLV_KMS_ACCESS_DENIED, "explicit deny",
     "a statement with Effect Deny matches (key policy, IAM policy, SCP or VPC endpoint policy)"},
    {CLV_KMS_ACCESS_DENIED, "no identity-based policy",
     "the role's IAM policy does not allow it, and no key policy statement matches this enclave"},
    {CLV_KMS_ACCESS_DENIED, "no VPC endpoint policy",
     "the VPC endpoint's policy does not allow it"},
    {CLV_KMS_ACCESS_DENIED, "ciphertext refers to a customer master key that does not exist",
     "the blob is of a key in another region or account"},
    {CLV_KMS_VALIDATION, "expired",
     "the attestation document reached KMS more than five minutes after it was made"},
};

const clv_kms_error *clv_kms_error_of(clv_status code)
{
    for (size_t i = 0; i < ROWS(clv_kms_errors); i++) {
        if (clv_kms_errors[i].code == code)
            return &clv_kms_errors[i];
    }
    return NULL;
}

static clv_status code_of(const char *type)
{
    clv_status code = clv_status_of_slug(type);
    if (code != CLV_STATUS_COUNT && clv_kms_error_of(code) != NULL)
        return code;
    for (size_t i = 0; i < ROWS(aliases); i++) {
        if (strcmp(aliases[i].name, type) == 0)
            return aliases[i].code;
    }
    return CLV_KMS_UNKNOWN_ERROR;
}

/* Bounded and safe to print: KMS's text goes into logs and terminals. */
static void copy_printable(const char *from, size_t n, char *to, size_t size)
{
    size_t length = n < size - 1 ? n : size - 1;
    for (size_t i = 0; i < length; i++)
        to[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
    to[length] = '\0';
}

/* "com.amazonaws.kms#NotFoundException:http://…" is NotFoundException. */
static void copy_type(const char *from, char *to, size_t size)
{
    const char *hash = strchr(from, '#');
    const char *name = hash != NULL ? hash + 1 : from;
    copy_printable(name, strcspn(name, ":"), to, size);
}

static void read_json_error(clv_bytes body, clv_kms_failure *out)
{
    clv_auto(clv_json) json = NULL;
    clv_json_reader r;
    if (clv_json_parse(body, body.n, &json, NULL) != CLV_OK ||
        clv_json_open(&r, json, "", NULL) != CLV_OK)
        return;
    static const char *const message_names[] = {"message", "Message", "errorMessage"};
    const char *text = NULL;
    if (clv_json_text(&r, "__type", &text, NULL) == CLV_OK && text != NULL)
        copy_type(text, out->type, sizeof out->type);
    for (size_t i = 0; i < ROWS(message_names) && out->message[0] == '\0'; i++) {
        if (clv_json_text(&r, message_names[i], &text, NULL) == CLV_OK && text != NULL)
            copy_printable(text, strlen(text), out->message, sizeof out->message);
    }
}

clv_status clv_kms_error_read(const clv_kms_answer_error *answer, clv_kms_failure *out)
{
    *out = (clv_kms_failure){.http_status = answer->http_status};
    copy_printable(answer->request_id, strlen(answer->request_id), out->request_id,
                   sizeof out->request_id);
    read_json_error(answer->body, out);
    if (out->type[0] == '\0')
        copy_type(answer->header_type, out->type, sizeof out->type);

    bool fault = answer->http_status == 429 || answer->http_status >= 500;
    out->retryable = fault;
    if (out->type[0] != '\0') {
        clv_status code = code_of(out->type);
        const clv_kms_error *row = clv_kms_error_of(code);
        out->retryable = fault || (row != NULL && row->retryable);
        return code;
    }
    for (size_t i = 0; i < ROWS(statuses); i++) {
        if (statuses[i].http_status == answer->http_status)
            return statuses[i].code;
    }
    return CLV_KMS_RESPONSE;
}

/* The field of an ARN with this many colons in front of it: 3 the region, 4 the account. */
static void arn_field(const char *arn, int colons, char *to, size_t size)
{
    for (; *arn != '\0' && colons > 0; arn++) {
        if (*arn == ':')
            colons--;
    }
    copy_printable(arn, strcspn(arn, ":"), to, size);
}

/* "User: arn:aws:sts::ACCOUNT:assumed-role/… is not authorized": the caller as KMS saw it. */
static void account_in_message(const char *message, char to[ACCOUNT_LENGTH + 1])
{
    static const char *const services[] = {":sts::", ":iam::"};
    for (size_t i = 0; i < ROWS(services); i++) {
        const char *at = strstr(message, services[i]);
        if (at != NULL && strspn(at + strlen(services[i]), "0123456789") == ACCOUNT_LENGTH)
            copy_printable(at + strlen(services[i]), ACCOUNT_LENGTH, to, ACCOUNT_LENGTH + 1);
    }
}

/* Another account or region than the key's, where that can be told: *out is "" otherwise. */
static void explain_place(const clv_kms_failure *failure, const clv_kms_situation *situation,
                          char *out, size_t size)
{
    const char *arn = situation->operation->key_arn;
    char key_account[ACCOUNT_LENGTH + 1], key_region[40], caller[ACCOUNT_LENGTH + 1] = "";
    out[0] = '\0';
    if (arn == NULL)
        return;
    arn_field(arn, 4, key_account, sizeof key_account);
    arn_field(arn, 3, key_region, sizeof key_region);
    snprintf(caller, sizeof caller, "%s", situation->caller_account);
    account_in_message(failure->message, caller);
    if (situation->region[0] != '\0' && strcmp(key_region, situation->region) != 0)
        snprintf(out, size, "the key is of region %s, the endpoint of %s", key_region,
                 situation->region);
    else if (caller[0] != '\0' && strcmp(caller, key_account) != 0)
        snprintf(out, size, "the key is of account %s, the caller of %s", key_account, caller);
}

static bool has_register(const clv_pcrs *pcrs, unsigned index)
{
    return pcrs != NULL && (pcrs->present >> index & 1) != 0;
}

/* PCR0 of an image that runs in debug mode is all zero (AWS Nitro Enclaves user guide). */
static bool is_debug(const clv_pcrs *pcrs)
{
    return has_register(pcrs, 0) && clv_bytes_all_zero(CLV_BYTES(pcrs->value[0], CLV_PCR_SIZE));
}

/* The cause, and what there is to compare with the key policy: the registers of image, signer and
 * policy, each by its first bytes. Nobody's secret: KMS's audit record has them whole. */
static const char *with_registers(const char *cause, const clv_pcrs *pcrs, char *out, size_t size)
{
    static const unsigned shown[] = {0, CLV_SIGNER_PCR, CLV_POLICY_PCR};
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    const char *whole;
    clv_status status = clv_buf_printf(&text, NULL, "%s", cause);
    for (size_t i = 0; i < ROWS(shown) && status == CLV_OK; i++) {
        if (!has_register(pcrs, shown[i]))
            continue;
        status = clv_buf_printf(&text, NULL, " PCR%u=", shown[i]);
        if (status == CLV_OK)
            status = clv_hex_append(&text, CLV_BYTES(pcrs->value[shown[i]], SHOWN_BYTES), NULL);
    }
    if (status != CLV_OK || clv_buf_text(&text, &whole, NULL) != CLV_OK)
        return cause;
    snprintf(out, size, "%s", whole);
    return out;
}

/* What most likely went wrong, in this situation. */
static const char *likely_cause(clv_status code, const clv_kms_failure *failure,
                                const clv_kms_situation *situation, char *own, size_t size)
{
    bool denied = code == CLV_KMS_ACCESS_DENIED;
    if (denied && is_debug(situation->pcrs))
        return "this enclave runs in debug mode: its PCRs are zero and match no key policy";
    if (denied || code == CLV_KMS_NOT_FOUND) {
        explain_place(failure, situation, own, size);
        if (own[0] != '\0')
            return own;
    }
    for (size_t i = 0; i < ROWS(closer_causes); i++) {
        if (closer_causes[i].code == code &&
            strstr(failure->message, closer_causes[i].fragment) != NULL)
            return closer_causes[i].cause;
    }
    const clv_kms_error *row = clv_kms_error_of(code);
    if (denied)
        return with_registers(row->cause, situation->pcrs, own, size);
    return row != NULL ? row->cause : "";
}

clv_status clv_kms_explain(clv_status code, const clv_kms_failure *failure,
                           const clv_kms_situation *situation, clv_error *err)
{
    char own[256] = "";
    const char *cause = likely_cause(code, failure, situation, own, sizeof own);
    const char *arn = situation->operation->key_arn;
    const clv_kms_error *row = clv_kms_error_of(code);
    bool usual =
        row != NULL && strncmp(cause, row->cause, strlen(row->cause)) == 0 && !row->retryable;
    /* Each part is cut so that the cause always fits (CLV_ERROR_TEXT_MAX); the cure may not. */
    return clv_fail(err, code, "KMS refused %s%s%.90s: HTTP %d %.50s%s%.130s%s%.40s%s%s%s%s",
                    clv_kms_action_name(situation->operation->action), arn != NULL ? " with " : "",
                    arn != NULL ? arn : "", failure->http_status,
                    failure->type[0] != '\0' ? failure->type : "without an error name",
                    failure->message[0] != '\0' ? ": " : "", failure->message,
                    failure->request_id[0] != '\0' ? " (request id " : " (no request id",
                    failure->request_id, cause[0] != '\0' ? "); usual cause: " : ")", cause,
                    usual ? "; cure: " : "", usual ? row->cure : "");
}

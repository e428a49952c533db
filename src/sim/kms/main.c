/* claviger-kms: a KMS for development and tests, on one's own machine. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/crypto.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/time.h>
#include <openssl/pem.h>
#include <sim/kms/admin.h>
#include <sim/kms/audit.h>
#include <sim/kms/caller.h>
#include <sim/kms/certificates.h>
#include <sim/kms/faults.h>
#include <sim/kms/server.h>

#define NAMES_MAX    16
#define DEFAULT_USER "arn:aws:iam::123456789012:user/claviger"

static const char USAGE[] =
    "usage: claviger-kms init DIR [--host NAME]...\n"
    "       claviger-kms serve DIR --listen ADDRESS --attestation-root ROOT.pem [options]\n"
    "       claviger-kms credentials DIR --arn ARN [--policy FILE] [--session-seconds N]\n"
    "       claviger-kms audit DIR [--after N] [--json]\n"
    "       claviger-kms reveal DIR --blob BASE64\n"
    "\n"
    "A local KMS for development and tests. DIR holds its database, keys in the clear, its TLS\n"
    "certificates (ca.pem) and the credentials of one IAM user (credentials.json).\n"
    "\n"
    "  --host NAME               also a name or address of the server certificate\n"
    "  --listen ADDRESS          tcp:IP:PORT; port 0 takes a free one\n"
    "  --attestation-root FILE   PEM of the root that attestation documents must chain to\n"
    "  --region REGION           default us-east-1\n"
    "  --admin ADDRESS           unix:/path for faults, clock, audit: see docs/kms.md\n"
    "  --ready-file FILE         written once it serves\n"
    "  --log text|json           form of the log lines\n"
    "  --arn ARN                 IAM user, role session (sts) or account root to make\n"
    "                            credentials for\n"
    "  --policy FILE             its identity policy; default: kms:* on everything\n"
    "  --session-seconds N       session credentials with a token that expires\n"
    "  --after N                 only records behind this sequence number\n"
    "  --json                    the records as JSON\n"
    "  --blob BASE64             a CiphertextBlob to open without asking anyone\n"
    "  --help, --version\n";

typedef struct settings {
    const char *hosts[NAMES_MAX];
    size_t host_count;
    const char *listen, *root, *region, *admin, *ready_file, *log;
    const char *arn, *policy, *session_seconds, *after, *blob;
    bool json;
} settings;

enum {
    HOST = 256,
    LISTEN,
    ROOT,
    REGION,
    ADMIN,
    READY_FILE,
    LOG,
    ARN,
    POLICY,
    SESSION_SECONDS,
    AFTER,
    JSON,
    BLOB,
};

static const struct option LONG_OPTIONS[] = {
    {"host", required_argument, NULL, HOST},
    {"listen", required_argument, NULL, LISTEN},
    {"attestation-root", required_argument, NULL, ROOT},
    {"region", required_argument, NULL, REGION},
    {"admin", required_argument, NULL, ADMIN},
    {"ready-file", required_argument, NULL, READY_FILE},
    {"log", required_argument, NULL, LOG},
    {"arn", required_argument, NULL, ARN},
    {"policy", required_argument, NULL, POLICY},
    {"session-seconds", required_argument, NULL, SESSION_SECONDS},
    {"after", required_argument, NULL, AFTER},
    {"json", no_argument, NULL, JSON},
    {"blob", required_argument, NULL, BLOB},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

/* DIR/name, in a buffer of the caller's. */
#define PATH_SIZE 4096
static clv_status path_in(const char *dir, const char *name, char out[PATH_SIZE], clv_error *err)
{
    if (snprintf(out, PATH_SIZE, "%s/%s", dir, name) >= PATH_SIZE)
        return clv_fail(err, CLV_USAGE, "expected a shorter directory name");
    return CLV_OK;
}

static clv_status write_in(const char *dir, const char *name, clv_bytes content, mode_t mode,
                           clv_error *err)
{
    char path[PATH_SIZE];
    CLV_TRY(path_in(dir, name, path, err));
    return clv_file_write(path, content, mode, err);
}

static clv_status open_db(const char *dir, bool create, clv_db **out, clv_error *err)
{
    char path[PATH_SIZE];
    CLV_TRY(path_in(dir, "kms.db", path, err));
    if (!create && access(path, R_OK | W_OK) != 0)
        return clv_fail(err, CLV_USAGE, "%s: expected a directory made by claviger-kms init: %m",
                        dir);
    return clv_db_open(path, create, out, err);
}

static clv_status make_certificates(const char *dir, const settings *s, clv_error *err)
{
    static const char *const defaults[] = {"localhost", "kms.us-east-1.amazonaws.com", "127.0.0.1"};
    const char *names[NAMES_MAX + 3];
    size_t count = 0;
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++)
        names[count++] = defaults[i];
    for (size_t i = 0; i < s->host_count; i++)
        names[count++] = s->hosts[i];
    clv_auto(clv_tls_files) files = {CLV_BUF_INIT, CLV_BUF_INIT, CLV_BUF_INIT};
    CLV_TRY(clv_tls_files_make(names, count, &files, err));
    CLV_TRY(write_in(dir, "ca.pem", clv_buf_bytes(&files.ca), 0644, err));
    CLV_TRY(write_in(dir, "server.pem", clv_buf_bytes(&files.server), 0644, err));
    return write_in(dir, "server.key", clv_buf_bytes(&files.key), 0600, err);
}

static clv_status run_init(const char *dir, const settings *s, clv_error *err)
{
    char path[PATH_SIZE];
    CLV_TRY(path_in(dir, "kms.db", path, err));
    if (mkdir(dir, 0700) != 0 && access(dir, W_OK) != 0)
        return clv_fail(err, CLV_SYSTEM, "%s cannot be made: %m", dir);
    if (access(path, F_OK) == 0)
        return clv_fail(err, CLV_USAGE, "%s: expected no KMS there yet, found one", dir);
    clv_auto_ptr(clv_db) db = NULL;
    clv_auto(clv_json) credentials = NULL;
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(make_certificates(dir, s, err));
    CLV_TRY(open_db(dir, true, &db, err));
    const clv_new_principal user = {DEFAULT_USER, NULL, 0};
    CLV_TRY(clv_caller_create(db, &user, &credentials, err));
    CLV_TRY(clv_json_append(&text, credentials, err));
    CLV_TRY(clv_buf_append_text(&text, "\n", err));
    return write_in(dir, "credentials.json", clv_buf_bytes(&text), 0600, err);
}

static clv_status print_json(const json_t *json, clv_error *err)
{
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_json_append(&text, json, err));
    printf("%.*s\n", (int)text.n, (const char *)text.p);
    return CLV_OK;
}

static clv_status parse_number(const char *option, const char *text, int64_t max, int64_t *out,
                               clv_error *err)
{
    char *end;
    long long value = text != NULL ? strtoll(text, &end, 10) : 0;
    if (text != NULL && (end == text || *end != '\0' || value < 0 || value > max))
        return clv_fail(err, CLV_USAGE, "--%s: expected a number from 0 to %lld, found \"%.32s\"",
                        option, (long long)max, text);
    *out = value;
    return CLV_OK;
}

#define SESSION_SECONDS_MAX 129600 /* as AWS STS has it: 36 hours */

static clv_status run_credentials(const char *dir, const settings *s, clv_error *err)
{
    clv_auto_ptr(clv_db) db = NULL;
    clv_auto(clv_json) credentials = NULL;
    clv_auto(clv_buf) policy = CLV_BUF_INIT;
    clv_new_principal principal = {s->arn, NULL, 0};
    int64_t seconds;
    if (s->arn == NULL)
        return clv_fail(err, CLV_USAGE, "expected --arn (see --help)");
    CLV_TRY(
        parse_number("session-seconds", s->session_seconds, SESSION_SECONDS_MAX, &seconds, err));
    if (s->session_seconds != NULL)
        principal.expires_ms = clv_wall_ms() + (uint64_t)seconds * 1000;
    if (s->policy != NULL) {
        CLV_TRY(clv_file_read(s->policy, CLV_POLICY_MAX, &policy, err));
        CLV_TRY(clv_buf_text(&policy, &principal.policy, err));
    }
    CLV_TRY(open_db(dir, false, &db, err));
    CLV_TRY(clv_caller_create(db, &principal, &credentials, err));
    return print_json(credentials, err);
}

static void print_event(const json_t *event)
{
    const json_t *identity = json_object_get(event, "userIdentity");
    const json_t *resource = json_array_get(json_object_get(event, "resources"), 0);
    const char *arn = json_string_value(json_object_get(identity, "arn"));
    const char *key = json_string_value(json_object_get(resource, "ARN"));
    const char *code = json_string_value(json_object_get(event, "errorCode"));
    bool attested = json_object_get(event, "additionalEventData") != NULL;
    printf("%6lld  %s  %-32s %-28s %s%s %s\n",
           (long long)json_integer_value(json_object_get(event, "sequence")),
           json_string_value(json_object_get(event, "eventTime")),
           json_string_value(json_object_get(event, "eventName")), code != NULL ? code : "ok",
           arn != NULL ? arn : "-", attested ? " (attested)" : "", key != NULL ? key : "");
}

static clv_status run_audit(const char *dir, const settings *s, clv_error *err)
{
    clv_auto_ptr(clv_db) db = NULL;
    clv_auto(clv_json) events = NULL;
    int64_t after;
    CLV_TRY(parse_number("after", s->after, INT64_MAX, &after, err));
    CLV_TRY(open_db(dir, false, &db, err));
    CLV_TRY(clv_audit_read(db, after, &events, err));
    if (s->json)
        return print_json(events, err);
    for (size_t i = 0; i < json_array_size(events); i++)
        print_event(json_array_get(events, i));
    return CLV_OK;
}

static clv_status run_reveal(const char *dir, const settings *s, clv_error *err)
{
    clv_kms_server server = {.db = NULL};
    clv_call call = {.server = &server};
    clv_auto_ptr(clv_db) db = NULL;
    clv_auto(clv_buf) bytes = CLV_BUF_INIT;
    clv_auto(clv_buf) material = CLV_BUF_INIT;
    clv_auto(clv_buf) plaintext = CLV_BUF_INIT;
    clv_auto(clv_buf) base64 = CLV_BUF_INIT;
    clv_blob blob;
    if (s->blob == NULL)
        return clv_fail(err, CLV_USAGE, "expected --blob (see --help)");
    CLV_TRY(clv_base64_decode(clv_bytes_of(s->blob), &bytes, err));
    CLV_TRY(clv_blob_parse(clv_buf_bytes(&bytes), &blob, err));
    CLV_TRY(open_db(dir, false, &db, err));
    server.db = db;
    CLV_TRY(clv_key_material(&call, blob.key_id, blob.version, &material, err));
    CLV_TRY(clv_blob_reveal(&blob, clv_buf_bytes(&material), &plaintext, err));
    CLV_TRY(clv_base64_append(&base64, clv_buf_bytes(&plaintext), err));
    printf("%.*s\n", (int)base64.n, (const char *)base64.p);
    return CLV_OK;
}

typedef BIO *bio;

static void bio_drop(bio *b)
{
    BIO_free(*b);
    *b = NULL;
}

#define PEM_MAX 65536

static clv_status read_root(const char *path, uint8_t out[CLV_ROOT_DIGEST_SIZE], clv_error *err)
{
    clv_auto(clv_buf) pem = CLV_BUF_INIT;
    CLV_TRY(clv_file_read(path, PEM_MAX, &pem, err));
    clv_auto(bio) memory = BIO_new_mem_buf(pem.p, (int)pem.n);
    clv_auto(clv_x509) root = memory != NULL ? PEM_read_bio_X509(memory, NULL, NULL, NULL) : NULL;
    if (root == NULL || X509_digest(root, EVP_sha256(), out, NULL) != 1)
        return clv_fail_openssl(err, CLV_USAGE, "--attestation-root: expected a PEM certificate");
    return CLV_OK;
}

static clv_status read_pem(const char *dir, const char *name, clv_buf *out, const char **text,
                           clv_error *err)
{
    char path[PATH_SIZE];
    CLV_TRY(path_in(dir, name, path, err));
    CLV_TRY(clv_file_read(path, PEM_MAX, out, err));
    return clv_buf_text(out, text, err);
}

static void handle(void *with, const clv_http_request *request, const char *source_ip,
                   clv_reply *reply)
{
    clv_kms_handle(with, request, source_ip, reply);
}

static clv_status write_ready(const settings *s, const clv_address *bound, clv_error *err)
{
    if (s->ready_file == NULL)
        return CLV_OK;
    clv_auto(clv_json) ready = json_pack("{s:i, s:s, s:s*}", "pid", (int)getpid(), "listen",
                                         bound->text, "admin", s->admin);
    clv_auto(clv_buf) text = CLV_BUF_INIT;
    CLV_TRY(clv_json_append(&text, ready, err));
    return clv_file_write(s->ready_file, clv_buf_bytes(&text), 0644, err);
}

static clv_status start_admin(const settings *s, clv_kms_server *server, clv_listener **out,
                              clv_error *err)
{
    clv_address address, bound;
    const clv_listener_options options = {
        .address = &address,
        .media_type = "application/json",
        .handle = clv_admin_handle,
        .with = server,
    };
    if (s->admin == NULL)
        return CLV_OK;
    CLV_TRY(clv_address_parse(s->admin, &address, err));
    if (address.sa.ss_family != AF_UNIX)
        return clv_fail(err, CLV_USAGE, "--admin: expected unix:/path, found %s", s->admin);
    return clv_listener_start(&options, out, &bound, err);
}

static clv_status serve_until_told(const char *dir, const settings *s, clv_kms_server *server,
                                   const sigset_t *signals, clv_error *err)
{
    clv_auto(clv_buf) certificate = CLV_BUF_INIT;
    clv_auto(clv_buf) key = CLV_BUF_INIT;
    clv_auto_ptr(clv_listener) admin = NULL;
    clv_auto_ptr(clv_listener) listener = NULL;
    clv_address address, bound;
    clv_listener_options options = {
        .address = &address,
        .media_type = "application/x-amz-json-1.1",
        .handle = handle,
        .with = server,
    };
    CLV_TRY(clv_address_parse(s->listen, &address, err));
    CLV_TRY(read_pem(dir, "server.pem", &certificate, &options.certificate, err));
    CLV_TRY(read_pem(dir, "server.key", &key, &options.key, err));
    CLV_TRY(clv_listener_start(&options, &listener, &bound, err));
    CLV_TRY(start_admin(s, server, &admin, err));
    CLV_TRY(write_ready(s, &bound, err));
    clv_log(CLV_LOG_INFO, "kms.ready", NULL, "serving %s on %s", server->region, bound.text);
    int number;
    sigwait(signals, &number);
    clv_log(CLV_LOG_INFO, "kms.stop", NULL, "ending on signal %d", number);
    return CLV_OK;
}

static clv_status run_serve(const char *dir, const settings *s, clv_error *err)
{
    clv_kms_server server = {.changes = PTHREAD_MUTEX_INITIALIZER};
    if (s->listen == NULL || s->root == NULL)
        return clv_fail(err, CLV_USAGE, "expected --listen and --attestation-root (see --help)");
    snprintf(server.region, sizeof server.region, "%s",
             s->region != NULL ? s->region : "us-east-1");
    clv_log_start("claviger-kms", CLV_LOG_INFO, s->log != NULL && strcmp(s->log, "json") == 0);
    json_object_seed(0); /* once, before there are threads */
    CLV_TRY(read_root(s->root, server.root_sha256, err));
    clv_auto_ptr(clv_db) db = NULL;
    CLV_TRY(open_db(dir, false, &db, err));
    clv_auto_ptr(clv_faults) faults = clv_faults_new();
    if (faults == NULL)
        return clv_fail(err, CLV_NO_MEMORY, "expected memory for rules, found none");
    server.db = db;
    server.faults = faults;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    return serve_until_told(dir, s, &server, &signals, err);
}

static const struct {
    const char *name;
    clv_status (*run)(const char *dir, const settings *s, clv_error *err);
} COMMANDS[] = {
    {"init", run_init},   {"serve", run_serve},   {"credentials", run_credentials},
    {"audit", run_audit}, {"reveal", run_reveal},
};

static clv_status take_option(settings *s, int option, const char *value, clv_error *err)
{
    const struct {
        int option;
        const char **to;
    } texts[] = {
        {LISTEN, &s->listen},
        {ROOT, &s->root},
        {REGION, &s->region},
        {ADMIN, &s->admin},
        {READY_FILE, &s->ready_file},
        {LOG, &s->log},
        {ARN, &s->arn},
        {POLICY, &s->policy},
        {SESSION_SECONDS, &s->session_seconds},
        {AFTER, &s->after},
        {BLOB, &s->blob},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (texts[i].option == option)
            *texts[i].to = value;
    }
    if (option == JSON)
        s->json = true;
    if (option == HOST && s->host_count == NAMES_MAX)
        return clv_fail(err, CLV_USAGE, "expected at most %d --host", NAMES_MAX);
    if (option == HOST)
        s->hosts[s->host_count++] = value;
    return CLV_OK;
}

static clv_status run(int count, char **arguments, clv_error *err)
{
    settings s = {.json = false};
    opterr = 0;
    for (int option; (option = getopt_long(count, arguments, "", LONG_OPTIONS, NULL)) != -1;) {
        if (option == 'h' || option == 'V') {
            printf("%s", option == 'h' ? USAGE : "claviger-kms " CLAVIGER_VERSION "\n");
            return CLV_OK;
        }
        if (option == '?')
            return clv_fail(err, CLV_USAGE,
                            "\"%s\" is not an option, or lacks its value (see --help)",
                            arguments[optind - 1]);
        CLV_TRY(take_option(&s, option, optarg, err));
    }
    if (count - optind != 2)
        return clv_fail(err, CLV_USAGE, "expected a command and a directory (see --help)");
    for (size_t i = 0; i < sizeof COMMANDS / sizeof COMMANDS[0]; i++) {
        if (strcmp(COMMANDS[i].name, arguments[optind]) == 0)
            return COMMANDS[i].run(arguments[optind + 1], &s, err);
    }
    return clv_fail(err, CLV_USAGE, "\"%s\" is not a command (see --help)", arguments[optind]);
}

int main(int count, char **arguments)
{
    clv_error err = {0};
    clv_status status = run(count, arguments, &err);
    if (status != CLV_OK)
        fprintf(stderr, "claviger-kms: %s (%s)\n", err.text, clv_status_slug(status));
    return (int)clv_status_exit(status);
}

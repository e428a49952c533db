/*
 * kmstool_enclave_cli: AWS's command (github.com/aws/aws-nitro-enclaves-sdk-c,
 * bin/kmstool-enclave-cli) through clavigerd, with the same arguments and output lines. Region,
 * proxy port and credentials are the daemon's: they are taken and not used, so that scripts run
 * unchanged and a secret in their arguments is not needed any more.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <base/json.h>
#include <base/log.h>
#include <base/net.h>

#define DEFAULT_SOCKET "/run/claviger/agent.sock"
#define TIMEOUT_MS     60000
#define ANSWER_MAX     65536
#define READ_PIECE     4096

enum { IGNORED = 256, CIPHERTEXT, KEY_ID, KEY_SPEC, LENGTH, SOCKET };

static const struct option long_options[] = {
    {"region", required_argument, NULL, IGNORED},
    {"proxy-port", required_argument, NULL, IGNORED},
    {"aws-access-key-id", required_argument, NULL, IGNORED},
    {"aws-secret-access-key", required_argument, NULL, IGNORED},
    {"aws-session-token", required_argument, NULL, IGNORED},
    {"encryption-algorithm", required_argument, NULL, IGNORED},
    {"ciphertext", required_argument, NULL, CIPHERTEXT},
    {"key-id", required_argument, NULL, KEY_ID},
    {"key-spec", required_argument, NULL, KEY_SPEC},
    {"length", required_argument, NULL, LENGTH},
    {"socket", required_argument, NULL, SOCKET},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static const char usage[] =
    "usage: kmstool_enclave_cli decrypt --ciphertext BASE64 [--key-id ARN]\n"
    "       kmstool_enclave_cli genkey --key-id ARN [--key-spec AES-256|AES-128]\n"
    "       kmstool_enclave_cli genrandom --length BYTES\n"
    "\n"
    "Asks clavigerd at --socket PATH, $CLAVIGER_SOCKET or " DEFAULT_SOCKET ".\n"
    "$CLAVIGER_KEY names the policy's key when it has several. --region, --proxy-port and the\n"
    "--aws-* options are taken and not used: the daemon has its own.\n";

typedef struct ask {
    const char *socket, *key_id, *ciphertext;
    long bytes;
} ask;

static clv_status read_options(int argc, char **argv, ask *out, clv_error *err)
{
    const char *socket = getenv("CLAVIGER_SOCKET");
    *out = (ask){.socket = socket != NULL ? socket : DEFAULT_SOCKET, .bytes = 32};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        if (c == '?' || c == 'h')
            return clv_fail(err, CLV_USAGE, "see --help");
        if (c == CIPHERTEXT)
            out->ciphertext = optarg;
        else if (c == KEY_ID)
            out->key_id = optarg;
        else if (c == KEY_SPEC)
            out->bytes = strcmp(optarg, "AES-256") == 0   ? 32
                         : strcmp(optarg, "AES-128") == 0 ? 16
                                                          : 0;
        else if (c == LENGTH)
            out->bytes = strtol(optarg, NULL, 10);
        else if (c == SOCKET)
            out->socket = optarg;
    }
    if (out->bytes < 1)
        return clv_fail(err, CLV_USAGE,
                        "--key-spec or --length: expected AES-256, AES-128 or bytes");
    return CLV_OK;
}

static clv_status read_all(int fd, clv_buf *out, clv_error *err)
{
    for (;;) {
        uint8_t *to;
        CLV_TRY(clv_buf_reserve(out, READ_PIECE, &to, err));
        ssize_t got = read(fd, to, READ_PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return clv_fail(err, CLV_SYSTEM, "clavigerd's answer cannot be read: %m");
        if (got == 0)
            return CLV_OK;
        out->n += (size_t)got;
    }
}

static clv_status post(const char *socket, const char *path, const json_t *body, clv_buf *answer,
                       clv_error *err)
{
    char text[160];
    clv_address address;
    clv_auto(clv_fd) fd = -1;
    clv_auto(clv_buf) json = CLV_BUF_INIT;
    clv_auto(clv_buf) request = CLV_BUF_INIT;
    const char *key = getenv("CLAVIGER_KEY");
    snprintf(text, sizeof text, "unix:%s", socket);
    CLV_TRY(clv_address_parse(text, &address, err));
    CLV_TRY(clv_json_append(&json, body, err));
    CLV_TRY(clv_buf_printf(&request, err,
                           "POST %s%s%s HTTP/1.1\r\nHost: claviger\r\nConnection: close\r\n"
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                           path, key != NULL ? "?key=" : "", key != NULL ? key : "", json.n));
    CLV_TRY(clv_buf_append(&request, clv_buf_bytes(&json), err));
    CLV_TRY(clv_dial(&address, TIMEOUT_MS, &fd, err));
    CLV_TRY(clv_write_full(fd, clv_buf_bytes(&request), err));
    return read_all(fd, answer, err);
}

/* The body behind the head; a problem document becomes the error. */
static clv_status open_answer(clv_buf *answer, clv_bytes *body, clv_error *err)
{
    const char *text = NULL;
    CLV_TRY(clv_buf_text(answer, &text, err));
    const char *end = strstr(text, "\r\n\r\n");
    int status = 0;
    if (end == NULL || sscanf(text, "HTTP/1.1 %d", &status) != 1)
        return clv_fail(err, CLV_FRAME_FORMAT, "clavigerd's answer is not HTTP");
    size_t head = (size_t)(end - text) + 4;
    *body = CLV_BYTES(answer->p + head, answer->n - head);
    if (status == 200)
        return CLV_OK;
    clv_auto(clv_json) problem = NULL;
    CLV_TRY(clv_json_parse(*body, ANSWER_MAX, &problem, err));
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    clv_status known = code != NULL ? clv_status_of_slug(code) : CLV_STATUS_COUNT;
    return clv_fail(err, known < CLV_STATUS_COUNT ? known : CLV_INTERNAL, "%s",
                    detail != NULL ? detail : "clavigerd refused");
}

static void print_member(const json_t *answer, const char *label, const char *name)
{
    const char *value = json_string_value(json_object_get(answer, name));
    if (value != NULL)
        printf("%s: %s\n", label, value);
}

static clv_status ask_kms(const ask *a, const char *path, json_t *body, clv_error *err)
{
    clv_auto(clv_json) owned = body;
    clv_auto(clv_json) json = NULL;
    clv_auto(clv_buf) answer = CLV_BUF_LIMITED(ANSWER_MAX);
    clv_bytes text;
    CLV_TRY(post(a->socket, path, owned, &answer, err));
    CLV_TRY(open_answer(&answer, &text, err));
    CLV_TRY(clv_json_parse(text, ANSWER_MAX, &json, err));
    print_member(json, "CIPHERTEXT", "ciphertext");
    print_member(json, "PLAINTEXT", "plaintext");
    return CLV_OK;
}

static clv_status decrypt(const ask *a, clv_error *err)
{
    if (a->ciphertext == NULL)
        return clv_fail(err, CLV_USAGE, "--ciphertext is missing");
    return ask_kms(a, "/v1/kms/decrypt",
                   json_pack("{s:s, s:s*}", "ciphertext", a->ciphertext, "key_id", a->key_id), err);
}

static clv_status genkey(const ask *a, clv_error *err)
{
    return ask_kms(
        a, "/v1/kms/generate-data-key",
        json_pack("{s:I, s:s*}", "number_of_bytes", (json_int_t)a->bytes, "key_id", a->key_id),
        err);
}

static clv_status genrandom(const ask *a, clv_error *err)
{
    clv_auto(clv_json) body = json_pack("{s:I}", "number_of_bytes", (json_int_t)a->bytes);
    clv_auto(clv_buf) answer = CLV_BUF_LIMITED(ANSWER_MAX);
    clv_auto(clv_buf) line = CLV_BUF_INIT;
    clv_bytes bytes;
    const char *text = NULL;
    CLV_TRY(post(a->socket, "/v1/random", body, &answer, err));
    CLV_TRY(open_answer(&answer, &bytes, err));
    CLV_TRY(clv_base64_append(&line, bytes, err));
    CLV_TRY(clv_buf_text(&line, &text, err));
    printf("PLAINTEXT: %s\n", text);
    return CLV_OK;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        clv_status (*run)(const ask *a, clv_error *err);
    } command[] = {{"decrypt", decrypt}, {"genkey", genkey}, {"genrandom", genrandom}};
    clv_error err = {.text = "expected decrypt, genkey or genrandom"};
    clv_status status = CLV_USAGE;
    ask a;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return fputs(usage, stdout) < 0;
    for (size_t i = 0; argc > 1 && i < sizeof command / sizeof command[0]; i++) {
        if (strcmp(command[i].name, argv[1]) != 0)
            continue;
        status = read_options(argc - 1, argv + 1, &a, &err);
        if (status == CLV_OK)
            status = command[i].run(&a, &err);
    }
    clv_log_printable(err.text);
    if (status != CLV_OK)
        fprintf(stderr, "kmstool_enclave_cli: %s (%s)\n", err.text, clv_status_slug(status));
    return clv_status_exit(status);
}

#include <base/log.h>

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <sodium.h>

#include <base/clock.h>
#include <base/supervisor.h>
#include <claviger/bytes.h>

static struct {
    const char *program;
    _Atomic clv_log_level level;
    bool json, journal;
} settings = {"claviger", CLV_LOG_INFO, false, false};

static const char *const level_name[] = {
    [CLV_LOG_ERROR] = "error",
    [CLV_LOG_WARNING] = "warning",
    [CLV_LOG_INFO] = "info",
    [CLV_LOG_DEBUG] = "debug",
};

/* sd-daemon(3): what a line to the journal begins with; the numbers are syslog's (RFC 5424). */
static const char *const priority[] = {
    [CLV_LOG_ERROR] = "<3>",
    [CLV_LOG_WARNING] = "<4>",
    [CLV_LOG_INFO] = "<6>",
    [CLV_LOG_DEBUG] = "<7>",
};
#define PRIORITY_BYTES 3

/* A sentence of the largest size fits even where JSON escapes every character of it. */
#define SENTENCE_MAX_BYTES 1024
#define LINE_MAX_BYTES     (2 * SENTENCE_MAX_BYTES + 512)

void clv_log_start(const char *program, clv_log_level level, bool json)
{
    settings.program = program;
    settings.level = level;
    settings.json = json;
    settings.journal = clv_journal_listens();
}

void clv_log_set_level(clv_log_level level)
{
    settings.level = level;
}

bool clv_log_level_of(const char *name, clv_log_level *out)
{
    for (size_t i = 0; i < sizeof level_name / sizeof level_name[0]; i++) {
        if (strcmp(name, level_name[i]) == 0) {
            *out = (clv_log_level)i;
            return true;
        }
    }
    return false;
}

/* One write() a line, so that lines of several threads and programs do not mix. */
static void put_line(char *line, size_t n)
{
    line[n] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n + 1);
    (void)written; /* nowhere is left to say that logging failed */
}

void clv_log_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (iscntrl((unsigned char)*text))
            *text = ' ';
    }
}

/* Nor may it keep its line from being JSON, and so out of the log. */
static void make_utf8(char *text)
{
    if (clv_utf8_valid(clv_bytes_of(text)))
        return;
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80)
            *text = '?';
    }
}

static void log_text(clv_log_level level, const char *event, const char *operation,
                     const char *time, const char *code, const char *sentence)
{
    char line[LINE_MAX_BYTES + 1];
    int n = 0;
    /* The journal knows when and who, and takes the level from its prefix. */
    if (settings.journal)
        n = snprintf(line, LINE_MAX_BYTES, "%s", priority[level]);
    else
        n = snprintf(line, LINE_MAX_BYTES, "%s %s %s ", time, settings.program, level_name[level]);
    if (n < 0 || n >= LINE_MAX_BYTES)
        return;
    snprintf(line + n, (size_t)(LINE_MAX_BYTES - n), "%s%s%s%s%s%s %s", event,
             operation != NULL ? " [" : "", operation != NULL ? operation : "",
             operation != NULL ? "]" : "", code != NULL ? " " : "", code != NULL ? code : "",
             sentence);
    line[LINE_MAX_BYTES - 1] = '\0';
    clv_log_printable(line);
    put_line(line, strlen(line));
}

static void log_json(clv_log_level level, const char *event, const char *operation,
                     const char *time, const char *code, const char *sentence)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:s*, s:s*, s:s*}", "time", time, "program",
                               settings.program, "level", level_name[level], "event", event,
                               "operation", operation, "code", code, "message", sentence);
    if (object == NULL)
        return;
    char line[LINE_MAX_BYTES + 1];
    size_t before = settings.journal ? PRIORITY_BYTES : 0;
    memcpy(line, priority[level], before);
    size_t n = json_dumpb(object, line + before, LINE_MAX_BYTES - before,
                          JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(object);
    if (n > 0 && n <= LINE_MAX_BYTES - before)
        put_line(line, before + n);
}

static void log_line(clv_log_level level, const char *event, const char *operation,
                     const char *code, const char *raw)
{
    char time[CLV_TIME_TEXT_SIZE], sentence[SENTENCE_MAX_BYTES];
    clv_time_text(clv_wall_ms(), time);
    snprintf(sentence, sizeof sentence, "%s", raw);
    clv_log_printable(sentence);
    make_utf8(sentence);
    if (settings.json)
        log_json(level, event, operation, time, code, sentence);
    else
        log_text(level, event, operation, time, code, sentence);
}

void clv_log(clv_log_level level, const char *event, const char *operation, const char *format, ...)
{
    if (level > settings.level)
        return;
    char sentence[SENTENCE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    log_line(level, event, operation, NULL, sentence);
}

void clv_log_failure(clv_log_level level, const char *event, const char *operation,
                     const clv_error *err)
{
    if (level > settings.level)
        return;
    log_line(level, event, operation, clv_status_slug(err->code), err->text);
}

void clv_log_end(const char *program, const clv_error *err)
{
    char line[LINE_MAX_BYTES + 1];
    snprintf(line, LINE_MAX_BYTES, "%s%s: %s (%s)",
             clv_journal_listens() ? priority[CLV_LOG_ERROR] : "", program, err->text,
             clv_status_slug(err->code));
    clv_log_printable(line);
    put_line(line, strlen(line));
}

void clv_operation_id(char out[CLV_OPERATION_ID_SIZE])
{
    uint8_t bytes[(CLV_OPERATION_ID_SIZE - 1) / 2];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(out, CLV_OPERATION_ID_SIZE, bytes, sizeof bytes);
}

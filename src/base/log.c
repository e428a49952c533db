#include <base/log.h>

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <sodium.h>

#include <base/clock.h>

static struct {
    const char *program;
    clv_log_level level;
    bool json;
} settings = {"claviger", CLV_LOG_INFO, false};

static const char *const level_name[] = {
    [CLV_LOG_ERROR] = "error",
    [CLV_LOG_WARNING] = "warning",
    [CLV_LOG_INFO] = "info",
    [CLV_LOG_DEBUG] = "debug",
};

#define LINE_MAX_BYTES 2048

void clv_log_start(const char *program, clv_log_level level, bool json)
{
    settings.program = program;
    settings.level = level;
    settings.json = json;
}

/* One write() a line, so that lines of several threads and programs do not mix. */
static void put_line(char *line, size_t n)
{
    line[n] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n + 1);
    (void)written; /* nowhere is left to say that logging failed */
}

/* What came from outside may not forge a line or steer a terminal. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if (iscntrl((unsigned char)*text))
            *text = ' ';
    }
}

static void log_text(clv_log_level level, const char *event, const char *operation,
                     const char *time, const char *code, const char *sentence)
{
    char line[LINE_MAX_BYTES + 1];
    int n = snprintf(line, LINE_MAX_BYTES, "%s %s %s %s%s%s%s%s%s %s", time, settings.program,
                     level_name[level], event, operation != NULL ? " [" : "",
                     operation != NULL ? operation : "", operation != NULL ? "]" : "",
                     code != NULL ? " " : "", code != NULL ? code : "", sentence);
    if (n < 0)
        return;
    line[LINE_MAX_BYTES - 1] = '\0';
    make_printable(line);
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
    size_t n = json_dumpb(object, line, LINE_MAX_BYTES, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(object);
    if (n > 0 && n <= LINE_MAX_BYTES)
        put_line(line, n);
}

static void log_line(clv_log_level level, const char *event, const char *operation,
                     const char *code, const char *sentence)
{
    char time[CLV_TIME_TEXT_SIZE];
    clv_time_text(clv_wall_ms(), time);
    if (settings.json)
        log_json(level, event, operation, time, code, sentence);
    else
        log_text(level, event, operation, time, code, sentence);
}

void clv_log(clv_log_level level, const char *event, const char *operation, const char *format, ...)
{
    if (level > settings.level)
        return;
    char sentence[LINE_MAX_BYTES / 2];
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

void clv_operation_id(char out[CLV_OPERATION_ID_SIZE])
{
    uint8_t bytes[(CLV_OPERATION_ID_SIZE - 1) / 2];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(out, CLV_OPERATION_ID_SIZE, bytes, sizeof bytes);
}

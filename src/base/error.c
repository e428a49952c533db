#include <claviger/error.h>

#include <stdio.h>
#include <string.h>

static const struct {
    const char *slug;
    clv_exit exit;
    const char *text;
} code_table[CLV_STATUS_COUNT] = {
#define CLV_CODE(name, slug, exit_class, text) [CLV_##name] = {slug, exit_class, text},
#include <claviger/error_codes.def>
#undef CLV_CODE
};

clv_status clv_fail(clv_error *err, clv_status code, const char *format, ...)
{
    if (err == NULL)
        return code;

    err->code = code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return code;
}

clv_status clv_blame(clv_error *err, clv_status status, const char *format, ...)
{
    if (err == NULL)
        return status;

    char whole[CLV_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(whole, sizeof whole, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof whole)
        return err->code;
    snprintf(whole + n, sizeof whole - (size_t)n, ": %s", err->text);
    memcpy(err->text, whole, sizeof whole);
    return err->code;
}

static clv_status known(clv_status status)
{
    return (unsigned)status < CLV_STATUS_COUNT ? status : CLV_INTERNAL;
}

const char *clv_status_slug(clv_status status)
{
    return code_table[known(status)].slug;
}

const char *clv_status_text(clv_status status)
{
    return code_table[known(status)].text;
}

clv_exit clv_status_exit(clv_status status)
{
    return code_table[known(status)].exit;
}

clv_status clv_status_of_slug(const char *slug)
{
    for (unsigned i = 0; i < CLV_STATUS_COUNT; i++) {
        if (strcmp(code_table[i].slug, slug) == 0)
            return (clv_status)i;
    }
    return CLV_STATUS_COUNT;
}

/*
 * What claviger-parent is told: on its command line and, for `serve`, in a JSON file (--config)
 * whose members are the options' names with _ for -. The command line goes before the file; the
 * file is what a reload reads again.
 */
#ifndef CLV_PARENT_OPTIONS_H
#define CLV_PARENT_OPTIONS_H

#include <base/json.h>
#include <base/log.h>
#include <parent/relay.h>

typedef enum clv_parent_option {
    CLV_OPTION_SERVICES,
    CLV_OPTION_RELAY,
    CLV_OPTION_STORE,
    CLV_OPTION_CREDENTIALS,
    CLV_OPTION_ENCLAVE,
    CLV_OPTION_BASELINE,
    CLV_OPTION_SIGNATURE,
    CLV_OPTION_METRICS,
    CLV_OPTION_LOG,
    CLV_OPTION_LEVEL,
    CLV_OPTION_READY,
    CLV_OPTION_DOCUMENT,
    CLV_OPTION_ALLOWLIST,
    CLV_OPTION_CONNECTIONS,
    CLV_OPTION_PER_PEER,
    CLV_OPTION_IDLE,
    CLV_OPTION_CONFIG,
    CLV_OPTION_HELP,
    CLV_OPTION_VERSION,
    CLV_OPTIONS
} clv_parent_option;

typedef struct clv_parent_options {
    const char *value[CLV_OPTIONS]; /* NULL: not given */
    const char *relay[CLV_RELAY_RULES_MAX];
    size_t relay_count;
    json_t *config; /* what values of the file point into */
} clv_parent_options;
void clv_parent_options_drop(clv_parent_options *options);

/* The command line; *operands is the index of the first one that is no option. Values point into
 * argv. CLV_USAGE. */
CLV_NODISCARD clv_status clv_parent_options_parse(int argc, char **argv, clv_parent_options *out,
                                                  int *operands, clv_error *err);

/* The command line's options, and the file's where it has none. CLV_USAGE, or what reading and
 * parsing the file fails with. */
CLV_NODISCARD clv_status clv_parent_options_merge(const clv_parent_options *line,
                                                  clv_parent_options *out, clv_error *err);

/* CLV_USAGE where the option is absent. */
CLV_NODISCARD clv_status clv_parent_options_need(const clv_parent_options *options,
                                                 clv_parent_option which, const char **out,
                                                 clv_error *err);

/* CLV_USAGE names the option that a reload cannot change. */
CLV_NODISCARD clv_status clv_parent_options_fixed(const clv_parent_options *then,
                                                  const clv_parent_options *now, clv_error *err);

CLV_NODISCARD clv_status clv_parent_options_relay(const clv_parent_options *options,
                                                  clv_relay_options *out, clv_error *err);
CLV_NODISCARD clv_status clv_parent_options_log(const clv_parent_options *options, bool *json,
                                                clv_log_level *level, clv_error *err);

#endif

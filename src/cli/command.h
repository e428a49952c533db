/*
 * A command of `claviger`: one file each, which defines one clv_command; main.c lists them. Help
 * texts, usage errors and docs/cli.md's check are made from these tables.
 */
#ifndef CLV_CLI_COMMAND_H
#define CLV_CLI_COMMAND_H

#include <claviger/bytes.h>

/* One long option. Names are without the dashes; `metavar` NULL means that it takes no value. */
typedef struct clv_option {
    const char *name;
    const char *metavar;
    const char *help;
    /* value is NULL for an option without one. Runs once for each occurrence. */
    clv_status (*take)(void *settings, const char *value, clv_error *err);
} clv_option;

typedef struct clv_command {
    const char *name;
    const char *operands; /* "FILE|-", as usage prints it */
    const char *summary;
    const clv_option *options; /* ends with a name of NULL */
    /* arguments[0] is the command's name. The error's exit class is the program's status. */
    clv_status (*run)(int count, char **arguments, clv_error *err);
} clv_command;

/*
 * Hand each option of the command to its taker; *operands is then the first operand's index in
 * arguments. CLV_USAGE names an unknown option, a missing value, and a count of operands outside
 * min to max.
 */
CLV_NODISCARD clv_status clv_command_options(const clv_command *command, int count,
                                             char **arguments, void *settings, int min, int max,
                                             int *operands, clv_error *err);

/* Usage and options, on standard output. */
void clv_command_help(const clv_command *command);

/* The commands. */
extern const clv_command clv_command_baseline;
extern const clv_command clv_command_inspect;
extern const clv_command clv_command_measure;
extern const clv_command clv_command_policy;
extern const clv_command clv_command_reseal;
extern const clv_command clv_command_seal;
extern const clv_command clv_command_status;
extern const clv_command clv_command_store;
extern const clv_command clv_command_unseal;
extern const clv_command clv_command_verify;
extern const clv_command clv_command_witness;

#endif

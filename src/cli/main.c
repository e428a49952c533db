/* claviger: the commands of people and scripts. */
#include <stdio.h>

#include <base/log.h>
#include <claviger/secret.h>
#include <cli/command.h>

static const clv_command *const commands[] = {
    &clv_command_verify,  &clv_command_inspect, &clv_command_policy,  &clv_command_baseline,
    &clv_command_measure, &clv_command_seal,    &clv_command_unseal,  &clv_command_reseal,
    &clv_command_store,   &clv_command_status,  &clv_command_witness,
};
#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(void)
{
    printf("Usage: claviger COMMAND [OPTION]... [OPERAND]...\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n`claviger COMMAND --help` explains one. Exit statuses: docs/exit-codes.md.\n");
}

static const clv_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

/* Before any "--", behind which everything is an operand. */
static bool asks_for(const char *option, int count, char **arguments)
{
    for (int i = 1; i < count && strcmp(arguments[i], "--") != 0; i++) {
        if (strcmp(arguments[i], option) == 0)
            return true;
    }
    return false;
}

static clv_status run(int count, char **arguments, clv_error *err)
{
    if (count < 2)
        return clv_fail(err, CLV_USAGE, "expected a command (see --help), found none");
    if (strcmp(arguments[1], "--help") == 0) {
        print_help();
        return CLV_OK;
    }
    if (strcmp(arguments[1], "--version") == 0) {
        printf("claviger %s\n", CLAVIGER_VERSION);
        return CLV_OK;
    }
    const clv_command *command = find_command(arguments[1]);
    if (command == NULL)
        return clv_fail(err, CLV_USAGE, "expected a command (see --help), found \"%s\"",
                        arguments[1]);
    if (asks_for("--help", count - 1, arguments + 1)) {
        clv_command_help(command);
        return CLV_OK;
    }
    CLV_TRY(clv_secret_start(err));
    return command->run(count - 1, arguments + 1, err);
}

int main(int count, char **arguments)
{
    clv_error err = {0};
    clv_status status = run(count, arguments, &err);
    if (status == CLV_OK && fflush(stdout) != 0)
        status = clv_fail(&err, CLV_SYSTEM, "standard output cannot be written");
    clv_log_printable(err.text);
    if (status != CLV_OK)
        fprintf(stderr, "claviger: %s (%s)\n", err.text, clv_status_slug(status));
    return (int)clv_status_exit(status);
}

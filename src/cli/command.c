#include <cli/command.h>

#include <getopt.h>
#include <stdio.h>

#define OPTIONS_MAX 32

static size_t count_options(const clv_command *command)
{
    size_t n = 0;
    while (command->options[n].name != NULL)
        n++;
    return n;
}

/* A malformed value on the command line is a wrong command line. */
static clv_status as_usage(clv_status status, clv_error *err)
{
    if (clv_status_exit(status) == CLV_EXIT_INPUT)
        err->code = CLV_USAGE;
    return err->code;
}

clv_status clv_command_options(const clv_command *command, int count, char **arguments,
                               void *settings, int min, int max, int *operands, clv_error *err)
{
    struct option long_options[OPTIONS_MAX + 1] = {0};
    size_t n = count_options(command);
    if (n > OPTIONS_MAX)
        return clv_fail(err, CLV_INTERNAL, "expected at most %d options, found %zu", OPTIONS_MAX,
                        n);
    for (size_t i = 0; i < n; i++) {
        const clv_option *option = &command->options[i];
        long_options[i].name = option->name;
        long_options[i].has_arg = option->metavar != NULL ? required_argument : no_argument;
    }

    optind = 1;
    opterr = 0;
    for (int which = 0;;) {
        int found = getopt_long(count, arguments, ":", long_options, &which);
        if (found == -1)
            break;
        if (found == ':')
            return clv_fail(err, CLV_USAGE, "%s: expected a value after %s", command->name,
                            arguments[optind - 1]);
        if (found != 0)
            return clv_fail(err, CLV_USAGE, "%s: expected a known option, found %s (see --help)",
                            command->name, arguments[optind - 1]);
        const clv_option *option = &command->options[which];
        clv_status status = option->take(settings, optarg, err);
        if (status != CLV_OK) {
            clv_blame(err, status, "--%s", option->name);
            return as_usage(status, err);
        }
    }
    *operands = optind;
    if (count - optind < min || count - optind > max)
        return clv_fail(err, CLV_USAGE, "%s: expected %s, found %d operands (see --help)",
                        command->name, command->operands, count - optind);
    return CLV_OK;
}

void clv_command_help(const clv_command *command)
{
    printf("Usage: claviger %s [OPTION]... %s\n\n%s.\n\n", command->name, command->operands,
           command->summary);
    for (const clv_option *option = command->options; option->name != NULL; option++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->metavar != NULL ? " " : "",
                 option->metavar != NULL ? option->metavar : "");
        printf("  %-24s %s\n", left, option->help);
    }
    printf("  %-24s %s\n", "--help", "print this and end");
}

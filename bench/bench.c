#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double bench_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void bench_openssl_speed(const char *arguments, const char *prefix, char *line, size_t size)
{
    char command[256];
    snprintf(command, sizeof command, "openssl speed -mr %s 2>/dev/null", arguments);
    FILE *output = popen(command, "r");
    bool found = false;
    while (output != NULL && !found && fgets(line, (int)size, output) != NULL)
        found = strncmp(line, prefix, strlen(prefix)) == 0;
    if (output == NULL || pclose(output) < 0 || !found) {
        fprintf(stderr, "bench: `%s` gave no line with %s\n", command, prefix);
        exit(EXIT_FAILURE);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
#include "launcher/doctor/process_limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_value(const char *word, int64_t *value)
{
    char *end;
    if (strcmp(word, "unlimited") == 0) {
        *value = PR_LIMIT_NONE;
        return true;
    }
    *value = strtoll(word, &end, 10);
    return end != word && *end == '\0' && *value >= 0;
}

bool pr_process_limits_find(const char *limits, const char *name, pr_process_limit *limit)
{
    size_t length = strlen(name);
    for (const char *line = limits; *line;) {
        char soft[32], hard[32];
        // Two spaces at least end the name, so that one name may begin like another.
        if (strncmp(line, name, length) == 0 && strncmp(line + length, "  ", 2) == 0 &&
            sscanf(line + length, "%31s %31s", soft, hard) == 2)
            return read_value(soft, &limit->soft) && read_value(hard, &limit->hard);
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return false;
}

// SPDX-License-Identifier: BSD-3-Clause
#include "runtime/base/process_start.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"

enum { STAT_BYTES = 1024, START_FIELD = 22, FIELD_AFTER_NAME = 3 };

// proc(5): field 2 is the name in parentheses and may hold anything; the last ')' ends it.
static const char *find_field(const char *text, int number)
{
    const char *at = strrchr(text, ')');
    for (int field = FIELD_AFTER_NAME - 1; at && field < number; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at;
}

pr_status pr_process_start_read(int32_t pid, int64_t *start_unix_s)
{
    char path[64] = "/proc/self/stat", text[STAT_BYTES];
    if (pid > 0)
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    size_t size_bytes = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[size_bytes] = '\0';
    const char *field = find_field(text, START_FIELD);
    long ticks_per_s = sysconf(_SC_CLK_TCK);
    if (!field || ticks_per_s <= 0)
        return pr_fail(PR_ERR_IO, "%s does not say when the process began", path);
    struct timespec now, since_boot;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    double boot = (double)now.tv_sec - (double)since_boot.tv_sec +
                  (double)(now.tv_nsec - since_boot.tv_nsec) * 1e-9;
    *start_unix_s = (int64_t)(boot + (double)strtoll(field, NULL, 10) / (double)ticks_per_s);
    return PR_OK;
}

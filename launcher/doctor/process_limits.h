// SPDX-License-Identifier: BSD-3-Clause
// The limits of a process from the text of /proc/self/limits. Pure. Source: proc(5).
#ifndef PR_LAUNCHER_DOCTOR_PROCESS_LIMITS_H
#define PR_LAUNCHER_DOCTOR_PROCESS_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum { PR_LIMIT_NONE = -1 };  // "unlimited"

typedef struct pr_process_limit {
    int64_t soft, hard;
} pr_process_limit;

// name: "Max open files". False: the text has no such line.
bool pr_process_limits_find(const char *limits, const char *name, pr_process_limit *limit);

#endif

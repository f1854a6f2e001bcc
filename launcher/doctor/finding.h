// SPDX-License-Identifier: BSD-3-Clause
// What doctor finds: a subject, what is the case, and what to do about it. Threads: one.
#ifndef PR_LAUNCHER_DOCTOR_FINDING_H
#define PR_LAUNCHER_DOCTOR_FINDING_H

#include <stdint.h>

typedef enum pr_finding_level {
    PR_FINDING_OK,
    PR_FINDING_NOTE,     // works, but slower, or not on every machine
    PR_FINDING_PROBLEM,  // a run will fail, or crawl
} pr_finding_level;

typedef struct pr_finding {
    pr_finding_level level;
    const char *subject;  // "memory"
    char text[400];       // what was found
    char advice[400];     // what to do, or ""
} pr_finding;

enum { PR_MAX_FINDINGS = 64 };

typedef struct pr_findings {
    int32_t count;
    pr_finding finding[PR_MAX_FINDINGS];
} pr_findings;

// The new finding, to which advice may be given. When the list is full its last one is replaced.
pr_finding *pr_finding_add(
    pr_findings *findings, pr_finding_level level, const char *subject, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void pr_finding_advise(pr_finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

const char *pr_finding_level_name(pr_finding_level level);  // "ok", "note", "problem"

#endif

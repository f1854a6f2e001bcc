// SPDX-License-Identifier: BSD-3-Clause
// `polyreme doctor`: is this machine and environment ready, and if not, what to do. One finding a line.
// Never starts MPI; works on login nodes.
#ifndef PR_LAUNCHER_DOCTOR_H
#define PR_LAUNCHER_DOCTOR_H

#include <stdint.h>

typedef enum pr_finding_level { PR_FINDING_OK, PR_FINDING_WARN, PR_FINDING_FAIL } pr_finding_level;

typedef struct pr_finding {
    pr_finding_level level;
    const char *subject;  // "memory"
    char text[320];       // what was found
    char advice[240];     // what to do, or ""
} pr_finding;

enum { PR_MAX_FINDINGS = 24 };

typedef struct pr_findings {
    int32_t count;
    pr_finding finding[PR_MAX_FINDINGS];
} pr_findings;

void pr_doctor_examine(pr_findings *findings);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What the control group of this process lets it have, and the groups around it: the least counts. Version 2,
// and version 1 where a controller is mounted as such. Source: cgroups(7).
#ifndef PR_LAUNCHER_DOCTOR_CGROUP_LIMITS_H
#define PR_LAUNCHER_DOCTOR_CGROUP_LIMITS_H

#include <stdint.h>

typedef struct pr_cgroup_limits {
    int64_t memory_bytes;       // 0: no limit
    int64_t memory_used_bytes;  // by the group that has it, with the page cache; 0: not known
    int64_t processes;          // 0: no limit
    double cpus;                // time of so many; 0: no limit
} pr_cgroup_limits;

// root: what to put before /proc and all other paths; "" but in tests.
void pr_cgroup_limits_read(const char *root, pr_cgroup_limits *limits);

#endif

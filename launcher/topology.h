// SPDX-License-Identifier: BSD-3-Clause
// What this machine has and what we may use of it: cores, NUMA nodes, free memory. hwloc if built
// with it, otherwise what the kernel says.
#ifndef PR_LAUNCHER_TOPOLOGY_H
#define PR_LAUNCHER_TOPOLOGY_H

#include <stdint.h>

typedef struct pr_topology {
    int32_t packages, numa_nodes, cores, threads;  // 0 = unknown
    int32_t usable_threads;                        // in this process's affinity mask
    int64_t memory_bytes;                          // of the machine
    int64_t available_bytes;                       // free or reclaimable, within the cgroup limit
    int64_t cgroup_limit_bytes;                    // 0 = none
    const char *source;                            // "hwloc 2.9.0" or "sysconf"
} pr_topology;

void pr_topology_read(pr_topology *topology);

#endif

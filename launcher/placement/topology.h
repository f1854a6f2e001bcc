// SPDX-License-Identifier: BSD-3-Clause
// What this machine has and what we may use of it: cores, NUMA nodes, free memory. hwloc if built
// with it, otherwise what the kernel says. As every program with hwloc, it can be shown another machine
// (HWLOC_XMLFILE, HWLOC_SYNTHETIC), all of which is usable then: so a login node plans for another.
#ifndef PR_LAUNCHER_PLACEMENT_TOPOLOGY_H
#define PR_LAUNCHER_PLACEMENT_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_MAX_CPUS = 1024 };

// Hardware threads by the numbers that the system gives them.
typedef struct pr_cpu_set {
    uint64_t word[PR_MAX_CPUS / 64];
} pr_cpu_set;

static inline bool pr_cpu_set_has(const pr_cpu_set *set, int32_t cpu)
{
    return set->word[cpu / 64] >> (cpu % 64) & 1;
}

static inline void pr_cpu_set_add(pr_cpu_set *set, int32_t cpu)
{
    set->word[cpu / 64] |= UINT64_C(1) << (cpu % 64);
}

// To which core and NUMA node each hardware thread belongs; without hwloc each is a core of its own.
typedef struct pr_core_map {
    int16_t core[PR_MAX_CPUS];  // 0.., in the order of the machine; -1: there is no such thread
    int16_t numa[PR_MAX_CPUS];
} pr_core_map;

typedef struct pr_topology {
    int32_t packages, numa_nodes, cores, threads;  // 0 = unknown
    pr_core_map map;
    pr_cpu_set usable;        // this process's affinity mask, within the map
    int32_t usable_threads;   // of it
    bool whole;               // all of the machine's threads are in it
    int64_t memory_bytes;     // of the machine
    int64_t available_bytes;  // free or reclaimable, within the cgroup limit
    const char *source;       // "hwloc 2.9.0" or "sysconf"
} pr_topology;

void pr_topology_read(pr_topology *topology);

// A machine in hwloc's words, "pack:2 numa:4 core:16 pu:2", all of it usable. Its memory is known if the words
// say so, "numa:4(memory=64GB)". Errors: PR_ERR_ARGUMENT; PR_ERR_UNSUPPORTED without hwloc.
pr_status pr_topology_describe(const char *described, pr_topology *topology) PR_MUST_CHECK;

// Binds the calling thread. A wish: nothing is said where the system refuses.
void pr_topology_bind_caller(int32_t cpu);

#endif

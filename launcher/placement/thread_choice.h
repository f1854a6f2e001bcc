// SPDX-License-Identifier: BSD-3-Clause
// How many threads a rank computes with, and on which cores; and how many ranks a machine is best cut into.
//
//   cores of the mask    0 1 2 3 4 5 6 7         two ranks may use all of them: each takes its half
//   rank 0, 4 threads    0 1 2 3                 ranks with masks of their own do not divide
//   rank 1, 4 threads            0 1 2 3
//
// Cores are counted, not hardware threads: both of a core share its vector units. What a batch system grants
// (cpus-per-task, a container's cpuset) is in the mask already; OMP_NUM_THREADS says nothing about us.
// Pure: the same map and masks give the same choice.
#ifndef PR_LAUNCHER_PLACEMENT_THREAD_CHOICE_H
#define PR_LAUNCHER_PLACEMENT_THREAD_CHOICE_H

#include "kernels/cpu/cpu_team.h"
#include "launcher/placement/topology.h"

enum { PR_THREAD_TEXT_BYTES = 256, PR_MPIRUN_TEXT_BYTES = 96 };

typedef struct pr_thread_wish {
    int32_t threads;   // of each rank; 0 = its share of the cores
    const char *bind;  // "auto", "on", "off"
    bool
        granted;  // the cores are this job's: a launcher placed it, or its mask is a part of the machine
} pr_thread_wish;

typedef struct pr_thread_choice {
    int32_t threads;
    int32_t cores;      // that this rank may use
    int32_t sharers;    // ranks that may use some of them, this one included
    bool shares_cores;  // they have more threads together than cores
    bool bound;
    const char *unbound_why;      // NULL if bound
    int32_t cpu[PR_MAX_THREADS];  // [threads] where each is bound; -1: nowhere
} pr_thread_choice;

// usable: of each rank that computes on this machine. rank: which of them chooses.
void pr_thread_choose(
    const pr_core_map *map,
    const pr_cpu_set *usable,  // [ranks]
    int32_t ranks,
    int32_t rank,
    const pr_thread_wish *wish,
    pr_thread_choice *choice);

// The NUMA domain that all its threads are in, or may run in if they are not bound; -1: several.
int32_t
pr_thread_numa(const pr_core_map *map, const pr_cpu_set *usable, const pr_thread_choice *choice);

// "2 threads on 2 cores, bound to CPUs 0-1", and why.
void pr_thread_describe(const pr_thread_choice *choice, char text[PR_THREAD_TEXT_BYTES]);

// The CPUs of a choice that is bound: "0-3,8".
void pr_thread_cpus_text(const pr_thread_choice *choice, char *text, size_t size);

// One rank for each NUMA node, so that no weights are read from another's memory.
typedef struct pr_rank_proposal {
    int32_t ranks, threads;     // threads of each
    int32_t cores, numa_nodes;  // usable; nodes without a usable core do not count
} pr_rank_proposal;

void pr_thread_propose(
    const pr_core_map *map, const pr_cpu_set *usable, pr_rank_proposal *proposal);

// The command that starts them, up to the program.
void pr_thread_mpirun(const pr_rank_proposal *proposal, char text[PR_MPIRUN_TEXT_BYTES]);

// What ranks that all may use so many cores get of them each.
int32_t pr_thread_share(int32_t cores, int32_t ranks);

#endif

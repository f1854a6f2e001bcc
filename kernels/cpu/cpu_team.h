// SPDX-License-Identifier: BSD-3-Clause
// The threads of one rank: a piece of work is cut into tasks, every task runs once, on any thread.
//
//   run(work, tasks):   thread 0 (the caller)   task 0 . task 3 . . task 5 |
//                       thread 1                task 1 . . . task 4 .      | run returns
//                       thread 2                task 2 . . . . . . . .     |
//
// Who runs a task never changes a result: tasks write to places of their own. Between runs the other
// threads spin for SPIN_US, then sleep; an idle rank uses no processor.
// Cost: a run costs about a microsecond while the threads are awake, one sem_post per sleeper otherwise.
// No lock, no allocation. Threads: one thread calls run, the same one all the time.
// Source: ours; claims are a compare-and-swap on (generation, next task), so a late thread cannot take a
// task of a later run.
#ifndef PR_KERNELS_CPU_TEAM_H
#define PR_KERNELS_CPU_TEAM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/device.h"

typedef struct pr_cpu_team pr_cpu_team;

// threads: 1..PR_MAX_THREADS with the caller. cpu[i]: where thread i >= 1 is bound, -1 or NULL nowhere.
// shares_cores: this machine runs more threads than it has cores, so who waits gives its core away.
// Errors: PR_ERR_RESOURCE.
enum { PR_MAX_THREADS = 256 };
pr_status pr_cpu_team_create(
    int32_t threads, const int32_t *cpu, bool shares_cores, pr_cpu_team **team) PR_MUST_CHECK;
void pr_cpu_team_destroy(pr_cpu_team *team);

int32_t pr_cpu_team_threads(const pr_cpu_team *team);

// tasks < 2^32 - 1. Returns when all are done; what they wrote is visible to the caller.
void pr_cpu_team_run(pr_cpu_team *team, pr_shared_work work, void *context, int64_t tasks);

#endif

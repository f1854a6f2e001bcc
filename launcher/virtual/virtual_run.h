// SPDX-License-Identifier: BSD-3-Clause
// The real scheduler on virtual time: requests arrive when the load says, groups without a model carry
// out its plans, and every step takes what a model of its work says.
//
//   load --submit--> scheduler --plan, after message_ns--> null group: step, gap, step, ...
//             ^------------ report, after message_ns ---------------|
//
// Steps share the machine: a step's time depends on how many ranks beyond `cores` are in a step while it
// lasts, and it advances at the rate of the moment. Deterministic: no clock, no randomness.
// Threads: one. Cost: O(log n) per event beside the scheduler's and the groups' own.
#ifndef PR_LAUNCHER_VIRTUAL_VIRTUAL_RUN_H
#define PR_LAUNCHER_VIRTUAL_VIRTUAL_RUN_H

#include "launcher/virtual/run_measure.h"
#include "launcher/virtual/virtual_load.h"
#include "scheduler/scheduler.h"

enum {
    PR_VIRTUAL_COLUMNS = 5,  // 1, rows, pairs - rows / 2, sequences, context
    PR_VIRTUAL_WINDOWS = 64,
};

// Seconds of a step: the sum over the columns of (alone + crowded excess) column. Nothing without rows.
typedef struct pr_virtual_step {
    double alone[PR_VIRTUAL_COLUMNS], crowded[PR_VIRTUAL_COLUMNS];
} pr_virtual_step;

typedef struct pr_virtual_model {
    pr_virtual_step step[3];  // by pr_role
    double cores;             // excess: ranks in a step beyond so many
    int64_t gap_ns;           // from the end of a step to the beginning of the next
    int64_t message_ns;       // a plan or a report on its way
    int64_t window_ns;        // 0: the machine is always as fast; else how slow it is when a step
    double slowness[PR_VIRTUAL_WINDOWS];  // begins in each window, the last one for ever
    double transfer_s, transfer_block_s;  // a handover after the source's step
    int32_t transfer_boundaries;          // and so many step boundaries of a target that is at work
} pr_virtual_model;

// 1 unless the model has windows.
double pr_virtual_slowness(const pr_virtual_model *model, int64_t now_ns);
void pr_virtual_columns(const pr_step_work *work, double column[PR_VIRTUAL_COLUMNS]);

typedef struct pr_virtual_run_params {
    const pr_scheduler_params *scheduler;
    const pr_virtual_load *load;
    const pr_virtual_model *model;
    int64_t end_ns;  // of the run's time, from its start; 0: none
    pr_at_end at_end;
    FILE *record;  // or NULL; as batch --record
    bool check;    // pr_scheduler_check after every event
} pr_virtual_run_params;

typedef struct pr_virtual_result {
    uint64_t hash;
    int64_t steps, end_ns;
    double busy_s[3];  // of the groups of a role, all together
    pr_scheduler_counts counts;
    pr_walltime_state walltime;
} pr_virtual_result;

// Until every request has ended. Adds to an empty measure. A request that the scheduler refuses is
// measured as rejected.
pr_status pr_virtual_run(
    const pr_virtual_run_params *params,
    pr_run_measure *measure,
    pr_virtual_result *result) PR_MUST_CHECK;

#endif

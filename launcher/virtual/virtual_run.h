// SPDX-License-Identifier: BSD-3-Clause
// The real scheduler on virtual time: requests arrive when the load says, groups without a model carry
// out its plans, and every step takes what a model of its work says.
//
//   load --submit--> scheduler --plan, after message_ns--> null group: step, gap, step, ...
//             ^------------ report, after message_ns ---------------|
//
// Steps share the machine: while the groups in a step have more ranks than `cores`, all of them are
// slowed down alike (processor sharing). Deterministic: no clock, no randomness.
// Threads: one. Cost: O(log n) per event beside the scheduler's and the groups' own.
#ifndef PR_LAUNCHER_VIRTUAL_VIRTUAL_RUN_H
#define PR_LAUNCHER_VIRTUAL_VIRTUAL_RUN_H

#include "launcher/virtual/run_measure.h"
#include "launcher/virtual/virtual_load.h"
#include "scheduler/scheduler.h"

// base + row rows + pair (pairs - rows / 2) + sequence sequences + context context; 0 for no rows.
typedef struct pr_virtual_step {
    double base_s, row_s, pair_s, sequence_s, context_s;
} pr_virtual_step;

typedef struct pr_virtual_model {
    pr_virtual_step step[3];  // by pr_role
    double cores;             // ranks that can be in a step at once at full speed; 0: any number
    int64_t gap_ns;           // from the end of a step to the beginning of the next
    int64_t message_ns;       // a plan or a report on its way
    double transfer_s, transfer_block_s;  // a handover after the source's step
} pr_virtual_model;

double pr_virtual_step_s(const pr_virtual_step *step, const pr_step_work *work);

typedef struct pr_virtual_run_params {
    const pr_scheduler_params *scheduler;
    const pr_virtual_load *load;
    const pr_virtual_model *model;
    FILE *record;  // or NULL; as batch --record
    bool check;    // pr_scheduler_check after every event
} pr_virtual_run_params;

typedef struct pr_virtual_result {
    uint64_t hash;
    int64_t steps, end_ns;
    double busy_s[3];  // of the groups of a role, all together
    pr_scheduler_counts counts;
} pr_virtual_result;

// Until every request has ended. Adds to an empty measure. A request that the scheduler refuses is
// measured as rejected.
pr_status pr_virtual_run(
    const pr_virtual_run_params *params,
    pr_run_measure *measure,
    pr_virtual_result *result) PR_MUST_CHECK;

#endif

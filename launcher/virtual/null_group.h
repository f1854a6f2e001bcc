// SPDX-License-Identifier: BSD-3-Clause
// A group of workers without a model: executes plans as runtime/batch/plan.h says and as worker.c does,
// on a time that its owner tells. Nothing is computed; a token is what the load says.
//
//   idle --plan--> [begin: step boundary] --> in a step --> [end: reports] --> boundary again or idle
//
// All lanes of the group step together, as those that exchange experts do. What a report would carry
// over the network is handed to the owner, who delivers it when it likes.
// Threads: one. Cost: O(seats) per step.
#ifndef PR_LAUNCHER_VIRTUAL_NULL_GROUP_H
#define PR_LAUNCHER_VIRTUAL_NULL_GROUP_H

#include "launcher/virtual/virtual_load.h"
#include "runtime/batch/layout.h"
#include "scheduler/scheduler.h"

typedef struct pr_null_group pr_null_group;

// Where a group's words go. All are called from inside begin and end.
typedef struct pr_null_group_face {
    void *context;
    pr_status (*report)(void *context, const pr_report *report);
    // This group has sent, or now expects, the blocks of a handover.
    pr_status (*sent)(void *context, const pr_handover *handover);
    pr_status (*expects)(void *context, const pr_handover *handover);
} pr_null_group_face;

pr_status pr_null_group_create(
    const pr_scheduler_params *params,
    int32_t number,
    const pr_virtual_load *load,
    const pr_null_group_face *face,
    pr_null_group **group) PR_MUST_CHECK;
void pr_null_group_destroy(pr_null_group *group);

// Takes a plan (from pr_plan_decode) on success; it is looked at at the next step boundary.
pr_status pr_null_group_plan(pr_null_group *group, pr_plan *plan) PR_MUST_CHECK;

// A step boundary. *steps: a step begins and *work is what its longest lane computes; otherwise the
// group is idle until the next plan.
pr_status pr_null_group_begin(pr_null_group *group, bool *steps, pr_step_work *work) PR_MUST_CHECK;

// The step is over and took so long.
pr_status pr_null_group_end(pr_null_group *group, int64_t step_ns) PR_MUST_CHECK;

// The blocks of a handover to this group are there. Told after so many step boundaries, but when the
// group is idle at once.
pr_status pr_null_group_arrival(
    pr_null_group *group, const pr_handover *handover, int32_t boundaries) PR_MUST_CHECK;

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The next plan of one group while it is put together. Drops may be added at any time; they wait
// here for the next plan and go out with it, so a block that a drop freed is never named by an
// earlier plan. So may the source's part of a gather. All else is added within one round (batching.h). Block tables are read when the draft
// is finished: until then sequences may still get more blocks.
// Memory: taken at create. Each seat of the group gives at most one entry of each kind per plan, each
// gather that reads a lane of the group one more.
#ifndef PR_SCHEDULER_PLAN_DRAFT_H
#define PR_SCHEDULER_PLAN_DRAFT_H

#include "runtime/batch/plan.h"
#include "scheduler/lane.h"

typedef struct pr_plan_draft {
    int32_t seats;  // capacity of each array but
    int32_t moves;  // that of handover and handed
    pr_plan plan;   // points to the arrays
    pr_drop *drop;
    pr_copy *copy;
    pr_admission *admission;
    pr_grant *grant;
    pr_start *start;
    pr_handover *handover;
    pr_chunk *chunk;
    pr_sequence **admitted;  // [admissions]
    pr_sequence **handed;    // [handovers]
} pr_plan_draft;

// pins: gathers that may read the group's lanes at a time.
pr_status pr_plan_draft_create(pr_plan_draft *draft, int32_t group, int32_t seats, int32_t pins)
    PR_MUST_CHECK;
void pr_plan_draft_destroy(pr_plan_draft *draft);

void pr_plan_draft_clear(pr_plan_draft *draft);  // after the plan went out: empty, drops included

void pr_plan_draft_drop(pr_plan_draft *draft, const pr_sequence *sequence);
void pr_plan_draft_admit(pr_plan_draft *draft, pr_sequence *sequence, int32_t seat);
void pr_plan_draft_copy(pr_plan_draft *draft, const pr_lane *lane, const pr_kv_copy *copy);
void pr_plan_draft_start(pr_plan_draft *draft, const pr_sequence *sequence);
void pr_plan_draft_chunk(pr_plan_draft *draft, const pr_sequence *sequence, int32_t count);
// Both seats are taken. first_block: index of the first block that the target lacks.
void pr_plan_draft_handover(pr_plan_draft *draft, pr_sequence *sequence, int32_t first_block);
// Pinned blocks of sequence->source that the compute seat lacks. Like a drop it may wait here.
void pr_plan_draft_gather(pr_plan_draft *draft, pr_sequence *sequence);
// The sequence's KV does not move: takes out what says that it does.
void pr_plan_draft_forget_moves(pr_plan_draft *draft, pr_sequence *sequence);

// Fills in grants and block tables. The plan is then valid until a sequence in it changes.
void pr_plan_draft_finish(pr_plan_draft *draft, const pr_lane *lane, int32_t lanes);
bool pr_plan_draft_empty(const pr_plan_draft *draft);

// Continues a hash over every field of the plan that the scheduler decided.
uint64_t pr_plan_draft_hash(uint64_t hash, const pr_plan *plan);

#endif

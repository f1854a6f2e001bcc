// SPDX-License-Identifier: BSD-3-Clause
// One round: the next plan of every group that may have one.
//
//   0 roles        a group that is empty and leaves its role takes the other (balance/role_change.h)
//   1 grants       a sequence that has used up its blocks gets the next, if need be from the last in
//                  order, which is preempted
//   2 starts       sequences whose KV arrived begin to decode; all get room for some steps ahead
//   3 chunks       rows left after the decodes go to prefills under way, in order
//   4 admissions   then to those that wait (seating.h), while seats, blocks and rows are there
//
// A group gets no plan if nothing changes for it, unless it waits and has something to decode: then
// a plan that only renews its lease. The order of rounds and lanes is fixed, so decisions depend on
// events alone.
#ifndef PR_SCHEDULER_BATCHING_H
#define PR_SCHEDULER_BATCHING_H

#include "scheduler/scheduler_state.h"

void pr_batching_round(pr_scheduler *scheduler);

// Seats a waiting sequence in a lane that is open in this round and plans its first chunk.
// holder: a lane from which the leading prefix_tokens tokens are fetched first (gather.h), or NULL.
// PR_ERR_RESOURCE (silent): no seat or too few blocks; nothing changes.
pr_status pr_batching_admit(
    pr_scheduler *scheduler,
    pr_lane *lane,
    pr_sequence *sequence,
    pr_lane *holder,
    int32_t prefix_tokens) PR_MUST_CHECK;

#endif

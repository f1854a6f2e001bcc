// SPDX-License-Identifier: BSD-3-Clause
// A group whose ranks are lost, and its coming back.
//
//   a sequence that has a seat there         waits again with its outputs, as after a preemption; what it
//                                            holds in another group is dropped there by the next plan
//   one that fetches a prefix from there     keeps its seat elsewhere, and computes the prefix
//   what the group's pools hold              is forgotten, and evicted from the map of who holds what
//   reports of plans made before the loss    are ignored, however late they come
//
// The group's lanes are out of service until it is back, with empty pools, in the role that it had. It
// comes back only after a pause in which the scheduler was quiet: a plan that was made before the loss may
// name a move of KV that its ranks know nothing of.
// Source: ours.
#ifndef PR_SCHEDULER_GROUP_LOSS_H
#define PR_SCHEDULER_GROUP_LOSS_H

#include "scheduler/scheduler_state.h"

void pr_group_loss_begin(pr_scheduler *scheduler, int32_t number);  // lost already: no effect
void pr_group_loss_end(pr_scheduler *scheduler, int32_t number);    // not settled: no effect

// At the end of a pause: if it was quiet, the groups that are lost may come back.
void pr_group_loss_settle(pr_scheduler *scheduler);

bool pr_group_loss_is_quiet(const pr_scheduler *scheduler);
bool pr_group_loss_can_serve(const pr_scheduler *scheduler);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// One round: the next plan of every group that may have one.
//
//   1 starts       sequences whose KV arrived begin to decode
//   2 grants       sequences near the end of their blocks get more; one that has none left takes them
//                  from the last in order, which is preempted
//   3 chunks       rows left after the decodes go to prefills under way, in order
//   4 admissions   then to the head of the queue, while seats, blocks and rows are there
//
// A group gets no plan if nothing changes for it, unless it waits and has something to decode: then
// a plan that only renews its lease. The order of rounds and lanes is fixed, so decisions depend on
// events alone.
#ifndef PR_SCHEDULER_BATCHING_H
#define PR_SCHEDULER_BATCHING_H

#include "scheduler/scheduler_state.h"

void pr_batching_round(pr_scheduler *scheduler);

#endif

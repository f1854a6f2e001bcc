// SPDX-License-Identifier: BSD-3-Clause
// Between dispatch, which says who runs where and when, and the lanes' pools, which say what fits: gives
// waiting sequences their seat, and tells dispatch what becomes of them.
//
//   submit --> [held: a later choice, until the first has published the prompt] --> fresh
//   round:  the fresh enter dispatch, or a decode lane that holds nearly all of their prompt (a short cut:
//           no prefill elsewhere, no way of the KV back). Then lanes with rows and seats left are open; each START is seated, or put back and its lane closed
//
// Who is put back keeps its place, and nobody who comes after it gets its lane in that round: a long
// prompt is not starved of blocks by short ones.
#ifndef PR_SCHEDULER_SEATING_H
#define PR_SCHEDULER_SEATING_H

#include "scheduler/scheduler_state.h"

// Dispatch over all lanes of the scheduler, and the lanes' numbers in it.
pr_status pr_seating_create(pr_scheduler *scheduler) PR_MUST_CHECK;

// Gives the lane its numbers. Once for each lane, in a fixed order.
void pr_seating_number(pr_scheduler *scheduler, pr_lane *lane);

// The lane has another role from now on: nobody sits there, and it has both numbers.
void pr_seating_renumber(pr_scheduler *scheduler, pr_lane *lane, pr_role role);

// The lane is out of service, with what its pool holds; it serves again, in its role.
void pr_seating_retire(pr_scheduler *scheduler, pr_lane *lane);
void pr_seating_return(pr_scheduler *scheduler, pr_lane *lane);

// The sequence waits: for the first time (its job is filled), or again after it had a seat.
// Error: PR_ERR_RESOURCE.
pr_status pr_seating_wait(pr_scheduler *scheduler, pr_sequence *sequence) PR_MUST_CHECK;
void pr_seating_wait_again(pr_scheduler *scheduler, pr_sequence *sequence);

// It goes for good, from wherever it is.
void pr_seating_leave(pr_scheduler *scheduler, pr_sequence *sequence);

// Seats who can be seated in the groups that are open in this round.
void pr_seating_round(pr_scheduler *scheduler);

// What happened to a seated sequence: a chunk is done; it decodes in this lane; it brought a token.
void pr_seating_computed(pr_scheduler *scheduler, pr_sequence *sequence, int32_t computed);
void pr_seating_decodes(pr_scheduler *scheduler, pr_sequence *sequence, const pr_lane *lane);
void pr_seating_generated(pr_scheduler *scheduler, pr_sequence *sequence);

#endif

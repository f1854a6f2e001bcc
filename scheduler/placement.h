// SPDX-License-Identifier: BSD-3-Clause
// Which lane a request is computed in, and which lane decodes it.
//
//   cost of computing in a lane  = tokens of the request not cached there + prefill not yet planned
//                                  there + one row per decoding sequence              [tokens]
//   cost of decoding in a lane   = blocks it must receive + blocks in use there
//                                  + one growing block per sequence                   [blocks]
//
// The pair's cost is the sum of both: no term depends on the two lanes together, so the best pair is
// the best lane of each kind, and the second may be chosen late, when the last chunk is planned.
// Ties: the lane with the lower number. Source: ours. Cost: O(lanes) look-ups of the prefix.
#ifndef PR_SCHEDULER_PLACEMENT_H
#define PR_SCHEDULER_PLACEMENT_H

#include "scheduler/scheduler_state.h"

// The cheapest mixed or prefill lane that has a seat and blocks for the request, or NULL. Its group
// may have to wait for its next plan: that is for the caller to see.
pr_lane *pr_placement_compute_lane(pr_scheduler *scheduler, const pr_sequence *sequence);

// Takes a seat for it in the cheapest decode lane whose group can be planned in this round. False if
// there is none, or if one that comes before it in order was refused and still waits: else a long
// request could starve. *first_block: first block of the table that the lane lacks.
bool pr_placement_seat_decode(pr_scheduler *scheduler, pr_sequence *sequence, int32_t *first_block);

// Tokens a seat must hold at first: what is known and the next, which is then fed.
int32_t pr_placement_room(const pr_sequence *sequence);

#endif

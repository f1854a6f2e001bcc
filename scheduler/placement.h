// SPDX-License-Identifier: BSD-3-Clause
// What fits where: the blocks a sequence needs in a lane, and the lane that decodes it. The compute lane is
// dispatch's choice; the decode lane is chosen late, when the last chunk is planned, by predicted step
// time among those that have room.
// Cost: O(decode lanes) look-ups of the prefix.
#ifndef PR_SCHEDULER_PLACEMENT_H
#define PR_SCHEDULER_PLACEMENT_H

#include "scheduler/scheduler_state.h"

// Whether the lane has a seat and blocks for the sequence, keeping free what its decoding sequences need
// next. In an empty lane everything fits (submit saw to that).
bool pr_placement_fits(const pr_lane *lane, const pr_sequence *sequence);

// Takes a seat for it in the best decode lane whose group can be planned in this round. False if
// there is none, or if one that comes before it in order was refused and still waits: else a long
// request could starve. *first_block: first block of the table that the lane lacks.
bool pr_placement_seat_decode(pr_scheduler *scheduler, pr_sequence *sequence, int32_t *first_block);

// Tokens a seat must hold at first: what is known and the next, which is then fed.
int32_t pr_placement_room(const pr_sequence *sequence);

#endif

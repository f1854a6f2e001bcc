// SPDX-License-Identifier: BSD-3-Clause
// Fetching a prefix from the lane that holds it, instead of computing it again.
//
//   a sequence is seated in a lane that lacks what another lane holds
//     begin: the holder's blocks are pinned, both groups' plans carry the transfer; the source sends
//            at a step boundary, the target's workers hear of the sequence only afterwards
//   every target rank reports the arrival
//     all intact      -> the blocks are published in the target's pool, chunks start after them
//     damaged         -> chunks start where the lane's own prefix ends: nothing is waited for twice
//     no longer wanted-> seat and pins go, after the arrival: no rank writes into blocks that are
//                        someone else's
//
// Pins are bounded (PR_GATHERS_PER_LANE), so a holder gets its blocks back soon; a sequence of the
// holder that needs a block meanwhile waits for them instead of preempting.
// Source: ours. Prefixes move between instances also in Mooncake and Llumnix.
#ifndef PR_SCHEDULER_GATHER_H
#define PR_SCHEDULER_GATHER_H

#include "scheduler/scheduler_state.h"

// Fetches the leading `tokens` tokens, as far as they are whole blocks published in `from`. The sequence has
// its compute seat, in a group whose plan is being made, and nothing of it is planned. False: nothing
// has changed, compute it.
bool pr_gather_begin(pr_scheduler *scheduler, pr_sequence *sequence, pr_lane *from, int32_t tokens);

// Events of a sequence in PR_PHASE_GATHER; it may be gone afterwards.
void pr_gather_arrived(pr_scheduler *scheduler, pr_sequence *sequence, bool intact);
// One of its ends is lost: the sequence is in PR_PHASE_PREFILL, with its seat, and computes it.
void pr_gather_break(pr_scheduler *scheduler, pr_sequence *sequence);
void pr_gather_abandon(pr_scheduler *scheduler, pr_sequence *sequence);  // no more tokens wanted

#endif

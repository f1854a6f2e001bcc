// SPDX-License-Identifier: BSD-3-Clause
// Handing a sequence from its prefill lane to a decode lane.
//
//   last chunk planned -> begin: seat and blocks in a decode lane, entries in both groups' plans
//   every target rank reports the arrival; the source reports the first token, in any order
//     all intact and token known  -> ready: the source seat is given back, start goes out next
//     damaged                     -> both seats go, the sequence is computed again
//     nobody wants it any more    -> both seats go, after the arrival: no rank writes into blocks
//                                    that are someone else's
#ifndef PR_SCHEDULER_TRANSFER_H
#define PR_SCHEDULER_TRANSFER_H

#include "scheduler/scheduler_state.h"

// Plans the handover with the last chunk of this round. False: no decode lane can take it now.
bool pr_transfer_begin(pr_scheduler *scheduler, pr_sequence *sequence);

// A tag that no transfer in flight has, and back.
int32_t pr_transfer_take_tag(pr_scheduler *scheduler);
void pr_transfer_release_tag(pr_scheduler *scheduler, int32_t tag);

// Events of a sequence in PR_PHASE_HANDOVER; it may be gone afterwards.
void pr_transfer_arrived(pr_scheduler *scheduler, pr_sequence *sequence, bool intact);
void pr_transfer_first_token(pr_scheduler *scheduler, pr_sequence *sequence);
void pr_transfer_abandon(pr_scheduler *scheduler, pr_sequence *sequence);  // no more tokens wanted

#endif

// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/transfer.h"

#include "runtime/base/log.h"
#include "scheduler/placement.h"
#include "scheduler/seating.h"
#include "scheduler/walltime/forecast.h"

// There are far fewer transfers than tags: one is free after at most one turn (create limits the seats
// of all decode lanes, PR_GATHERS_MOST the gathers).
int32_t pr_transfer_take_tag(pr_scheduler *scheduler)
{
    int32_t tag = scheduler->next_tag;
    while (scheduler->tag_used[tag / 64] >> (tag % 64) & 1)
        tag = (tag + 1) % PR_HANDOVER_TAGS;
    scheduler->tag_used[tag / 64] |= UINT64_C(1) << (tag % 64);
    scheduler->next_tag = (tag + 1) % PR_HANDOVER_TAGS;
    return tag;
}

void pr_transfer_release_tag(pr_scheduler *scheduler, int32_t tag)
{
    scheduler->tag_used[tag / 64] &= ~(UINT64_C(1) << (tag % 64));
}

bool pr_transfer_begin(pr_scheduler *scheduler, pr_sequence *sequence)
{
    int32_t first_block;
    if (!pr_placement_seat_decode(scheduler, sequence, &first_block))
        return false;
    sequence->phase = PR_PHASE_HANDOVER;
    sequence->tag = pr_transfer_take_tag(scheduler);
    sequence->handover_begin_ns = scheduler->now_ns;
    sequence->arrivals = 0;
    sequence->damaged = false;
    sequence->first_token_known = false;
    pr_group_state *from = &scheduler->group[sequence->seat[PR_SEAT_COMPUTE].lane->group];
    pr_group_state *to = &scheduler->group[sequence->seat[PR_SEAT_DECODE].lane->group];
    pr_plan_draft_admit(&to->draft, sequence, PR_SEAT_DECODE);
    pr_plan_draft_handover(&from->draft, sequence, first_block);
    pr_plan_draft_handover(&to->draft, sequence, first_block);
    pr_seating_decodes(scheduler, sequence, sequence->seat[PR_SEAT_DECODE].lane);
    scheduler->counts.handovers++;
    return true;
}

static void recompute(pr_scheduler *scheduler, pr_sequence *sequence)
{
    if (++sequence->handovers_lost < PR_HANDOVERS_LOST) {
        pr_scheduler_requeue(scheduler, sequence);
        return;
    }
    pr_scheduler_decide_rejection(
        scheduler, sequence->request->id,
        "its KV cache arrived damaged at the decode group in 8 attempts; check the fabric with "
        "polyreme doctor, or run without prefill groups",
        500);
    pr_scheduler_forget(scheduler, sequence);
}

static void settle(pr_scheduler *scheduler, pr_sequence *sequence)
{
    const pr_lane *to = sequence->seat[PR_SEAT_DECODE].lane;
    if (sequence->arrivals < to->tp)
        return;
    if (sequence->ending) {
        pr_transfer_release_tag(scheduler, sequence->tag);
        pr_scheduler_forget(scheduler, sequence);
    } else if (sequence->damaged) {
        pr_transfer_release_tag(scheduler, sequence->tag);
        scheduler->counts.handovers_lost++;
        recompute(scheduler, sequence);
    } else if (sequence->first_token_known) {
        pr_transfer_release_tag(scheduler, sequence->tag);
        pr_lane_publish(sequence, PR_SEAT_DECODE, sequence->target);
        pr_lane_unseat(sequence, PR_SEAT_COMPUTE);
        sequence->phase = PR_PHASE_READY;
        pr_forecast_handed_over(scheduler, sequence);
    }
}

void pr_transfer_arrived(pr_scheduler *scheduler, pr_sequence *sequence, bool intact)
{
    sequence->arrivals++;
    if (!intact) {
        sequence->damaged = true;
        pr_log(
            PR_LOG_WARN, "the KV of request %llu arrived damaged; it is computed again",
            (unsigned long long)sequence->request->id);
    }
    settle(scheduler, sequence);
}

void pr_transfer_first_token(pr_scheduler *scheduler, pr_sequence *sequence)
{
    sequence->first_token_known = true;
    settle(scheduler, sequence);
}

void pr_transfer_abandon(pr_scheduler *scheduler, pr_sequence *sequence)
{
    sequence->ending = true;
    settle(scheduler, sequence);
}

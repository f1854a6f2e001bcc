// SPDX-License-Identifier: BSD-3-Clause
#include <assert.h>

#include "scheduler/scheduler_state.h"

static void check_sequence(const pr_lane *lane, const pr_sequence *sequence)
{
    int32_t seat = sequence->seat[PR_SEAT_COMPUTE].lane != lane;
    assert(sequence->seat[seat].lane == lane);
    assert(sequence->phase != PR_PHASE_WAITING);
    assert(sequence->tokens <= pr_sequence_limit(sequence) || sequence->ending);
    assert(sequence->planned <= sequence->target && sequence->target <= sequence->tokens);
    bool handing = sequence->phase == PR_PHASE_HANDOVER;
    assert(
        (sequence->seat[PR_SEAT_COMPUTE].lane && sequence->seat[PR_SEAT_DECODE].lane) == handing);
    assert(!sequence->ending || handing);
    if (sequence->phase == PR_PHASE_PREFILL)
        assert(sequence->planned < sequence->target);
    else
        assert(sequence->planned == sequence->target);
    assert(pr_lane_capacity(&sequence->seat[seat]) >= sequence->target);
    (void)seat;
    (void)handing;
}

static int32_t check_lane(const pr_lane *lane)
{
    int32_t seats_of_first = 0;
    assert(lane->sequences <= lane->seats);
    pr_kv_cache_check(lane->cache);
    for (int32_t i = 0; i < lane->sequences; i++) {
        const pr_sequence *sequence = lane->sequence[i];
        assert(i == 0 || pr_sequence_before(lane->sequence[i - 1], sequence));
        check_sequence(lane, sequence);
        // A sequence in two lanes counts in the lane that computes it.
        seats_of_first +=
            sequence->seat[PR_SEAT_COMPUTE].lane == lane || !sequence->seat[PR_SEAT_COMPUTE].lane;
    }
    if (lane->sequences == 0)
        assert(pr_kv_cache_used_blocks(lane->cache) == 0);
    return seats_of_first;
}

void pr_scheduler_check(const pr_scheduler *scheduler)
{
    int32_t sequences = pr_scheduler_waiting(scheduler);
    pr_dispatch_check(scheduler->dispatch);
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        assert(group->done <= group->planned);
        assert(group->planned - group->done <= PR_PLANS_AHEAD);
        for (int32_t l = 0; l < group->lanes; l++)
            sequences += check_lane(&group->lane[l]);
    }
    assert(sequences == scheduler->table.sequences);
    (void)sequences;
}

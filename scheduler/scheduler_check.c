// SPDX-License-Identifier: BSD-3-Clause
#include <assert.h>

#include "scheduler/scheduler_state.h"
#include "scheduler/walltime/drain.h"

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
    bool gathering = sequence->phase == PR_PHASE_GATHER;
    assert((sequence->source != NULL) == gathering && (sequence->pinned != NULL) == gathering);
    assert(!sequence->ending || handing || gathering);
    if (gathering) {
        assert(sequence->source != lane && sequence->seat[PR_SEAT_COMPUTE].blocks_told == 0);
        assert(sequence->planned < sequence->fetched && sequence->fetched < sequence->target);
        assert(sequence->arrivals < lane->tp);
    } else if (sequence->phase == PR_PHASE_PREFILL)
        assert(sequence->planned < sequence->target);
    else
        assert(sequence->planned == sequence->target);
    assert(pr_lane_capacity(&sequence->seat[seat]) >= sequence->target);
    (void)seat;
    (void)handing;
    (void)gathering;
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
    assert(lane->pins >= 0 && lane->pins <= PR_GATHERS_PER_LANE);
    if (lane->sequences == 0 && lane->pins == 0)
        assert(pr_kv_cache_used_blocks(lane->cache) == 0);
    return seats_of_first;
}

// Each gather in flight pins its source once.
static void check_pins(const pr_scheduler *scheduler)
{
    int32_t pins = 0, gathering = 0;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        for (int32_t l = 0; l < scheduler->group[g].lanes; l++) {
            const pr_lane *lane = &scheduler->group[g].lane[l];
            pins += lane->pins;
            for (int32_t i = 0; i < lane->sequences; i++)
                gathering += lane->sequence[i]->phase == PR_PHASE_GATHER;
        }
    }
    assert(pins == gathering && gathering == scheduler->gathers);
    (void)pins;
    (void)gathering;
}

// A lane does what its group does; in dispatch it is in service, and the map knows it, only while it
// prefills and stays.
static void check_role(const pr_scheduler *scheduler, const pr_group_state *group)
{
    for (int32_t l = 0; l < group->lanes; l++) {
        const pr_lane *lane = &group->lane[l];
        bool serves = lane->role != PR_ROLE_DECODE && !group->leaving && !group->lost;
        assert(lane->role == group->role);
        assert((!group->leaving && !group->lost) || !lane->map);
        if (group->lost)
            assert(
                lane->sequences == 0 && lane->pins == 0 &&
                pr_kv_cache_cached_blocks(lane->cache) == 0);
        assert((lane->map == pr_dispatch_cache_map(scheduler->dispatch)) == serves);
        if (lane->number < 0)
            continue;
        assert(pr_dispatch_lane(scheduler->dispatch, lane->number)->retired == !serves);
        if (!serves)
            assert(
                pr_cache_map_copies_of(pr_dispatch_cache_map(scheduler->dispatch), lane->number) ==
                0);
        (void)serves;
    }
}

void pr_scheduler_check(const pr_scheduler *scheduler)
{
    pr_drain_check(scheduler);
    int32_t sequences = pr_scheduler_waiting(scheduler), leavers = 0;
    pr_dispatch_check(scheduler->dispatch);
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        assert(group->done <= group->planned);
        assert(group->planned - group->done <= PR_PLANS_AHEAD);
        check_role(scheduler, group);
        leavers += group->leaving;
        for (int32_t l = 0; l < group->lanes; l++)
            sequences += check_lane(&group->lane[l]);
    }
    check_pins(scheduler);
    assert(sequences == scheduler->table.sequences && leavers == scheduler->leavers);
    (void)sequences, (void)leavers;
}

// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/placement.h"

int32_t pr_placement_room(const pr_sequence *sequence)
{
    int32_t limit = pr_sequence_limit(sequence);
    return sequence->tokens < limit ? sequence->tokens + 1 : sequence->tokens;
}

// Blocks beyond the cached ones that it would take, or -1 if the lane has too few. What
// the lane's decoding sequences need next stays free: an admission that makes the next step preempt
// is no gain. In an empty lane everything fits (submit saw to that).
static int32_t missing_blocks(const pr_lane *lane, const pr_sequence *sequence, int32_t cached)
{
    int32_t missing =
        pr_lane_blocks(lane, pr_placement_room(sequence)) - cached / lane->block_tokens;
    int32_t reserve = lane->role == PR_ROLE_PREFILL ? 0 : lane->sequences;
    return missing + reserve <= pr_kv_cache_free_blocks(lane->cache) ? missing : -1;
}

static int32_t cached_tokens(const pr_lane *lane, const pr_sequence *sequence)
{
    return pr_kv_cache_match(
        lane->cache, sequence->request->salt, sequence->token, sequence->tokens);
}

bool pr_placement_fits(const pr_lane *lane, const pr_sequence *sequence)
{
    return lane->sequences < lane->seats &&
           missing_blocks(lane, sequence, cached_tokens(lane, sequence)) >= 0;
}

// Where it decodes soonest and disturbs least, among the lanes that can be planned in this round and
// have room.
static pr_lane *decode_lane(pr_scheduler *scheduler, const pr_sequence *sequence)
{
    for (int32_t i = 0; i < scheduler->decode_lanes; i++) {
        const pr_lane *lane = scheduler->decode_lane[i];
        const pr_group_state *group = &scheduler->group[lane->group];
        bool takes = lane->role == PR_ROLE_DECODE && group->open && !group->leaving &&
                     pr_placement_fits(lane, sequence);
        int32_t free_blocks = pr_kv_cache_free_blocks(lane->cache);
        scheduler->decode_room[i] = takes ? (int64_t)free_blocks * lane->block_tokens : -1;
    }
    int32_t best =
        pr_dispatch_decode_lane(scheduler->dispatch, &sequence->job, scheduler->decode_room);
    return best < 0 ? NULL : scheduler->decode_lane[best];
}

// Whether one that comes before it was refused and still waits in a prefill lane.
static bool is_behind(const pr_scheduler *scheduler, const pr_sequence *sequence)
{
    for (int32_t g = 0; g < scheduler->groups; g++) {
        const pr_group_state *group = &scheduler->group[g];
        for (int32_t l = 0; group->role == PR_ROLE_PREFILL && l < group->lanes; l++) {
            for (int32_t i = 0; i < group->lane[l].sequences; i++) {
                const pr_sequence *other = group->lane[l].sequence[i];
                if (other->refused && pr_sequence_before(other, sequence))
                    return true;
            }
        }
    }
    return false;
}

bool pr_placement_seat_decode(pr_scheduler *scheduler, pr_sequence *sequence, int32_t *first_block)
{
    if (is_behind(scheduler, sequence))
        return false;
    pr_lane *lane = decode_lane(scheduler, sequence);
    int32_t cached;
    pr_kv_copy copy;
    sequence->refused =
        !lane ||
        pr_lane_seat(lane, sequence, PR_SEAT_DECODE, pr_placement_room(sequence), &cached, &copy) !=
            PR_OK;
    if (sequence->refused)
        return false;
    // A block that open took as a copy is sent whole, so the copy itself is not needed.
    *first_block = cached / lane->block_tokens;
    return true;
}

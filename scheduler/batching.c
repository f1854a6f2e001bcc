// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/batching.h"

#include "scheduler/balance/role_change.h"
#include "scheduler/gather.h"
#include "scheduler/placement.h"
#include "scheduler/seating.h"
#include "scheduler/transfer.h"
#include "scheduler/walltime/drain.h"

static void start_ready(pr_group_state *group)
{
    for (int32_t l = 0; l < group->lanes; l++) {
        for (int32_t i = 0; i < group->lane[l].sequences; i++) {
            pr_sequence *sequence = group->lane[l].sequence[i];
            if (sequence->phase == PR_PHASE_READY) {
                pr_plan_draft_start(&group->draft, sequence);
                sequence->phase = PR_PHASE_DECODE;
            }
        }
    }
}

// Takes blocks away from the last sequence of the lane. False: its KV is on the way here, or blocks
// come back from gathers soon; wait.
static bool preempt_last(pr_scheduler *scheduler, pr_lane *lane)
{
    pr_sequence *victim = lane->sequence[lane->sequences - 1];
    bool arriving = victim->phase == PR_PHASE_HANDOVER || victim->phase == PR_PHASE_GATHER;
    if (arriving || lane->pins > 0)
        return false;
    scheduler->counts.preemptions++;
    pr_scheduler_requeue(scheduler, victim);
    return true;
}

// The sequence has used up its blocks and stands still: the next block comes from free ones or from
// those behind it, in the end from itself. False: the sequence is no longer in the lane.
static bool unblock(pr_scheduler *scheduler, pr_lane *lane, pr_sequence *sequence)
{
    pr_kv_sequence *kv = pr_sequence_decode_seat(sequence)->kv;
    while (pr_kv_cache_extend(lane->cache, kv, sequence->tokens) != PR_OK) {
        if (!preempt_last(scheduler, lane))
            return true;
        if (sequence->phase == PR_PHASE_WAITING)
            return false;
    }
    return true;
}

static void grant_needed(pr_scheduler *scheduler, pr_lane *lane)
{
    for (int32_t i = 0; i < lane->sequences; i++) {
        pr_sequence *sequence = lane->sequence[i];
        if (!pr_lane_may_decode(lane, sequence))
            continue;
        if (sequence->tokens > pr_lane_capacity(pr_sequence_decode_seat(sequence)) &&
            !unblock(scheduler, lane, sequence))
            return;
    }
}

static int32_t at_most(int32_t value, int32_t maximum) { return value < maximum ? value : maximum; }

// Room for the coming steps, as far as free blocks go. Renewed when half a lease is left, so that the
// grant is there before the room is used up, and not with every token.
static void grant_ahead(const pr_scheduler *scheduler, pr_lane *lane, pr_sequence *sequence)
{
    int32_t lease = scheduler->params.lease_steps;
    const pr_seat *seat = pr_sequence_decode_seat(sequence);
    int32_t limit = pr_sequence_limit(sequence);
    int32_t capacity = pr_lane_capacity(seat);
    if (capacity >= at_most(sequence->tokens + lease / 2 + 1, limit))
        return;
    int32_t want = at_most(sequence->tokens + lease + lease / 2, limit);
    pr_status status = pr_kv_cache_extend(lane->cache, seat->kv, want);
    if (status != PR_OK)
        status = pr_kv_cache_extend(lane->cache, seat->kv, capacity + 1);
    (void)status;  // without a free block it goes on until grant_needed finds it one
}

static void decode_here(pr_scheduler *scheduler, const pr_lane *lane, pr_sequence *sequence)
{
    sequence->phase = PR_PHASE_DECODE;
    if (lane->role != PR_ROLE_PREFILL)
        pr_seating_decodes(scheduler, sequence, lane);
}

// Plans the next chunk, and before the first the admission: while a prefix is fetched, workers do not
// know the sequence. The last chunk of one that decodes elsewhere waits until a decode lane can take it.
static void plan_chunk(pr_scheduler *scheduler, pr_lane *lane, pr_sequence *sequence)
{
    int32_t left = sequence->target - sequence->planned;
    int32_t count = at_most(left, lane->rows);
    if (sequence->seat[PR_SEAT_COMPUTE].blocks_told == 0)
        pr_plan_draft_admit(&scheduler->group[lane->group].draft, sequence, PR_SEAT_COMPUTE);
    if (count == left) {
        // A next token that is also the last one needs no decode lane.
        bool ends = sequence->tokens >= pr_sequence_limit(sequence);
        if (lane->role != PR_ROLE_PREFILL || ends)
            decode_here(scheduler, lane, sequence);
        else if (!pr_transfer_begin(scheduler, sequence))
            return;
    }
    pr_plan_draft_chunk(&scheduler->group[lane->group].draft, sequence, count);
    sequence->planned += count;
    if (count == left)
        pr_balance_start(&scheduler->balance, sequence->target, sequence->cached);
    if (pr_lane_may_decode(lane, sequence))
        grant_ahead(scheduler, lane, sequence);
    lane->rows -= count;
    scheduler->counts.prefill_tokens += count;
}

static void continue_prefills(pr_scheduler *scheduler, pr_lane *lane)
{
    for (int32_t i = 0; i < lane->sequences && lane->rows > 0; i++) {
        if (lane->sequence[i]->phase == PR_PHASE_PREFILL)
            plan_chunk(scheduler, lane, lane->sequence[i]);
    }
}

pr_status pr_batching_admit(
    pr_scheduler *scheduler,
    pr_lane *lane,
    pr_sequence *sequence,
    pr_lane *holder,
    int32_t prefix_tokens)
{
    pr_kv_copy copy;
    if (!pr_placement_fits(lane, sequence))
        return PR_ERR_RESOURCE;
    PR_TRY(pr_lane_seat(
        lane, sequence, PR_SEAT_COMPUTE, pr_placement_room(sequence), &sequence->cached, &copy));
    sequence->phase = PR_PHASE_PREFILL;
    sequence->target = sequence->tokens;
    sequence->planned = sequence->computed = sequence->cached;
    scheduler->counts.cached_tokens += sequence->cached;
    pr_plan_draft *draft = &scheduler->group[lane->group].draft;
    if (copy.from >= 0)
        pr_plan_draft_copy(draft, lane, &copy);
    else if (holder && pr_gather_begin(scheduler, sequence, holder, prefix_tokens))
        return PR_OK;
    plan_chunk(scheduler, lane, sequence);
    return PR_OK;
}

// Whether a sequence of the group may decode and, as far as is known, has room for it.
static bool can_decode(const pr_group_state *group)
{
    for (int32_t l = 0; l < group->lanes; l++) {
        const pr_lane *lane = &group->lane[l];
        for (int32_t i = 0; i < lane->sequences; i++) {
            pr_sequence *sequence = lane->sequence[i];
            if (pr_lane_may_decode(lane, sequence) &&
                sequence->tokens <= pr_lane_capacity(pr_sequence_decode_seat(sequence)))
                return true;
        }
    }
    return false;
}

// Makes the draft a plan if it says something or if the group waits with sequences to decode.
static void finish_plan(pr_scheduler *scheduler, pr_group_state *group)
{
    bool decodes = can_decode(group);
    pr_plan_draft_finish(&group->draft, group->lane, group->lanes);
    bool waits = group->done == group->planned;
    if (pr_plan_draft_empty(&group->draft) && !(waits && decodes))
        return;
    if (waits)
        group->meter.busy_ns = scheduler->now_ns;
    pr_plan *plan = &group->draft.plan;
    plan->number = ++group->planned;
    plan->max_steps = decodes ? scheduler->params.lease_steps : plan->chunks > 0;
    group->ready = true;
}

static void open_group(pr_scheduler *scheduler, pr_group_state *group)
{
    group->open =
        !group->lost && !scheduler->paused && group->planned - group->done < PR_PLANS_AHEAD;
    if (!group->open)
        return;
    // Before the starts: what this round starts it does not preempt.
    for (int32_t l = 0; l < group->lanes; l++)
        grant_needed(scheduler, &group->lane[l]);
    start_ready(group);
    for (int32_t l = 0; l < group->lanes; l++) {
        pr_lane *lane = &group->lane[l];
        lane->rows = scheduler->params.max_num_batched_tokens;
        for (int32_t i = 0; i < lane->sequences; i++) {
            if (!pr_lane_may_decode(lane, lane->sequence[i]))
                continue;
            grant_ahead(scheduler, lane, lane->sequence[i]);
            lane->rows--;
        }
    }
}

void pr_batching_round(pr_scheduler *scheduler)
{
    pr_drain_cut(scheduler);
    pr_role_change_round(scheduler);
    for (int32_t g = 0; g < scheduler->groups; g++)
        open_group(scheduler, &scheduler->group[g]);
    for (int32_t g = 0; g < scheduler->groups; g++) {
        pr_group_state *group = &scheduler->group[g];
        for (int32_t l = 0; group->open && l < group->lanes; l++)
            continue_prefills(scheduler, &group->lane[l]);
    }
    pr_seating_round(scheduler);
    for (int32_t g = 0; g < scheduler->groups; g++) {
        if (scheduler->group[g].open)
            finish_plan(scheduler, &scheduler->group[g]);
    }
}

// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/gather.h"

#include <assert.h>

#include "runtime/base/log.h"
#include "scheduler/transfer.h"

bool pr_gather_pays(const pr_cost_model *cost, int32_t tokens, int32_t local, int32_t fetched)
{
    double saved_s = pr_cost_model_prefill_s(cost, tokens, local) -
                     pr_cost_model_prefill_s(cost, tokens, fetched);
    return saved_s > pr_cost_model_transfer_s(cost, fetched - local);
}

// Tokens of whole blocks that the lane holds, without the last token, which is always computed.
static int32_t held_tokens(const pr_lane *lane, const pr_sequence *sequence)
{
    int32_t match =
        pr_kv_cache_match(lane->cache, sequence->request->salt, sequence->token, sequence->tokens);
    return match - match % lane->block_tokens;
}

pr_lane *pr_gather_source(pr_scheduler *scheduler, const pr_sequence *sequence, int32_t *tokens)
{
    const pr_lane *to = sequence->seat[PR_SEAT_COMPUTE].lane;
    pr_lane *best = NULL;
    *tokens = sequence->planned;
    for (int32_t g = 0; g < scheduler->groups; g++) {
        pr_group_state *group = &scheduler->group[g];
        for (int32_t l = 0; group->role != PR_ROLE_DECODE && l < group->lanes; l++) {
            pr_lane *lane = &group->lane[l];
            if (lane == to || lane->pins == PR_GATHERS_PER_LANE)
                continue;
            int32_t held = held_tokens(lane, sequence);
            if (held > *tokens) {
                best = lane;
                *tokens = held;
            }
        }
    }
    bool pays = best && pr_gather_pays(
                            &scheduler->params.cost, sequence->tokens, sequence->planned, *tokens);
    return pays ? best : NULL;
}

// Opened like a sequence of the holder, so that reference counts keep the blocks. One token more is
// asked for, as a prompt's last token never counts as cached.
static bool pin(pr_lane *from, pr_sequence *sequence, int32_t tokens)
{
    int32_t cached;
    pr_kv_copy copy;
    if (pr_kv_cache_open(
            from->cache, sequence->request->salt, sequence->token, tokens + 1, &sequence->pinned,
            &cached, &copy) != PR_OK)
        return false;
    assert(cached == tokens && copy.from < 0);
    sequence->source = from;
    from->pins++;
    return true;
}

static void unpin(pr_sequence *sequence)
{
    pr_kv_cache_close(sequence->source->cache, sequence->pinned);
    sequence->source->pins--;
    sequence->source = NULL;
    sequence->pinned = NULL;
}

bool pr_gather_begin(pr_scheduler *scheduler, pr_sequence *sequence, pr_lane *from, int32_t tokens)
{
    const pr_lane *to = sequence->seat[PR_SEAT_COMPUTE].lane;
    assert(from != to && tokens > sequence->planned && tokens < sequence->target);
    assert(sequence->planned % to->block_tokens == 0 && tokens % to->block_tokens == 0);
    if (from->pins == PR_GATHERS_PER_LANE || scheduler->gathers == PR_GATHERS_MOST ||
        sequence->gathers_lost >= PR_GATHERS_LOST || !pin(from, sequence, tokens))
        return false;
    sequence->phase = PR_PHASE_GATHER;
    sequence->fetched = tokens;
    sequence->tag = pr_transfer_take_tag(scheduler);
    sequence->arrivals = 0;
    sequence->damaged = false;
    scheduler->gathers++;
    scheduler->counts.gathers++;
    // The source's entry goes out with its next plan, which may be a later one than the target's: the
    // blocks are pinned, and the target waits.
    pr_plan_draft_gather(&scheduler->group[to->group].draft, sequence);
    if (from->group != to->group)
        pr_plan_draft_gather(&scheduler->group[from->group].draft, sequence);
    return true;
}

static void settle(pr_scheduler *scheduler, pr_sequence *sequence)
{
    if (sequence->arrivals < sequence->seat[PR_SEAT_COMPUTE].lane->tp)
        return;
    pr_transfer_release_tag(scheduler, sequence->tag);
    unpin(sequence);
    scheduler->gathers--;
    if (sequence->ending) {
        pr_scheduler_finish(scheduler, sequence);
        return;
    }
    sequence->phase = PR_PHASE_PREFILL;
    if (sequence->damaged) {
        sequence->gathers_lost++;
        scheduler->counts.gathers_lost++;
        return;
    }
    scheduler->counts.gathered_tokens += sequence->fetched - sequence->planned;
    sequence->cached = sequence->planned = sequence->fetched;
    pr_lane_publish(sequence, PR_SEAT_COMPUTE, sequence->fetched);
}

void pr_gather_arrived(pr_scheduler *scheduler, pr_sequence *sequence, bool intact)
{
    sequence->arrivals++;
    if (!intact) {
        sequence->damaged = true;
        pr_log(
            PR_LOG_WARN, "the prefix of request %llu arrived damaged; it is computed",
            (unsigned long long)sequence->request->id);
    }
    settle(scheduler, sequence);
}

void pr_gather_abandon(pr_scheduler *scheduler, pr_sequence *sequence)
{
    sequence->ending = true;
    settle(scheduler, sequence);
}

// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/gather.h"

#include <assert.h>

#include "runtime/base/log.h"
#include "scheduler/transfer.h"
#include "scheduler/walltime/forecast.h"

// Tokens of whole blocks that the lane holds, without the last token, which is always computed.
static int32_t held_tokens(const pr_lane *lane, const pr_sequence *sequence)
{
    int32_t match =
        pr_kv_cache_match(lane->cache, sequence->request->salt, sequence->token, sequence->tokens);
    return match - match % lane->block_tokens;
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
    int32_t held = held_tokens(from, sequence);
    assert(from != to && sequence->planned % to->block_tokens == 0);
    if (tokens > held)  // the caller's map of blocks is a guide, this compares tokens
        tokens = held;
    if (tokens <= sequence->planned || from->pins == PR_GATHERS_PER_LANE ||
        scheduler->gathers == PR_GATHERS_MOST || sequence->gathers_lost >= PR_GATHERS_LOST ||
        !pin(from, sequence, tokens))
        return false;
    sequence->phase = PR_PHASE_GATHER;
    sequence->fetched = tokens;
    sequence->tag = pr_transfer_take_tag(scheduler);
    sequence->arrivals = 0;
    sequence->damaged = false;
    sequence->gather_begin_ns = scheduler->now_ns;
    scheduler->gathers++;
    scheduler->counts.gathers++;
    // The source's entry goes out with its next plan, which may be a later one than the target's: the
    // blocks are pinned, and the target waits.
    pr_plan_draft_gather(&scheduler->group[to->group].draft, sequence);
    if (from->group != to->group)
        pr_plan_draft_gather(&scheduler->group[from->group].draft, sequence);
    return true;
}

// From the decision to the arrival of all ranks: what a fetch costs here, with its waits.
static void learn_transfer_time(pr_scheduler *scheduler, const pr_sequence *sequence)
{
    enum { FEW = 16 };
    pr_step_fit *fit = &scheduler->transfer_fit;
    int64_t tokens = sequence->fetched - sequence->planned;
    double seconds = (double)(scheduler->now_ns - sequence->gather_begin_ns) * 1e-9;
    pr_step_fit_transfer_add(
        fit, (int64_t)((double)tokens * scheduler->cost.kv_bytes_per_token), seconds);
    if (fit->observations >= FEW)
        pr_step_fit_transfer_apply(fit, &scheduler->cost);
}

static void end(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_transfer_release_tag(scheduler, sequence->tag);
    unpin(sequence);
    scheduler->gathers--;
}

static void settle(pr_scheduler *scheduler, pr_sequence *sequence)
{
    if (sequence->arrivals < sequence->seat[PR_SEAT_COMPUTE].lane->tp)
        return;
    end(scheduler, sequence);
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
    learn_transfer_time(scheduler, sequence);
    pr_forecast_fetched(scheduler, sequence);
    scheduler->counts.gathered_tokens += sequence->fetched - sequence->planned;
    sequence->cached = sequence->planned = sequence->computed = sequence->fetched;
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

void pr_gather_break(pr_scheduler *scheduler, pr_sequence *sequence)
{
    pr_lane *to = sequence->seat[PR_SEAT_COMPUTE].lane;
    pr_plan_draft_forget_moves(&scheduler->group[to->group].draft, sequence);
    pr_plan_draft_forget_moves(&scheduler->group[sequence->source->group].draft, sequence);
    end(scheduler, sequence);
    sequence->phase = PR_PHASE_PREFILL;
    sequence->generation++;  // an arrival that is still reported is not waited for
}

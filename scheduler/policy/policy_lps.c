// SPDX-License-Identifier: BSD-3-Clause
// LPS: late binding, pooled prefixes, shortest remaining prefill first with ageing. The default.
//
//   arrive   key = prefill(n, what any lane holds) + arrival / ageing, slower under overload; waits in the
//            central queue
//   lane     of the lanes that hold most of its prefix and the one least loaded: the soonest done
//   gather   r = fetch / recompute time per token, at this prompt's length:
//            r < 0.1 fetched and not kept (one copy in the cluster); r < 0.6 fetched and kept; else not
//   decode   the least predicted step time
// No step walks lanes or jobs. Source: ours; docs/scheduling.md.
#include <stddef.h>

#include "scheduler/dispatch/dispatch_state.h"
#include "scheduler/policy/policy.h"

enum { OPTION_GATHER, OPTION_COPY, OPTION_FETCH };

// Fetch time over recompute time of one token in a prompt of this length.
static double fetch_ratio(const pr_cost_model *cost, int32_t prompt_tokens)
{
    return cost->kv_bytes_per_token / cost->transfer_bytes_per_s /
           (cost->chunk_token_s + cost->chunk_pair_s * prompt_tokens / 2);
}

static bool worth_fetching(
    const pr_policy *policy, const pr_job *job, int32_t local, int32_t depth, double *total_s)
{
    const pr_dispatch *dispatch = policy->dispatch;
    double recompute_s = pr_dispatch_prefill_s(dispatch, job, local);
    *total_s = recompute_s;
    if (depth <= local || policy->option[OPTION_GATHER] == 0 ||
        fetch_ratio(dispatch->cost, job->prompt_tokens) >= policy->option[OPTION_FETCH])
        return false;
    double fetched_s = pr_dispatch_fetch_s(dispatch, job, local, depth) +
                       pr_dispatch_prefill_s(dispatch, job, depth);
    if (fetched_s >= recompute_s)
        return false;
    *total_s = fetched_s;
    return true;
}

// When the job's prefill would be done on the lane, counted from now.
static double
done_s(const pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, int32_t depth)
{
    const pr_dispatch *dispatch = policy->dispatch;
    double total_s;
    worth_fetching(policy, job, local, depth, &total_s);
    return total_s + dispatch->cost->chunk_token_s * (double)dispatch->lane[lane].miss_tokens;
}

static int32_t lane(pr_policy *policy, const pr_job *job)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t best = pr_lane_tree_best(dispatch->ready);
    if (best < 0)
        return -1;
    const pr_prefix_view *view = pr_dispatch_view(dispatch, job);
    int32_t local = pr_dispatch_local_depth(dispatch, job, best);
    double best_s = done_s(policy, job, best, local, view->depth);
    for (int32_t i = 0; i < view->candidates; i++) {
        const pr_cache_candidate *candidate = &view->candidate[i];
        if (!dispatch->lane[candidate->lane].open)
            continue;
        double at_s = done_s(policy, job, candidate->lane, candidate->depth, view->depth);
        if (at_s < best_s) {
            best = candidate->lane;
            best_s = at_s;
        }
    }
    return best;
}

static void
gather(pr_policy *policy, const pr_job *job, int32_t on, int32_t local, pr_policy_fetch *fetch)
{
    (void)on;
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t depth = pr_dispatch_union_depth(dispatch, job);
    double total_s;
    if (!worth_fetching(policy, job, local, depth, &total_s))
        return;
    fetch->depth = depth;
    fetch->keep = fetch_ratio(dispatch->cost, job->prompt_tokens) >= policy->option[OPTION_COPY];
}

static int32_t decode(pr_policy *policy, const pr_job *job, const int64_t *room)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t best = pr_lane_tree_best(dispatch->calm);
    if (!room || (best >= 0 && room[best] > job->prompt_tokens))
        return best;
    best = -1;
    for (int32_t d = 0; d < dispatch->params.decode_lanes; d++) {
        if (room[d] > job->prompt_tokens &&
            (best < 0 ||
             pr_lane_tree_key(dispatch->calm, d) < pr_lane_tree_key(dispatch->calm, best)))
            best = d;
    }
    return best;
}

const pr_policy_kind pr_policy_lps = {
    .name = "lps",
    .about = "late binding, pooled prefixes, shortest remaining prefill first, aged (default)",
    .order = PR_ORDER_AGED,
    .eases = true,
    .late = true,
    .keeps_keys = true,
    .option =
        {[OPTION_GATHER] = {"gather", 1, 0, 1},
         [OPTION_COPY] = {"copy", 0.1, 0, 1e9},
         [OPTION_FETCH] = {"fetch", 0.6, 0, 1e9}},
    .lane = lane,
    .gather = gather,
    .decode = decode,
};

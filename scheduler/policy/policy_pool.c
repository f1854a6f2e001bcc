// SPDX-License-Identifier: BSD-3-Clause
// Late binding over pooled prefixes, as the reference simulation has it: a lane that becomes idle pulls
// the smallest key, an idle lane with the deepest prefix takes an arrival. These look at every lane; lps
// is the same idea without that.
//
//   mpxl     what is fetched is kept             mpxlnr  one copy of each block
//   mpxp     mpxlnr, and a shorter job displaces a running one at a chunk's end
//   pooled   infinite caches, free gather: a bound
#include "scheduler/dispatch/dispatch_state.h"
#include "scheduler/policy/policy.h"

// Deepest prefix; ties: the emptiest cache, then the lower lane.
static int32_t deepest_open(pr_policy *policy, const pr_job *job)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t best = -1, best_depth = 0, best_held = 0;
    for (int32_t l = 0; l < dispatch->params.prefill_lanes; l++) {
        if (!dispatch->lane[l].open)
            continue;
        int32_t depth = pr_dispatch_local_depth(dispatch, job, l);
        int32_t held = pr_cache_map_copies_of(dispatch->map, l);
        if (best < 0 || depth > best_depth || (depth == best_depth && held < best_held)) {
            best = l;
            best_depth = depth;
            best_held = held;
        }
    }
    return best;
}

static void gather_cheaper(
    pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, pr_policy_fetch *fetch)
{
    (void)lane;
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t all = pr_dispatch_union_depth(dispatch, job);
    if (all > local &&
        pr_dispatch_fetch_s(dispatch, job, local, all) + pr_dispatch_prefill_s(dispatch, job, all) <
            pr_dispatch_prefill_s(dispatch, job, local))
        fetch->depth = all;
}

static void gather_and_keep(
    pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, pr_policy_fetch *fetch)
{
    gather_cheaper(policy, job, lane, local, fetch);
    fetch->keep = true;
}

const pr_policy_kind pr_policy_mpxl = {
    .name = "mpxl",
    .about = "late binding, pooled prefixes; what is fetched is kept",
    .late = true,
    .lane = deepest_open,
    .gather = gather_and_keep,
};

const pr_policy_kind pr_policy_mpxlnr = {
    .name = "mpxlnr",
    .about = "late binding, pooled prefixes, one copy of each block",
    .late = true,
    .lane = deepest_open,
    .gather = gather_cheaper,
};

const pr_policy_kind pr_policy_mpxp = {
    .name = "mpxp",
    .about = "mpxlnr with preemption at chunk ends",
    .order = PR_ORDER_SRPT,
    .late = true,
    .preempts = true,
    .lane = deepest_open,
    .gather = gather_cheaper,
};

// ---- The bound ----

static pr_status create_pool(pr_policy *policy)
{
    pr_cache_map *pool;
    PR_TRY(pr_cache_map_create(1, &pool));
    policy->state = pool;
    return PR_OK;
}

static void destroy_pool(pr_policy *policy) { pr_cache_map_destroy(policy->state); }

static int32_t pool_depth(const pr_policy *policy, const pr_job *job)
{
    return pr_cache_map_union_depth(policy->state, job->block, job->blocks);
}

// Whatever was computed once is there for ever.
static void computed(pr_policy *policy, pr_job *job, int32_t lane)
{
    (void)lane;
    for (int32_t i = 0; i < job->blocks && job->computed_tokens == job->prompt_tokens; i++) {
        pr_status status = pr_cache_map_add(policy->state, job->block[i], 0);
        (void)status;  // without memory for it the bound is not reached
    }
}

static double remaining_in_pool(pr_policy *policy, const pr_job *job)
{
    return pr_dispatch_prefill_s(policy->dispatch, job, pool_depth(policy, job));
}

static void
imagine(pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, pr_policy_fetch *fetch)
{
    (void)lane;
    int32_t depth = pool_depth(policy, job);
    fetch->depth = depth > local ? depth : local;
    fetch->imagined = true;
}

const pr_policy_kind pr_policy_pooled = {
    .name = "pooled",
    .about = "infinite caches and free gather: a bound, for simulation only",
    .late = true,
    .imagined = true,
    .create = create_pool,
    .destroy = destroy_pool,
    .unbound = computed,
    .remaining = remaining_in_pool,
    .lane = deepest_open,
    .gather = imagine,
};

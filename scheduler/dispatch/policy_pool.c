// SPDX-License-Identifier: BSD-3-Clause
// Late binding over pooled prefixes, as the reference simulation has it: a lane that becomes idle pulls
// the smallest key, an idle lane with the deepest prefix takes an arrival. These look at every lane; lps
// is the same idea without that.
//
//   mpxl     what is fetched is kept             mpxlnr  one copy of each block
//   mpxp     mpxlnr, and a shorter job displaces a running one at a chunk's end
//   pooled   infinite caches, free gather: a bound
#include "scheduler/dispatch/dispatch_state.h"
#include "scheduler/dispatch/policy.h"

// Deepest prefix; ties: the lower lane.
static int32_t deepest_open(pr_policy *policy, const pr_job *job)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t best = -1, most = -1;
    for (int32_t l = 0; l < dispatch->params.prefill_lanes; l++) {
        if (!dispatch->lane[l].open)
            continue;
        int32_t held = pr_dispatch_local_depth(dispatch, job, l);
        if (held > most) {
            best = l;
            most = held;
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

// SPDX-License-Identifier: BSD-3-Clause
// Policies that take the lane with the least predicted cost at arrival.
//
//   dynamo       blocks of prefill outstanding and missing + requests   (ai-dynamo/dynamo lib/kv-router)
//   llumnix      missing tokens + uncomputed tokens outstanding         (llumnix docs, cache-aware)
//   conductor    T_queue + T_prefill(n, local prefix)                   (Mooncake, FAST'25, Algorithm 1)
//   conductorg   the same; a prefix 1.3 times deeper elsewhere is fetched first, from one lane
//   mpx, mpxnr   T_queue + min(recompute, gather of what any lanes hold); mpxnr keeps one copy
// Those with a T_queue see the caches as they will be: what was sent counts as held (dispatch time).
#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch_state.h"
#include "scheduler/policy/pending_blocks.h"
#include "scheduler/policy/policy.h"

static int32_t lanes_of(const pr_policy *policy) { return policy->dispatch->params.prefill_lanes; }

typedef struct pr_cost_state {
    pr_pending_blocks *pending;
    double *load;   // [prefill_lanes] sum of policy_load: of jobs not done (llumnix), not started
    double *end_s;  // [prefill_lanes] predicted end of the job that runs
} pr_cost_state;

static pr_status create(pr_policy *policy)
{
    size_t lanes = (size_t)lanes_of(policy);
    pr_cost_state *state = calloc(1, sizeof *state);
    if (!state)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory");
    policy->state = state;
    state->load = calloc(2 * lanes, sizeof *state->load);
    if (!state->load)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory for %zu lanes", lanes);
    state->end_s = state->load + lanes;
    return pr_pending_blocks_create(&state->pending);
}

static void destroy(pr_policy *policy)
{
    pr_cost_state *state = policy->state;
    if (!state)
        return;
    pr_pending_blocks_destroy(state->pending);
    free(state->load);
    free(state);
}

// ---- Sums of tokens ----

static void score_dynamo(pr_policy *policy, const pr_job *job, double *score)
{
    const pr_dispatch *dispatch = policy->dispatch;
    double block = dispatch->params.block_tokens;
    for (int32_t l = 0; l < lanes_of(policy); l++) {
        const pr_lane_load *lane = &dispatch->lane[l];
        double raw = ((double)lane->miss_tokens + job->prompt_tokens) / block;
        double overlap = pr_dispatch_local_depth(dispatch, job, l);
        score[l] = -fmax(0, raw - overlap);
    }
}

static int32_t missing_tokens(const pr_policy *policy, const pr_job *job, int32_t lane)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t depth = pr_dispatch_local_depth(dispatch, job, lane);
    return job->prompt_tokens - pr_dispatch_cached(dispatch, job, depth);
}

static void score_missing(pr_policy *policy, const pr_job *job, double *score)
{
    const pr_cost_state *state = policy->state;
    for (int32_t l = 0; l < lanes_of(policy); l++)
        score[l] = -(state->load[l] + missing_tokens(policy, job, l));
}

// What was missing when it was sent counts until its prefill is done.
static void bound_missing(pr_policy *policy, pr_job *job, int32_t lane)
{
    pr_cost_state *state = policy->state;
    job->policy_load = missing_tokens(policy, job, lane);
    state->load[lane] += job->policy_load;
}

static void unbound_load(pr_policy *policy, pr_job *job, int32_t lane)
{
    pr_cost_state *state = policy->state;
    state->load[lane] -= job->policy_load;
}

const pr_policy_kind pr_policy_dynamo = {
    .name = "dynamo",
    .about = "Dynamo: blocks outstanding and missing",
    .random_ties = true,
    .scorer = {{"prefill", 1, score_dynamo}},
};

const pr_policy_kind pr_policy_llumnix = {
    .name = "llumnix",
    .about = "Llumnix cache-aware: missing and uncomputed tokens",
    .scorer = {{"missing", 1, score_missing}},
    .create = create,
    .destroy = destroy,
    .bound = bound_missing,
    .unbound = unbound_load,
};

// ---- Predicted times, in a dispatch-time view ----

// The lane holds the block by the time a job that is sent there now starts.
static bool will_hold(const pr_policy *policy, uint64_t block, int32_t lane)
{
    const pr_cost_state *state = policy->state;
    return pr_cache_map_holds(policy->dispatch->map, block, lane) ||
           pr_pending_blocks_has(state->pending, lane, block);
}

static int32_t view_depth(const pr_policy *policy, const pr_job *job, int32_t lane)
{
    int32_t depth = 0;
    while (depth < job->blocks && will_hold(policy, job->block[depth], lane))
        depth++;
    return depth;
}

static bool any_will_hold(const pr_policy *policy, uint64_t block)
{
    if (pr_cache_map_holders(policy->dispatch->map, block) > 0)
        return true;
    for (int32_t l = 0; l < lanes_of(policy); l++) {
        if (will_hold(policy, block, l))
            return true;
    }
    return false;
}

static int32_t view_union_depth(const pr_policy *policy, const pr_job *job)
{
    int32_t depth = 0;
    while (depth < job->blocks && any_will_hold(policy, job->block[depth]))
        depth++;
    return depth;
}

// What waits for the lane, as predicted when it was sent, and the rest of what runs. The sum is kept
// as it is, rounding and all: the reference values depend on how it breaks ties.
static double queue_s(const pr_policy *policy, int32_t lane)
{
    const pr_cost_state *state = policy->state;
    double rest_s = 0;
    if (policy->dispatch->lane[lane].running > 0)
        rest_s = fmax(0, state->end_s[lane] - policy->dispatch->now_s);
    return state->load[lane] + rest_s;
}

// The lane in the view that holds most of the prompt; ties: the lower.
static int32_t view_best(const pr_policy *policy, const pr_job *job, int32_t *depth)
{
    int32_t best = -1;
    *depth = 0;
    for (int32_t l = 0; l < lanes_of(policy); l++) {
        int32_t held = view_depth(policy, job, l);
        if (held > *depth) {
            best = l;
            *depth = held;
        }
    }
    return best;
}

// Predicted prefill of the job on the lane, with what is fetched for it.
static double conductor_s(const pr_policy *policy, const pr_job *job, int32_t lane)
{
    return pr_dispatch_prefill_s(policy->dispatch, job, view_depth(policy, job, lane));
}

enum { OPTION_THRESHOLD };

static bool fetches_from_best(const pr_policy *policy, int32_t best, int32_t local)
{
    return best > policy->option[OPTION_THRESHOLD] * local;
}

// Where a much deeper prefix lies, that much is fetched first.
static int32_t conductor_depth(const pr_policy *policy, const pr_job *job, int32_t local)
{
    int32_t best;
    view_best(policy, job, &best);
    return fetches_from_best(policy, best, local) ? best : local;
}

static double conductor_global_s(const pr_policy *policy, const pr_job *job, int32_t lane)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t local = view_depth(policy, job, lane);
    int32_t depth = conductor_depth(policy, job, local);
    double prefill_s = pr_dispatch_prefill_s(dispatch, job, depth);
    return depth > local ? pr_dispatch_fetch_s(dispatch, job, local, depth) + prefill_s : prefill_s;
}

static double pool_s(const pr_policy *policy, const pr_job *job, int32_t lane)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t local = view_depth(policy, job, lane);
    int32_t all = view_union_depth(policy, job);
    double recompute_s = pr_dispatch_prefill_s(dispatch, job, local);
    if (all <= local)
        return recompute_s;
    return fmin(
        recompute_s,
        pr_dispatch_fetch_s(dispatch, job, local, all) + pr_dispatch_prefill_s(dispatch, job, all));
}

static void score_conductor(pr_policy *policy, const pr_job *job, double *score)
{
    for (int32_t l = 0; l < lanes_of(policy); l++)
        score[l] = -(queue_s(policy, l) + conductor_s(policy, job, l));
}

static void score_conductor_global(pr_policy *policy, const pr_job *job, double *score)
{
    for (int32_t l = 0; l < lanes_of(policy); l++)
        score[l] = -(queue_s(policy, l) + conductor_global_s(policy, job, l));
}

static void score_pool(pr_policy *policy, const pr_job *job, double *score)
{
    for (int32_t l = 0; l < lanes_of(policy); l++)
        score[l] = -(queue_s(policy, l) + pool_s(policy, job, l));
}

static void sent(pr_policy *policy, pr_job *job, int32_t lane, double prefill_s)
{
    pr_cost_state *state = policy->state;
    job->policy_load = prefill_s;
    state->load[lane] += prefill_s;
    pr_pending_blocks_add(state->pending, lane, job->block, job->blocks);
}

static void started(pr_policy *policy, pr_job *job, const pr_verdict *verdict)
{
    pr_cost_state *state = policy->state;
    const pr_dispatch *dispatch = policy->dispatch;
    double gather_s = 0;
    if (verdict->gathers > 0)
        gather_s = pr_dispatch_fetch_s(dispatch, job, verdict->local_blocks, verdict->depth);
    state->load[verdict->lane] -= job->policy_load;
    state->end_s[verdict->lane] =
        dispatch->now_s + gather_s +
        pr_cost_model_prefill_s(dispatch->cost, job->prompt_tokens, job->computed_tokens);
    job->policy_load = 0;
}

static void done(pr_policy *policy, pr_job *job, int32_t lane)
{
    pr_cost_state *state = policy->state;
    state->load[lane] -= job->policy_load;  // of one that never started
    pr_pending_blocks_remove(state->pending, lane, job->block, job->blocks);
}

static void bound_conductor(pr_policy *policy, pr_job *job, int32_t lane)
{
    sent(policy, job, lane, conductor_s(policy, job, lane));
}

static void bound_conductor_global(pr_policy *policy, pr_job *job, int32_t lane)
{
    // The queue of a lane is computing time: transfers for one job run while another computes.
    int32_t depth = conductor_depth(policy, job, view_depth(policy, job, lane));
    sent(policy, job, lane, pr_dispatch_prefill_s(policy->dispatch, job, depth));
}

static void bound_pool(pr_policy *policy, pr_job *job, int32_t lane)
{
    sent(policy, job, lane, pool_s(policy, job, lane));
}

// The one lane that holds most, as it is when the job starts.
static void gather_from_best(
    pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, pr_policy_fetch *fetch)
{
    (void)lane;
    int32_t best = 0, from = -1;
    for (int32_t l = 0; l < lanes_of(policy); l++) {
        int32_t held = pr_dispatch_local_depth(policy->dispatch, job, l);
        if (held > best) {
            best = held;
            from = l;
        }
    }
    if (from < 0 || !fetches_from_best(policy, best, local))
        return;
    *fetch = (pr_policy_fetch){.depth = best, .source = from, .keep = true};
}

static void
gather_all(const pr_policy *policy, const pr_job *job, int32_t local, pr_policy_fetch *fetch)
{
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
    (void)lane;
    gather_all(policy, job, local, fetch);
    fetch->keep = true;
}

static void gather_once(
    pr_policy *policy, const pr_job *job, int32_t lane, int32_t local, pr_policy_fetch *fetch)
{
    (void)lane;
    gather_all(policy, job, local, fetch);
}

const pr_policy_kind pr_policy_conductor = {
    .name = "conductor",
    .about = "Mooncake Conductor: least predicted time to first token, local prefix",
    .scorer = {{"time", 1, score_conductor}},
    .create = create,
    .destroy = destroy,
    .bound = bound_conductor,
    .started = started,
    .unbound = done,
};

const pr_policy_kind pr_policy_conductorg = {
    .name = "conductorg",
    .about = "Mooncake Conductor with transfer of a much deeper prefix from its one holder",
    .scorer = {{"time", 1, score_conductor_global}},
    .option = {[OPTION_THRESHOLD] = {"threshold", 1.3, 1, 1e9}},
    .create = create,
    .destroy = destroy,
    .bound = bound_conductor_global,
    .started = started,
    .unbound = done,
    .gather = gather_from_best,
};

const pr_policy_kind pr_policy_mpx = {
    .name = "mpx",
    .about = "early binding, pooled prefixes; what is fetched is kept",
    .scorer = {{"time", 1, score_pool}},
    .create = create,
    .destroy = destroy,
    .bound = bound_pool,
    .started = started,
    .unbound = done,
    .gather = gather_and_keep,
};

const pr_policy_kind pr_policy_mpxnr = {
    .name = "mpxnr",
    .about = "early binding, pooled prefixes, one copy of each block",
    .scorer = {{"time", 1, score_pool}},
    .create = create,
    .destroy = destroy,
    .bound = bound_pool,
    .started = started,
    .unbound = done,
    .gather = gather_once,
};

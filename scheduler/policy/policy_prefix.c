// SPDX-License-Identifier: BSD-3-Clause
// Policies that weigh a lane's share of the prompt against its load: the routers that stand in front of
// engines.
//
//   affinity      longest believed prefix, ties: fewest requests
//   sglang        SGLang cache_aware (lightseekorg/smg model_gateway/src/policies/cache_aware.rs)
//   llmd, llmdpd  llm-d inference scheduler (pkg/epp): prefix, queue and KV scorers 3/2/2 and 2/1/0,
//                 approximate index of 4,096 tokens, metrics 50 ms old
//   llmdprecise   the same with the exact index; llmdspec: and what was sent but is not there yet
#include <math.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch_state.h"
#include "scheduler/policy/policy.h"
#include "scheduler/policy/shadow_cache.h"

enum { OPTION_PERIOD, OPTION_MATCH };

typedef struct pr_prefix_state {
    pr_shadow_cache *shadow;
    double *queue, *kv;  // [prefill_lanes] as last seen
    double cell;         // of time, in which that was
} pr_prefix_state;

static pr_status create(pr_policy *policy)
{
    const pr_dispatch_params *params = &policy->dispatch->params;
    pr_prefix_state *state = calloc(1, sizeof *state);
    if (!state)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory");
    policy->state = state;
    state->cell = -1;
    state->queue = calloc(2 * (size_t)params->prefill_lanes, sizeof *state->queue);
    if (!state->queue)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory");
    state->kv = state->queue + params->prefill_lanes;
    return pr_shadow_cache_create(params->prefill_lanes, params->cache_blocks, &state->shadow);
}

static void destroy(pr_policy *policy)
{
    pr_prefix_state *state = policy->state;
    if (!state)
        return;
    pr_shadow_cache_destroy(state->shadow);
    free(state->queue);
    free(state);
}

static void bound(pr_policy *policy, pr_job *job, int32_t lane)
{
    pr_prefix_state *state = policy->state;
    pr_shadow_cache_note(state->shadow, lane, job->block, job->blocks);
}

static int32_t believed_depth(pr_policy *policy, const pr_job *job, int32_t blocks, int32_t lane)
{
    const pr_prefix_state *state = policy->state;
    return pr_cache_map_depth(pr_shadow_cache_map(state->shadow), job->block, blocks, lane);
}

static int32_t requests_of(const pr_policy *policy, int32_t lane)
{
    const pr_lane_load *load = &policy->dispatch->lane[lane];
    return load->queued + load->running;
}

// ---- affinity, SGLang ----

static int32_t fewest_requests(const pr_policy *policy)
{
    int32_t best = -1;
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++) {
        if (!policy->dispatch->lane[l].retired &&
            (best < 0 || requests_of(policy, l) < requests_of(policy, best)))
            best = l;
    }
    return best;
}

// The lane that is believed to hold most of the prompt; ties: fewest requests.
static int32_t deepest(pr_policy *policy, const pr_job *job, int32_t *depth)
{
    int32_t best = -1;
    *depth = -1;
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++) {
        if (policy->dispatch->lane[l].retired)
            continue;
        int32_t held = believed_depth(policy, job, job->blocks, l);
        if (held > *depth ||
            (held == *depth && requests_of(policy, l) < requests_of(policy, best))) {
            best = l;
            *depth = held;
        }
    }
    return best;
}

static int32_t pick_affinity(pr_policy *policy, const pr_job *job)
{
    int32_t depth;
    return deepest(policy, job, &depth);
}

static int32_t pick_sglang(pr_policy *policy, const pr_job *job)
{
    enum { ABSOLUTE = 32 };
    static const double RELATIVE = 1.1, MATCH = 0.5;
    int32_t least = INT32_MAX, most = 0;
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++) {
        int32_t requests = requests_of(policy, l);
        if (policy->dispatch->lane[l].retired)
            continue;
        least = requests < least ? requests : least;
        most = requests > most ? requests : most;
    }
    if (most - least > ABSOLUTE && most > RELATIVE * least)
        return fewest_requests(policy);
    int32_t depth;
    int32_t lane = deepest(policy, job, &depth);
    return depth > MATCH * job->blocks ? lane : fewest_requests(policy);
}

const pr_policy_kind pr_policy_affinity = {
    .name = "affinity",
    .about = "the prefill lane with the longest prefix, whatever its load",
    .create = create,
    .destroy = destroy,
    .bound = bound,
    .pick = pick_affinity,
};

const pr_policy_kind pr_policy_sglang = {
    .name = "sglang",
    .about = "SGLang cache-aware: prefix if more than half matches and loads are even",
    .create = create,
    .destroy = destroy,
    .bound = bound,
    .pick = pick_sglang,
};

// ---- llm-d ----

static int32_t match_limit(const pr_policy *policy, const pr_job *job)
{
    double tokens = policy->option[OPTION_MATCH];
    int32_t blocks = (int32_t)(tokens / policy->dispatch->params.block_tokens);
    return blocks > 0 && blocks < job->blocks ? blocks : job->blocks;
}

static void score_believed(pr_policy *policy, const pr_job *job, double *score)
{
    int32_t blocks = match_limit(policy, job);
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++)
        score[l] = blocks ? (double)believed_depth(policy, job, blocks, l) / blocks : 0;
}

static void score_exact(pr_policy *policy, const pr_job *job, double *score)
{
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++)
        score[l] = job->blocks
                       ? (double)pr_dispatch_local_depth(policy->dispatch, job, l) / job->blocks
                       : 0;
}

// The exact index, and besides what this router sent and has not seen stored.
static void score_speculative(pr_policy *policy, const pr_job *job, double *score)
{
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++) {
        int32_t held = pr_dispatch_local_depth(policy->dispatch, job, l);
        int32_t sent = believed_depth(policy, job, job->blocks, l);
        score[l] = job->blocks ? (double)(sent > held ? sent : held) / job->blocks : 0;
    }
}

// Metrics come every so often: all decisions in one cell of time see what its first one saw.
static void look(pr_policy *policy)
{
    pr_prefix_state *state = policy->state;
    const pr_dispatch *dispatch = policy->dispatch;
    double period_s = policy->option[OPTION_PERIOD] / 1e3;
    double cell = period_s > 0 ? floor(dispatch->now_s / period_s) : -1;
    if (period_s > 0 && cell == state->cell)
        return;
    state->cell = cell;
    for (int32_t l = 0; l < dispatch->params.prefill_lanes; l++) {
        const pr_lane_load *lane = &dispatch->lane[l];
        state->queue[l] = lane->queued;
        state->kv[l] = (double)lane->prompt_tokens / (double)dispatch->cost->capacity_tokens;
    }
}

static void score_queue(pr_policy *policy, const pr_job *job, double *score)
{
    (void)job;
    look(policy);
    const pr_prefix_state *state = policy->state;
    int32_t lanes = policy->dispatch->params.prefill_lanes;
    double least = (double)INFINITY, most = 0;
    for (int32_t l = 0; l < lanes; l++) {
        least = fmin(least, state->queue[l]);
        most = fmax(most, state->queue[l]);
    }
    for (int32_t l = 0; l < lanes; l++)
        score[l] = most > least ? (most - state->queue[l]) / (most - least) : 1;
}

static void score_kv(pr_policy *policy, const pr_job *job, double *score)
{
    (void)job;
    look(policy);
    const pr_prefix_state *state = policy->state;
    for (int32_t l = 0; l < policy->dispatch->params.prefill_lanes; l++)
        score[l] = fmax(0, 1 - state->kv[l]);
}

#define PERIOD [OPTION_PERIOD] = {"period_ms", 50, 0, 1e6}
#define MATCH(tokens) [OPTION_MATCH] = {"match_tokens", tokens, 0, 1e9}

const pr_policy_kind pr_policy_llmd = {
    .name = "llmd",
    .about = "llm-d default: prefix 3, queue 2, KV 2, approximate index",
    .random_ties = true,
    .scorer = {{"prefix", 3, score_believed}, {"queue", 2, score_queue}, {"kv", 2, score_kv}},
    .option = {PERIOD, MATCH(4096)},
    .create = create,
    .destroy = destroy,
    .bound = bound,
};

const pr_policy_kind pr_policy_llmdpd = {
    .name = "llmdpd",
    .about = "llm-d's sample for disaggregation: prefix 2, queue 1",
    .random_ties = true,
    .scorer = {{"prefix", 2, score_believed}, {"queue", 1, score_queue}, {"kv", 0, score_kv}},
    .option = {PERIOD, MATCH(4096)},
    .create = create,
    .destroy = destroy,
    .bound = bound,
};

const pr_policy_kind pr_policy_llmdprecise = {
    .name = "llmdprecise",
    .about = "llm-d default with the exact index",
    .random_ties = true,
    .scorer = {{"prefix", 3, score_exact}, {"queue", 2, score_queue}, {"kv", 2, score_kv}},
    .option = {PERIOD, MATCH(0)},
    .create = create,
    .destroy = destroy,
};

const pr_policy_kind pr_policy_llmdspec = {
    .name = "llmdspec",
    .about = "llm-d default with the exact index and what is under way",
    .random_ties = true,
    .scorer = {{"prefix", 3, score_speculative}, {"queue", 2, score_queue}, {"kv", 2, score_kv}},
    .option = {PERIOD, MATCH(0)},
    .create = create,
    .destroy = destroy,
    .bound = bound,
};

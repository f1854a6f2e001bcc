// SPDX-License-Identifier: BSD-3-Clause
// Policies that look at load alone: the baselines of every comparison.
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch_state.h"
#include "scheduler/policy/policy.h"

static int32_t lanes_of(const pr_policy *policy) { return policy->dispatch->params.prefill_lanes; }

// The n-th lane in service, from 0.
static int32_t nth_in_service(const pr_policy *policy, int32_t n)
{
    const pr_dispatch *dispatch = policy->dispatch;
    int32_t lanes = lanes_of(policy);
    if (dispatch->in_service == lanes)
        return n;
    for (int32_t l = 0; l < lanes; l++) {
        if (!dispatch->lane[l].retired && n-- == 0)
            return l;
    }
    return -1;
}

static int32_t pick_random(pr_policy *policy, const pr_job *job)
{
    (void)job;
    int32_t lanes = policy->dispatch->in_service;
    return lanes ? nth_in_service(policy, pr_policy_random(policy, lanes)) : -1;
}

static bool has_room(const pr_job *job, const int64_t *room, int32_t lane)
{
    return !room || room[lane] > job->prompt_tokens;
}

static int32_t decode_random(pr_policy *policy, const pr_job *job, const int64_t *room)
{
    int32_t lanes = policy->dispatch->params.decode_lanes;
    int32_t lane = pr_policy_random(policy, lanes);
    for (int32_t i = 0; i < lanes; i++, lane = (lane + 1) % lanes) {
        if (has_room(job, room, lane))
            return lane;
    }
    return -1;
}

const pr_policy_kind pr_policy_random_kind = {
    .name = "random",
    .about = "any lane, prefill and decode",
    .pick = pick_random,
    .decode = decode_random,
};

// ---- round robin, over both pools ----

typedef struct pr_round_robin {
    int64_t prefill, decode;
} pr_round_robin;

static pr_status create_round_robin(pr_policy *policy)
{
    policy->state = calloc(1, sizeof(pr_round_robin));
    return policy->state ? PR_OK : pr_fail(PR_ERR_RESOURCE, "policy: no memory");
}

static void destroy_state(pr_policy *policy) { free(policy->state); }

static int32_t pick_next(pr_policy *policy, const pr_job *job)
{
    (void)job;
    pr_round_robin *turn = policy->state;
    int32_t lanes = policy->dispatch->in_service;
    return lanes ? nth_in_service(policy, (int32_t)(turn->prefill++ % lanes)) : -1;
}

static int32_t decode_next(pr_policy *policy, const pr_job *job, const int64_t *room)
{
    pr_round_robin *turn = policy->state;
    int32_t lanes = policy->dispatch->params.decode_lanes;
    for (int32_t i = 0; i < lanes; i++) {
        int32_t lane = (int32_t)((turn->decode + i) % lanes);
        if (!has_room(job, room, lane))
            continue;
        turn->decode += i + 1;
        return lane;
    }
    return -1;
}

const pr_policy_kind pr_policy_round_robin = {
    .name = "round-robin",
    .alias = "rr",
    .about = "the lanes in turn, prefill and decode",
    .create = create_round_robin,
    .destroy = destroy_state,
    .pick = pick_next,
    .decode = decode_next,
};

// ---- least loaded ----

static void score_requests(pr_policy *policy, const pr_job *job, double *score)
{
    (void)job;
    const pr_lane_load *lane = policy->dispatch->lane;
    for (int32_t l = 0; l < lanes_of(policy); l++)
        score[l] = -(double)(lane[l].queued + lane[l].running);
}

static void score_tokens(pr_policy *policy, const pr_job *job, double *score)
{
    (void)job;
    for (int32_t l = 0; l < lanes_of(policy); l++)
        score[l] = -(double)policy->dispatch->lane[l].prompt_tokens;
}

const pr_policy_kind pr_policy_least_requests = {
    .name = "least-requests",
    .alias = "leastreq",
    .about = "the prefill lane with the fewest requests",
    .scorer = {{"requests", 1, score_requests}},
};

const pr_policy_kind pr_policy_least_tokens = {
    .name = "least-tokens",
    .alias = "leasttok",
    .about = "the prefill lane with the fewest outstanding prompt tokens",
    .scorer = {{"tokens", 1, score_tokens}},
};

static int32_t pick_of_two(pr_policy *policy, const pr_job *job)
{
    (void)job;
    int32_t lanes = policy->dispatch->in_service;
    if (!lanes)
        return -1;
    int32_t one = nth_in_service(policy, pr_policy_random(policy, lanes));
    int32_t other = nth_in_service(policy, pr_policy_random(policy, lanes));
    const pr_lane_load *lane = policy->dispatch->lane;
    return lane[other].queued + lane[other].running < lane[one].queued + lane[one].running ? other
                                                                                           : one;
}

const pr_policy_kind pr_policy_two_choices = {
    .name = "p2c",
    .about = "of two prefill lanes drawn by lot the one with fewer requests",
    .pick = pick_of_two,
};

// SPDX-License-Identifier: BSD-3-Clause
// What the rooms of dispatch share: the core (dispatch.c) and the policies. Nobody outside this folder
// includes it. Policies read it; they change only what they made themselves.
#ifndef PR_SCHEDULER_DISPATCH_DISPATCH_STATE_H
#define PR_SCHEDULER_DISPATCH_DISPATCH_STATE_H

#include "scheduler/dispatch/dispatch.h"
#include "scheduler/dispatch/lane_tree.h"
#include "scheduler/dispatch/min_heap.h"
#include "scheduler/policy/policy.h"

// Who holds how much of a job's prompt. The one job that is being looked at is asked about by several
// in turn; while the map does not change, they get the same view.
typedef struct pr_prefix_view {
    const pr_job *job;  // NULL: of nobody
    int64_t changes;    // of the map, at that time
    int32_t depth;      // leading blocks that one lane or another holds
    int32_t candidates;
    pr_cache_candidate candidate[PR_CACHE_MAP_FEW];
    int32_t other, other_depth;  // the last lane that was asked about and is no candidate; -1: none
} pr_prefix_view;

struct pr_dispatch {
    pr_dispatch_params params;
    const pr_cost_model *cost;
    pr_policy *policy;
    pr_cache_map *map;
    pr_prefix_view *view;
    pr_lane_load *lane;      // [prefill_lanes]
    pr_decode_load *decode;  // [decode_lanes]
    pr_job_queue *central;   // late binding: all that wait
    pr_job_queue **bound;    // [prefill_lanes] early binding: those that wait for one lane
    pr_lane_tree *ready;     // open lanes. Early: those with jobs; late: all, least loaded first
    pr_lane_tree *calm;      // decode lanes by predicted step time
    double *written;     // [prefill_lanes] blocks that its prefills brought into the lane's cache
    int32_t in_service;  // prefill lanes
    int32_t open_lanes;
    int32_t waiting;
    int64_t waiting_tokens;  // prompt tokens of those
    pr_min_heap expiring;    // waiting jobs that expire, by when
    double saturation;       // of the decode side, as told
    uint64_t random;
    double now_s;
    pr_gather *gather;  // [gather_room] of the last verdict
    int32_t gather_room;
};

// Tokens of the prompt that need no prefill when so many leading blocks are there: the last token is
// always computed.
int32_t pr_dispatch_cached(const pr_dispatch *dispatch, const pr_job *job, int32_t depth);
double pr_dispatch_prefill_s(const pr_dispatch *dispatch, const pr_job *job, int32_t depth);
// To fetch the job's blocks [first, end) from other lanes.
double
pr_dispatch_fetch_s(const pr_dispatch *dispatch, const pr_job *job, int32_t first, int32_t end);
const pr_prefix_view *pr_dispatch_view(const pr_dispatch *dispatch, const pr_job *job);
int32_t pr_dispatch_local_depth(const pr_dispatch *dispatch, const pr_job *job, int32_t lane);
int32_t pr_dispatch_union_depth(const pr_dispatch *dispatch, const pr_job *job);

// ---- Between dispatch.c, dispatch_flow.c and dispatch_next.c ----

// May the job wait? Its lane (early), remaining_s and key are set.
pr_flow_reason pr_dispatch_flow_arrive(const pr_dispatch *dispatch, pr_job *job);
// Counts a waiting job in and out.
pr_status pr_dispatch_flow_put(pr_dispatch *dispatch, pr_job *job) PR_MUST_CHECK;
void pr_dispatch_flow_take(pr_dispatch *dispatch, pr_job *job);
pr_job *pr_dispatch_flow_expired(const pr_dispatch *dispatch);  // NULL: none
double pr_dispatch_flow_saturation(const pr_dispatch *dispatch);
bool pr_dispatch_flow_before(const void *a, const void *b);  // of jobs that expire together

// Puts a job into the queue of the lane it is bound to, or the central one.
pr_status pr_dispatch_enqueue(pr_dispatch *dispatch, pr_job *job) PR_MUST_CHECK;
// Takes a waiting job out of its queue and out of the load of the lane it is bound to.
void pr_dispatch_dequeue(pr_dispatch *dispatch, pr_job *job);
// Counts the job's prefill into (sign 1) or out of (-1) a lane's load.
void pr_dispatch_count(pr_lane_load *lane, const pr_job *job, int sign);
void pr_dispatch_rank_lane(pr_dispatch *dispatch, int32_t lane);

#endif

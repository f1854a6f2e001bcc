// SPDX-License-Identifier: BSD-3-Clause
// The decisions of dispatch: who starts where, with which blocks fetched; which lane decodes.
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "scheduler/dispatch/dispatch_state.h"

// ---- Gather ----

static bool reserve_gathers(pr_dispatch *dispatch, int32_t most)
{
    if (most <= dispatch->gather_room)
        return true;
    pr_gather *grown = realloc(dispatch->gather, (size_t)most * sizeof *grown);
    if (!grown)
        return false;
    dispatch->gather = grown;
    dispatch->gather_room = most;
    return true;
}

// The lane to fetch a block from: the one of the block before, if it holds this one too. The lane
// itself where it holds the block; -1: nobody does.
static int32_t source_of(const pr_dispatch *dispatch, uint64_t block, int32_t lane, int32_t before)
{
    if (pr_cache_map_holds(dispatch->map, block, lane))
        return lane;
    if (before >= 0 && pr_cache_map_holds(dispatch->map, block, before))
        return before;
    return pr_cache_map_holder(dispatch->map, block, lane);
}

// Splits what the lane lacks of [local, fetch->depth) into runs by holder. Returns the depth that can be
// had: a lane may hold blocks behind a gap, so not all of that is fetched.
static int32_t
plan_gathers(pr_dispatch *dispatch, const pr_job *job, pr_verdict *verdict, pr_policy_fetch *fetch)
{
    int32_t local = verdict->local_blocks, before = fetch->source;
    if (fetch->depth <= local || !reserve_gathers(dispatch, fetch->depth - local))
        return local;
    for (int32_t i = local, run; i < fetch->depth; i += run) {
        const uint64_t *block = &job->block[i];
        int32_t source = source_of(dispatch, *block, verdict->lane, before);
        run = 1;
        if (source == verdict->lane)
            continue;
        if (source < 0 || (fetch->source >= 0 && source != fetch->source))
            return i;
        run = pr_cache_map_run(dispatch->map, block, fetch->depth - i, source, verdict->lane);
        dispatch->gather[verdict->gathers++] = (pr_gather){source, i, run};
        before = source;
    }
    return fetch->depth;
}

// ---- Start ----

static void plan_blocks(pr_dispatch *dispatch, pr_job *job, pr_verdict *verdict)
{
    pr_policy *policy = dispatch->policy;
    int32_t local = pr_dispatch_local_depth(dispatch, job, verdict->lane);
    verdict->local_blocks = verdict->depth = local;
    if (!policy->kind->gather)
        return;
    pr_policy_fetch fetch = {.depth = local, .source = -1};
    policy->kind->gather(policy, job, verdict->lane, local, &fetch);
    verdict->depth = fetch.imagined ? fetch.depth : plan_gathers(dispatch, job, verdict, &fetch);
    verdict->keep = fetch.keep;
    verdict->gather = dispatch->gather;
}

static void charge(pr_dispatch *dispatch, pr_job *job)
{
    if (job->charged_tokens)
        return;  // it goes on after it made way
    job->charged_tokens = job->predicted_tokens;
    pr_job_queue_serve(dispatch->central, job, job->charged_tokens, 0);
}

static void start(pr_dispatch *dispatch, pr_job *job, int32_t l, pr_verdict *verdict)
{
    bool early = job->bound_lane >= 0;
    pr_lane_load *lane = &dispatch->lane[l];
    *verdict = (pr_verdict){.kind = PR_VERDICT_START, .job = job, .lane = l};
    pr_dispatch_dequeue(dispatch, job);
    job->lane = job->bound_lane = l;
    job->state = PR_JOB_RUNNING;
    job->expires_s = 0;  // it did not wait too long: no more when it comes back
    if (job->computed_tokens == 0) {
        plan_blocks(dispatch, job, verdict);
        job->computed_tokens = pr_dispatch_cached(dispatch, job, verdict->depth);
        job->predicted_tokens = job->prompt_tokens - job->computed_tokens;
        dispatch->written[l] += job->blocks - verdict->depth;
    }
    lane->running++;
    pr_dispatch_count(lane, job, 1);
    charge(dispatch, job);
    if (!early) {
        lane->free_s = fmax(lane->free_s, dispatch->now_s) + job->remaining_s;
        if (dispatch->policy->kind->bound)
            dispatch->policy->kind->bound(dispatch->policy, job, l);
    }
    if (dispatch->policy->kind->started)
        dispatch->policy->kind->started(dispatch->policy, job, verdict);
    pr_dispatch_rank_lane(dispatch, l);
}

// ---- Choice ----

// Of the first one's band and tenant, the waiting job with the smallest key as it is now; ties: the one
// that arrived first.
static pr_job *first_rekeyed(const pr_dispatch *dispatch, pr_job_queue *queue, pr_job *first)
{
    pr_policy *policy = dispatch->policy;
    pr_job *best = NULL;
    double best_key = 0;
    for (pr_job *job = first; job; job = pr_job_queue_after(queue, job)) {
        if (job->queue_tenant != first->queue_tenant)
            continue;
        double key = pr_policy_key(policy, job, pr_policy_remaining_s(policy, job));
        if (!best || key < best_key || (key == best_key && job->id < best->id)) {
            best = job;
            best_key = key;
        }
    }
    return best;
}

static bool rekeys(const pr_policy *policy)
{
    return !policy->kind->keeps_keys && policy->order != PR_ORDER_FIFO;
}

// Whether the first in order as it was put gives way to one whose key has become smaller. The starvation
// guard has no regard for keys.
static bool gives_way(const pr_dispatch *dispatch, const pr_job *first)
{
    bool overdue = dispatch->now_s - first->arrival_s > dispatch->params.queue.guard_s;
    return rekeys(dispatch->policy) && !overdue;
}

static pr_job *first_of(const pr_dispatch *dispatch, pr_job_queue *queue)
{
    pr_job *job = pr_job_queue_first(queue, dispatch->now_s);
    return job && gives_way(dispatch, job) ? first_rekeyed(dispatch, queue, job) : job;
}

// The next job that is bound to a lane (early binding).
static pr_job *next_bound(const pr_dispatch *dispatch, int32_t *lane)
{
    *lane = pr_lane_tree_best(dispatch->ready);
    return *lane < 0 ? NULL : first_of(dispatch, dispatch->bound[*lane]);
}

static double key_now(pr_policy *policy, const pr_job *job)
{
    return rekeys(policy) ? pr_policy_key(policy, job, pr_policy_remaining_s(policy, job))
                          : job->key;
}

// Of the jobs that made way and wait for an open lane, the one with the smallest key.
static pr_job *next_displaced(const pr_dispatch *dispatch, int32_t *lane)
{
    pr_policy *policy = dispatch->policy;
    pr_job *best = NULL;
    for (int32_t l = 0; l < dispatch->params.prefill_lanes; l++) {
        pr_job *job = dispatch->lane[l].open ? first_of(dispatch, dispatch->bound[l]) : NULL;
        if (job && (!best || key_now(policy, job) < key_now(policy, best))) {
            best = job;
            *lane = l;
        }
    }
    return best;
}

// The next of the central queue, with a lane that is open.
static pr_job *next_central(pr_dispatch *dispatch, int32_t *lane)
{
    pr_policy *policy = dispatch->policy;
    pr_job *displaced = policy->kind->preempts ? next_displaced(dispatch, lane) : NULL;
    double saturation = pr_dispatch_flow_saturation(dispatch);
    pr_job *job =
        pr_flow_next(&dispatch->params.flow, dispatch->central, dispatch->now_s, saturation);
    if (job && gives_way(dispatch, job) && pr_lane_tree_best(dispatch->ready) >= 0)
        job = first_rekeyed(dispatch, dispatch->central, job);
    if (displaced && (!job || key_now(policy, displaced) <= key_now(policy, job)))
        return displaced;
    if (!job)
        return NULL;
    *lane = policy->kind->lane(policy, job);
    return *lane < 0 ? NULL : job;
}

bool pr_dispatch_yields(pr_dispatch *dispatch, pr_job *job, double now_s)
{
    dispatch->now_s = now_s;
    pr_policy *policy = dispatch->policy;
    bool late = policy->kind->late;
    // An engine with a queue of its own looks at it after every chunk.
    if (job->state != PR_JOB_RUNNING || policy->order == PR_ORDER_FIFO ||
        (late && !policy->kind->preempts))
        return false;
    pr_job *other = first_of(dispatch, late ? dispatch->central : dispatch->bound[job->lane]);
    double remaining_s = pr_policy_remaining_s(policy, job);
    double key = pr_policy_key(policy, job, remaining_s);
    if (!other || key_now(policy, other) >= key)
        return false;
    pr_lane_load *lane = &dispatch->lane[job->lane];
    lane->running--;
    lane->queued++;
    job->remaining_s = remaining_s;
    job->key = key;
    pr_status status = pr_dispatch_enqueue(dispatch, job);
    assert(status == PR_OK);
    (void)status;
    return true;
}

bool pr_dispatch_helps(pr_dispatch *dispatch, const pr_job *job, int32_t lane, double now_s)
{
    dispatch->now_s = now_s;
    pr_policy *policy = dispatch->policy;
    bool late = policy->kind->late;
    pr_job *other = first_of(dispatch, late ? dispatch->central : dispatch->bound[lane]);
    if (!other)
        return true;
    double key = pr_policy_key(policy, job, pr_policy_remaining_s(policy, job));
    return key < key_now(policy, other);
}

static void reject(pr_dispatch *dispatch, pr_job *job, pr_flow_reason reason, pr_verdict *verdict)
{
    pr_dispatch_cancel(dispatch, job);
    job->refused = reason;
    *verdict = (pr_verdict){
        .kind = PR_VERDICT_REJECT, .job = job, .lane = -1, .reason = pr_flow_reason_text(reason)};
}

void pr_dispatch_next(pr_dispatch *dispatch, double now_s, pr_verdict *verdict)
{
    dispatch->now_s = now_s;
    *verdict = (pr_verdict){.kind = PR_VERDICT_NONE};
    pr_job *expired = pr_dispatch_flow_expired(dispatch);
    if (expired) {
        reject(dispatch, expired, PR_FLOW_EXPIRED, verdict);
        return;
    }
    int32_t lane = -1;
    bool late = dispatch->policy->kind->late;
    pr_job *job = late ? next_central(dispatch, &lane) : next_bound(dispatch, &lane);
    if (!job)
        return;
    if (pr_flow_is_late(&dispatch->params.flow, job, now_s))
        reject(dispatch, job, PR_FLOW_TARGET, verdict);
    else
        start(dispatch, job, lane, verdict);
}

// ---- Decode lane ----

// The least committed lane of those with room.
static int32_t least_committed(const pr_dispatch *dispatch, const pr_job *job, const int64_t *room)
{
    int32_t best = -1;
    for (int32_t d = 0; d < dispatch->params.decode_lanes; d++) {
        if (room && room[d] <= job->prompt_tokens)
            continue;
        if (best < 0 ||
            dispatch->decode[d].committed_tokens < dispatch->decode[best].committed_tokens)
            best = d;
    }
    return best;
}

int32_t pr_dispatch_decode_lane(pr_dispatch *dispatch, const pr_job *job, const int64_t *room)
{
    pr_policy *policy = dispatch->policy;
    return policy->kind->decode ? policy->kind->decode(policy, job, room)
                                : least_committed(dispatch, job, room);
}

// ---- Check ----

static void check_lane(const pr_dispatch *dispatch, int32_t l)
{
    const pr_lane_load *lane = &dispatch->lane[l];
    assert(lane->queued >= 0 && lane->running >= 0);
    assert(lane->prompt_tokens >= lane->miss_tokens && lane->miss_tokens >= 0);
    assert(lane->queued + lane->running > 0 || lane->prompt_tokens == 0);
    assert(pr_job_queue_jobs(dispatch->bound[l]) == lane->queued);
    assert(!lane->retired || !lane->open);
    pr_job_queue_check(dispatch->bound[l]);
    (void)lane;
}

void pr_dispatch_check(const pr_dispatch *dispatch)
{
    int32_t waiting = pr_job_queue_jobs(dispatch->central), retired = 0, open = 0;
    for (int32_t l = 0; l < dispatch->params.prefill_lanes; l++) {
        check_lane(dispatch, l);
        waiting += dispatch->lane[l].queued;
        retired += dispatch->lane[l].retired;
        open += dispatch->lane[l].open;
    }
    for (int32_t d = 0; d < dispatch->params.decode_lanes; d++) {
        const pr_decode_load *load = &dispatch->decode[d];
        assert(load->sequences >= 0 && load->context_tokens >= 0);
        assert(load->sequences > 0 || load->committed_tokens == 0);
        (void)load;
    }
    assert(waiting == dispatch->waiting && dispatch->waiting_tokens >= 0);
    assert(dispatch->expiring.count <= waiting);
    pr_min_heap_check(&dispatch->expiring);
    assert(retired + dispatch->in_service == dispatch->params.prefill_lanes);
    pr_job_queue_check(dispatch->central);
    pr_cache_map_check(dispatch->map);
    assert(open == dispatch->open_lanes);
    (void)waiting, (void)retired, (void)open;
}

// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/dispatch/dispatch.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/dispatch_state.h"

// ---- Life ----

static pr_status check_params(const pr_dispatch_params *params)
{
    if (params->prefill_lanes < 1 || params->decode_lanes < 1)
        return pr_fail(
            PR_ERR_ARGUMENT, "dispatch: %d prefill and %d decode lanes, there must be one of each",
            params->prefill_lanes, params->decode_lanes);
    if (params->block_tokens < 1 || !params->cost)
        return pr_fail(
            PR_ERR_ARGUMENT, "dispatch: blocks of %d tokens and %s cost model",
            params->block_tokens, params->cost ? "a" : "no");
    return pr_flow_params_check(&params->flow);
}

static pr_status create_queues(pr_dispatch *dispatch)
{
    const pr_dispatch_params *params = &dispatch->params;
    // Dispatch itself counts what waits: a job that comes back always finds a place.
    pr_job_queue_params central = params->queue;
    central.most_jobs = INT32_MAX;
    PR_TRY(pr_job_queue_create(&central, &dispatch->central));
    // One lane's queue knows no tenants: fairness between them needs the choice that early binding
    // gives away.
    pr_job_queue_params bound = central;
    bound.fair = false;
    bound.most_tenants = 1;
    for (int32_t l = 0; l < params->prefill_lanes; l++)
        PR_TRY(pr_job_queue_create(&bound, &dispatch->bound[l]));
    return PR_OK;
}

static pr_status create_parts(pr_dispatch *dispatch)
{
    const pr_dispatch_params *params = &dispatch->params;
    size_t lanes = (size_t)params->prefill_lanes;
    dispatch->lane = calloc(lanes, sizeof *dispatch->lane);
    dispatch->decode = calloc((size_t)params->decode_lanes, sizeof *dispatch->decode);
    dispatch->bound = calloc(lanes, sizeof(pr_job_queue *));
    dispatch->written = calloc(lanes, sizeof *dispatch->written);
    dispatch->view = calloc(1, sizeof *dispatch->view);
    if (!dispatch->view || !dispatch->lane || !dispatch->decode || !dispatch->bound ||
        !dispatch->written)
        return pr_fail(PR_ERR_RESOURCE, "dispatch: no memory for %zu lanes", lanes);
    PR_TRY(pr_cache_map_create(params->prefill_lanes, &dispatch->map));
    PR_TRY(pr_lane_tree_create(params->prefill_lanes, &dispatch->ready));
    PR_TRY(pr_lane_tree_create(params->decode_lanes, &dispatch->calm));
    for (int32_t d = 0; d < params->decode_lanes; d++)
        pr_lane_tree_set(dispatch->calm, d, 0);
    PR_TRY(pr_policy_create(params->policy, dispatch, &dispatch->policy));
    return create_queues(dispatch);
}

pr_status pr_dispatch_create(const pr_dispatch_params *params, pr_dispatch **dispatch)
{
    PR_TRY(check_params(params));
    pr_dispatch *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "dispatch: no memory");
    made->params = *params;
    made->cost = params->cost;
    made->in_service = params->prefill_lanes;
    made->random = params->seed;
    made->expiring.before = pr_dispatch_flow_before;
    made->expiring.index_offset = offsetof(pr_job, expires_at);
    pr_status status = create_parts(made);
    if (status != PR_OK) {
        pr_dispatch_destroy(made);
        return status;
    }
    *dispatch = made;
    return PR_OK;
}

void pr_dispatch_destroy(pr_dispatch *dispatch)
{
    if (!dispatch)
        return;
    for (int32_t l = 0; dispatch->bound && l < dispatch->params.prefill_lanes; l++)
        pr_job_queue_destroy(dispatch->bound[l]);
    pr_job_queue_destroy(dispatch->central);
    pr_policy_destroy(dispatch->policy);
    pr_lane_tree_destroy(dispatch->ready);
    pr_lane_tree_destroy(dispatch->calm);
    pr_cache_map_destroy(dispatch->map);
    free(dispatch->lane);
    free(dispatch->decode);
    free(dispatch->bound);
    free(dispatch->written);
    free(dispatch->view);
    free(dispatch->gather);
    pr_min_heap_clear(&dispatch->expiring);
    free(dispatch);
}

pr_cache_map *pr_dispatch_cache_map(pr_dispatch *dispatch) { return dispatch->map; }

const pr_lane_load *pr_dispatch_lane(const pr_dispatch *dispatch, int32_t lane)
{
    return &dispatch->lane[lane];
}

const pr_decode_load *pr_dispatch_decode(const pr_dispatch *dispatch, int32_t lane)
{
    return &dispatch->decode[lane];
}

int32_t pr_dispatch_waiting(const pr_dispatch *dispatch) { return dispatch->waiting; }

// ---- What policies ask ----

int32_t pr_dispatch_cached(const pr_dispatch *dispatch, const pr_job *job, int32_t depth)
{
    int64_t tokens = (int64_t)depth * dispatch->params.block_tokens;
    return tokens < job->prompt_tokens ? (int32_t)tokens : job->prompt_tokens - 1;
}

double pr_dispatch_prefill_s(const pr_dispatch *dispatch, const pr_job *job, int32_t depth)
{
    return pr_cost_model_prefill_s(
        dispatch->cost, job->prompt_tokens, pr_dispatch_cached(dispatch, job, depth));
}

double
pr_dispatch_fetch_s(const pr_dispatch *dispatch, const pr_job *job, int32_t first, int32_t end)
{
    int32_t tokens =
        pr_dispatch_cached(dispatch, job, end) - pr_dispatch_cached(dispatch, job, first);
    return pr_cost_model_transfer_s(dispatch->cost, tokens);
}

static bool is_current(const pr_dispatch *dispatch, const pr_job *job)
{
    const pr_prefix_view *view = dispatch->view;
    return view->job == job && view->changes == pr_cache_map_changes(dispatch->map);
}

const pr_prefix_view *pr_dispatch_view(const pr_dispatch *dispatch, const pr_job *job)
{
    pr_prefix_view *view = dispatch->view;
    if (is_current(dispatch, job))
        return view;
    view->job = job;
    view->changes = pr_cache_map_changes(dispatch->map);
    view->candidates = pr_cache_map_candidates(
        dispatch->map, job->block, job->blocks, &view->depth, view->candidate, PR_CACHE_MAP_FEW);
    view->other = -1;
    return view;
}

int32_t pr_dispatch_local_depth(const pr_dispatch *dispatch, const pr_job *job, int32_t lane)
{
    pr_prefix_view *view = dispatch->view;
    if (!is_current(dispatch, job))
        return pr_cache_map_depth(dispatch->map, job->block, job->blocks, lane);
    for (int32_t i = 0; i < view->candidates; i++) {
        if (view->candidate[i].lane == lane)
            return view->candidate[i].depth;
    }
    if (view->other != lane) {
        view->other = lane;
        view->other_depth = pr_cache_map_depth(dispatch->map, job->block, view->depth, lane);
    }
    return view->other_depth;
}

int32_t pr_dispatch_union_depth(const pr_dispatch *dispatch, const pr_job *job)
{
    return pr_dispatch_view(dispatch, job)->depth;
}

// ---- The ledger ----

static pr_job_queue *queue_of(const pr_dispatch *dispatch, const pr_job *job)
{
    return job->bound_lane < 0 ? dispatch->central : dispatch->bound[job->bound_lane];
}

// Where the lane stands among those that may start something. Late: fewest uncached tokens running
// there, then the one whose cache was written least: what it would evict is the oldest.
void pr_dispatch_rank_lane(pr_dispatch *dispatch, int32_t l)
{
    const pr_lane_load *lane = &dispatch->lane[l];
    double key = (double)INFINITY;
    if (lane->open && dispatch->policy->kind->late) {
        double written = dispatch->written[l];
        key = (double)lane->miss_tokens + written / (written + 1e6);
    } else if (lane->open && pr_job_queue_jobs(dispatch->bound[l]) > 0) {
        key = 0;
    }
    pr_lane_tree_set(dispatch->ready, l, key);
}

static void rank_decode(pr_dispatch *dispatch, int32_t d)
{
    const pr_decode_load *load = &dispatch->decode[d];
    double key = pr_cost_model_step_s(dispatch->cost, load->sequences, load->committed_tokens);
    pr_lane_tree_set(dispatch->calm, d, key);
}

// Counts the job's prefill into (sign 1) or out of (-1) the lane's load.
void pr_dispatch_count(pr_lane_load *lane, const pr_job *job, int sign)
{
    lane->prompt_tokens += (int64_t)sign * job->prompt_tokens;
    lane->miss_tokens += (int64_t)sign * job->predicted_tokens;
}

static void predict_free(pr_dispatch *dispatch, pr_lane_load *lane, const pr_job *job)
{
    lane->free_s = fmax(lane->free_s, dispatch->now_s) + job->remaining_s;
}

static void bind(pr_dispatch *dispatch, pr_job *job, int32_t l)
{
    pr_lane_load *lane = &dispatch->lane[l];
    job->bound_lane = l;
    job->predicted_tokens =
        job->prompt_tokens -
        pr_dispatch_cached(dispatch, job, pr_dispatch_local_depth(dispatch, job, l));
    lane->queued++;
    pr_dispatch_count(lane, job, 1);
}

static void unbind(pr_dispatch *dispatch, pr_job *job)
{
    pr_lane_load *lane = &dispatch->lane[job->bound_lane];
    lane->queued--;
    pr_dispatch_count(lane, job, -1);
}

static void remember(pr_dispatch *dispatch, pr_job *job, int32_t lane)
{
    if (dispatch->policy->kind->bound)
        dispatch->policy->kind->bound(dispatch->policy, job, lane);
}

static void forget(pr_dispatch *dispatch, pr_job *job, int32_t lane)
{
    if (dispatch->policy->kind->unbound)
        dispatch->policy->kind->unbound(dispatch->policy, job, lane);
}

// ---- Events: waiting ----

pr_status pr_dispatch_enqueue(pr_dispatch *dispatch, pr_job *job)
{
    PR_TRY(pr_job_queue_put(queue_of(dispatch, job), job));
    pr_status status = pr_dispatch_flow_put(dispatch, job);
    if (status != PR_OK) {
        pr_job_queue_take(queue_of(dispatch, job), job);
        return status;
    }
    job->state = PR_JOB_WAITING;
    if (job->bound_lane >= 0)
        pr_dispatch_rank_lane(dispatch, job->bound_lane);
    return PR_OK;
}

void pr_dispatch_dequeue(pr_dispatch *dispatch, pr_job *job)
{
    pr_job_queue_take(queue_of(dispatch, job), job);
    job->state = PR_JOB_NEW;
    pr_dispatch_flow_take(dispatch, job);
    if (job->bound_lane < 0)
        return;
    unbind(dispatch, job);
    pr_dispatch_rank_lane(dispatch, job->bound_lane);
}

// Gives the job a lane (early) or none (late), its key and its place. One that was in before
// (`again`) is not asked whether it may wait.
static pr_status admit(pr_dispatch *dispatch, pr_job *job, bool again)
{
    job->bound_lane = job->lane = -1;
    job->computed_tokens = 0;
    dispatch->view->job = NULL;  // another job may have stood at this address
    int32_t lane = dispatch->policy->kind->late ? -1 : pr_policy_pick(dispatch->policy, job);
    if (lane >= 0)
        bind(dispatch, job, lane);
    pr_policy_order_job(dispatch->policy, job);
    job->refused = again ? PR_FLOW_PASS : pr_dispatch_flow_arrive(dispatch, job);
    pr_status status =
        job->refused == PR_FLOW_PASS ? pr_dispatch_enqueue(dispatch, job) : PR_ERR_RESOURCE;
    if (status != PR_OK && job->refused == PR_FLOW_PASS)
        job->refused = PR_FLOW_QUEUE_JOBS;  // no memory for one more
    if (lane < 0)
        return status;
    if (status != PR_OK) {
        unbind(dispatch, job);
        return status;
    }
    predict_free(dispatch, &dispatch->lane[lane], job);
    remember(dispatch, job, lane);
    return PR_OK;
}

pr_status pr_dispatch_arrive(pr_dispatch *dispatch, pr_job *job, double now_s)
{
    dispatch->now_s = now_s;
    job->decode_lane = -1;
    job->outputs = job->charged_tokens = 0;
    job->state = PR_JOB_NEW;
    pr_policy_arrived(dispatch->policy, job);
    return admit(dispatch, job, false);
}

// A running job stops running.
static void stop(pr_dispatch *dispatch, pr_job *job)
{
    pr_lane_load *lane = &dispatch->lane[job->lane];
    lane->running--;
    pr_dispatch_count(lane, job, -1);
    if (lane->running + lane->queued == 0)
        lane->free_s = dispatch->now_s;
    job->state = PR_JOB_NEW;
    pr_dispatch_rank_lane(dispatch, job->lane);
}

static void uncharge(pr_dispatch *dispatch, pr_job *job)
{
    if (job->charged_tokens)
        pr_job_queue_serve(dispatch->central, job, -job->charged_tokens, 0);
    job->charged_tokens = 0;
}

void pr_dispatch_put_back(pr_dispatch *dispatch, pr_job *job, double now_s)
{
    dispatch->now_s = now_s;
    pr_dispatch_left(dispatch, job);
    if (job->state == PR_JOB_RUNNING) {
        stop(dispatch, job);
        forget(dispatch, job, job->lane);
    }
    uncharge(dispatch, job);
    pr_status status = admit(dispatch, job, true);
    assert(status == PR_OK);
    (void)status;
}

void pr_dispatch_cancel(pr_dispatch *dispatch, pr_job *job)
{
    pr_dispatch_left(dispatch, job);
    if (job->state == PR_JOB_WAITING) {
        pr_dispatch_dequeue(dispatch, job);
        if (job->bound_lane >= 0)
            forget(dispatch, job, job->bound_lane);
    } else if (job->state == PR_JOB_RUNNING) {
        stop(dispatch, job);
        forget(dispatch, job, job->lane);
    }
    job->state = PR_JOB_NEW;
}

void pr_dispatch_open(pr_dispatch *dispatch, int32_t lane, bool open)
{
    pr_lane_load *load = &dispatch->lane[lane];
    dispatch->open_lanes -= load->open;
    load->open = open && !load->retired;
    dispatch->open_lanes += load->open;
    pr_dispatch_rank_lane(dispatch, lane);
}

// All jobs of a queue whose lanes have changed. Those that find no lane in service wait in the central
// queue.
static void bind_anew(pr_dispatch *dispatch, pr_job_queue *queue)
{
    for (int32_t left = pr_job_queue_jobs(queue); left > 0; left--) {
        pr_job *job = pr_job_queue_first(queue, dispatch->now_s);
        int32_t lane = job->bound_lane;
        pr_dispatch_dequeue(dispatch, job);
        if (lane >= 0)
            forget(dispatch, job, lane);
        pr_status status = admit(dispatch, job, true);
        assert(status == PR_OK);
        (void)status;
    }
}

void pr_dispatch_retire(pr_dispatch *dispatch, int32_t l, bool retired, double now_s)
{
    pr_lane_load *lane = &dispatch->lane[l];
    dispatch->now_s = now_s;
    if (lane->retired == retired)
        return;
    lane->retired = retired;
    dispatch->in_service += retired ? -1 : 1;
    pr_dispatch_open(dispatch, l, false);
    if (retired)
        bind_anew(dispatch, dispatch->bound[l]);
    else if (!dispatch->policy->kind->late)
        bind_anew(dispatch, dispatch->central);
}

// ---- Events: prefill ----

void pr_dispatch_progress(pr_dispatch *dispatch, pr_job *job, int32_t computed, double now_s)
{
    dispatch->now_s = now_s;
    if (job->state != PR_JOB_RUNNING || computed <= job->computed_tokens)
        return;
    pr_lane_load *lane = &dispatch->lane[job->lane];
    int32_t done = computed - job->computed_tokens;
    if (done > job->predicted_tokens)
        done = job->predicted_tokens;
    job->computed_tokens = computed;
    job->predicted_tokens -= done;
    lane->miss_tokens -= done;
    pr_dispatch_rank_lane(dispatch, job->lane);
}

void pr_dispatch_prefilled(pr_dispatch *dispatch, pr_job *job, double now_s)
{
    dispatch->now_s = now_s;
    if (job->state != PR_JOB_RUNNING)
        return;
    stop(dispatch, job);
    job->state = job->decode_lane >= 0 ? PR_JOB_DECODING : PR_JOB_PREFILLED;
    forget(dispatch, job, job->lane);
}

// ---- Events: decode ----

// So many tokens the lane must hold for the job in the end, as far as one can tell.
static int64_t committed(const pr_job *job)
{
    int32_t outputs = job->outputs > job->outputs_expected ? job->outputs : job->outputs_expected;
    return (int64_t)job->prompt_tokens + outputs;
}

void pr_dispatch_joined(pr_dispatch *dispatch, pr_job *job, int32_t decode_lane)
{
    pr_decode_load *load = &dispatch->decode[decode_lane];
    job->decode_lane = decode_lane;
    job->committed_tokens = committed(job);
    load->sequences++;
    load->context_tokens += job->prompt_tokens + job->outputs;
    load->committed_tokens += job->committed_tokens;
    if (job->state == PR_JOB_PREFILLED || job->state == PR_JOB_NEW)
        job->state = PR_JOB_DECODING;
    rank_decode(dispatch, decode_lane);
}

void pr_dispatch_generated(pr_dispatch *dispatch, pr_job *job, int32_t outputs)
{
    job->outputs += outputs;
    pr_job_queue_serve(dispatch->central, job, 0, outputs);
    if (job->decode_lane < 0)
        return;
    pr_decode_load *load = &dispatch->decode[job->decode_lane];
    load->context_tokens += outputs;
    int64_t grown = committed(job) - job->committed_tokens;
    if (grown <= 0)
        return;
    job->committed_tokens += grown;
    load->committed_tokens += grown;
    rank_decode(dispatch, job->decode_lane);
}

void pr_dispatch_left(pr_dispatch *dispatch, pr_job *job)
{
    if (job->decode_lane < 0)
        return;
    pr_decode_load *load = &dispatch->decode[job->decode_lane];
    load->sequences--;
    load->context_tokens -= job->prompt_tokens + job->outputs;
    load->committed_tokens -= job->committed_tokens;
    rank_decode(dispatch, job->decode_lane);
    job->decode_lane = -1;
    if (job->state == PR_JOB_DECODING)
        job->state = PR_JOB_NEW;
}

// SPDX-License-Identifier: BSD-3-Clause
// Flow control in dispatch: what waits is counted over all queues, and expires wherever it waits.
#include <assert.h>
#include <math.h>
#include <stddef.h>

#include "scheduler/dispatch/dispatch_state.h"

// When a lane can start something: the one the job is bound to, behind what runs there; else any.
static double free_s(const pr_dispatch *dispatch, const pr_job *job)
{
    if (job->bound_lane >= 0) {
        double queued_s = pr_job_queue_work(dispatch->bound[job->bound_lane]);
        return dispatch->lane[job->bound_lane].free_s - queued_s;
    }
    if (dispatch->open_lanes > 0)
        return dispatch->now_s;
    double soonest_s = (double)INFINITY;
    for (int32_t l = 0; l < dispatch->params.prefill_lanes; l++) {
        if (!dispatch->lane[l].retired)
            soonest_s = fmin(soonest_s, dispatch->lane[l].free_s);
    }
    return soonest_s;
}

pr_flow_reason pr_dispatch_flow_arrive(const pr_dispatch *dispatch, pr_job *job)
{
    const pr_flow_params *params = &dispatch->params.flow;
    bool bound = job->bound_lane >= 0;
    const pr_job_queue *queue = bound ? dispatch->bound[job->bound_lane] : dispatch->central;
    pr_flow_view view = {
        .jobs = dispatch->waiting,
        .most_jobs = dispatch->params.queue.most_jobs,
        .prompt_tokens = dispatch->waiting_tokens,
        .now_s = dispatch->now_s,
        .lanes = bound ? 1 : dispatch->in_service,
    };
    if (pr_flow_may_shed(params, job))  // else nobody asks
        view.free_s = free_s(dispatch, job);
    return pr_flow_arrive(params, queue, &view, job);
}

bool pr_dispatch_flow_before(const void *a, const void *b)
{
    return ((const pr_job *)a)->id < ((const pr_job *)b)->id;
}

pr_status pr_dispatch_flow_put(pr_dispatch *dispatch, pr_job *job)
{
    job->expires_at = -1;
    if (job->expires_s > 0) {
        PR_TRY(pr_min_heap_reserve(&dispatch->expiring, dispatch->expiring.count + 1));
        pr_min_heap_put(&dispatch->expiring, job->expires_s, job);
    }
    dispatch->waiting++;
    dispatch->waiting_tokens += job->prompt_tokens;
    return PR_OK;
}

void pr_dispatch_flow_take(pr_dispatch *dispatch, pr_job *job)
{
    if (job->expires_at >= 0)
        pr_min_heap_take(&dispatch->expiring, job->expires_at);
    dispatch->waiting--;
    dispatch->waiting_tokens -= job->prompt_tokens;
}

pr_job *pr_dispatch_flow_expired(const pr_dispatch *dispatch)
{
    return pr_dispatch_wakes_s(dispatch) <= dispatch->now_s ? pr_min_heap_first(&dispatch->expiring)
                                                            : NULL;
}

double pr_dispatch_wakes_s(const pr_dispatch *dispatch)
{
    return dispatch->expiring.count > 0 ? dispatch->expiring.node[0].key : (double)INFINITY;
}

double pr_dispatch_flow_saturation(const pr_dispatch *dispatch)
{
    double busy = 1;
    if (dispatch->in_service > 0)
        busy = 1 - (double)dispatch->open_lanes / dispatch->in_service;
    return fmax(busy, dispatch->saturation);
}

void pr_dispatch_saturate(pr_dispatch *dispatch, double saturation)
{
    assert(saturation >= 0);
    dispatch->saturation = saturation;
}

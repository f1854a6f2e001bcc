// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/dispatch/flow_control.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

#include "runtime/base/log.h"

typedef struct reason_row {
    int32_t http_status;
    const char *text;
} reason_row;

static const reason_row reasons[PR_FLOW_REASONS] = {
    [PR_FLOW_PASS] = {200, "accepted"},
    [PR_FLOW_QUEUE_JOBS] = {429, "the queue is full: try again later"},
    [PR_FLOW_QUEUE_TOKENS] =
        {429, "the queue holds as many prompt tokens as it may: try again later"},
    [PR_FLOW_TARGET] =
        {429, "the first token would come later than the request's target: try again later, raise "
              "the target or the priority"},
    [PR_FLOW_EXPIRED] = {503, "the request waited for its whole time to live: try again later"},
};

const char *pr_flow_reason_text(pr_flow_reason reason)
{
    assert(reason < PR_FLOW_REASONS);
    return reasons[reason].text;
}

int32_t pr_flow_reason_http_status(pr_flow_reason reason)
{
    assert(reason < PR_FLOW_REASONS);
    return reasons[reason].http_status;
}

pr_status pr_flow_params_check(const pr_flow_params *params)
{
    if (params->most_prompt_tokens < 0 || !(params->ttl_s >= 0))
        return pr_fail(
            PR_ERR_ARGUMENT,
            "flow control: %lld prompt tokens and %g s to live: neither may be "
            "below 0",
            (long long)params->most_prompt_tokens, params->ttl_s);
    if (params->ceilings < 0 || params->ceilings > PR_MAX_CEILINGS)
        return pr_fail(
            PR_ERR_ARGUMENT, "flow control: %d ceilings, at most %d", params->ceilings,
            PR_MAX_CEILINGS);
    for (int32_t i = 0; i < params->ceilings; i++) {
        const pr_flow_ceiling *at = &params->ceiling[i];
        double most = i > 0 ? at[-1].saturation : HUGE_VAL;
        if (!(at->saturation > 0 && at->saturation <= most) ||
            (i > 0 && at->priority <= at[-1].priority))
            return pr_fail(
                PR_ERR_ARGUMENT,
                "flow control: ceiling %g of priority %d: priorities must ascend, ceilings "
                "must be above 0 and not ascend",
                at->saturation, at->priority);
    }
    return PR_OK;
}

static double ceiling_of(const pr_flow_params *params, int32_t priority)
{
    double ceiling = 1;
    for (int32_t i = 0; i < params->ceilings && params->ceiling[i].priority <= priority; i++)
        ceiling = params->ceiling[i].saturation;
    return ceiling;
}

bool pr_flow_may_shed(const pr_flow_params *params, const pr_job *job)
{
    return job->ttft_target_s > 0 && job->outputs == 0 && job->priority > params->sheddable_above;
}

static bool misses_target(
    const pr_flow_params *params,
    const pr_job_queue *queue,
    const pr_flow_view *view,
    const pr_job *job)
{
    if (!pr_flow_may_shed(params, job))
        return false;
    double free_s = fmax(view->now_s, view->free_s);
    double slack_s = job->arrival_s + job->ttft_target_s - job->remaining_s - free_s;
    if (slack_s < 0)
        return true;
    double enough_s = slack_s * view->lanes;
    if (pr_job_queue_work(queue) <= enough_s)
        return false;
    return pr_job_queue_ahead(queue, job, enough_s) > enough_s;
}

pr_flow_reason pr_flow_arrive(
    const pr_flow_params *params, const pr_job_queue *queue, const pr_flow_view *view, pr_job *job)
{
    if (view->jobs >= view->most_jobs)
        return PR_FLOW_QUEUE_JOBS;
    int64_t tokens = view->prompt_tokens + job->prompt_tokens;
    if (params->most_prompt_tokens > 0 && tokens > params->most_prompt_tokens && view->jobs > 0)
        return PR_FLOW_QUEUE_TOKENS;
    if (misses_target(params, queue, view, job))
        return PR_FLOW_TARGET;
    if (params->ttl_s > 0 && job->expires_s == 0)
        job->expires_s = job->arrival_s + params->ttl_s;
    return PR_FLOW_PASS;
}

bool pr_flow_is_late(const pr_flow_params *params, const pr_job *job, double now_s)
{
    return pr_flow_may_shed(params, job) &&
           now_s + job->remaining_s > job->arrival_s + job->ttft_target_s;
}

pr_job *
pr_flow_next(const pr_flow_params *params, pr_job_queue *queue, double now_s, double saturation)
{
    pr_job *job = pr_job_queue_first(queue, now_s);
    if (!job || saturation < ceiling_of(params, job->priority))
        return job;
    // Only what the guard put first can have a higher band behind it.
    pr_job *next = pr_job_queue_after(queue, job);
    bool passes =
        next && next->priority < job->priority && saturation < ceiling_of(params, next->priority);
    return passes ? next : NULL;
}

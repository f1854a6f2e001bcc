// SPDX-License-Identifier: BSD-3-Clause
// Who may wait, for how long, and who may start: bounds of the queue, time to live, holdback of the
// lower bands at saturation, and early rejection of what would miss its target. Rules only: the jobs
// and their order are in a job queue.
//
//   arrive --full?--> QUEUE_JOBS, QUEUE_TOKENS   --target out of reach?--> TARGET  --> waits
//   next   --band held back?--> nobody           --too late by now?--> TARGET      --> starts
//   a job whose time to live ends before it starts: EXPIRED (dispatch keeps the heap)
//
// Early rejection asks the order that is in force: what starts before the job (pr_job_queue_ahead), not
// what came before it. It touches only jobs with a target whose priority number is above a threshold.
// Holdback is strict: when the band of the first job is held back, no lower one starts either. It
// also holds what the starvation guard would put first; a higher band passes it then.
// Source: the bands and ceilings of llm-d's flow control; the rest ours.
// Cost: O(1) besides the queue's; rejection counts the jobs ahead only when all that waits together
// would make the job miss its target. Threads: one.
#ifndef PR_SCHEDULER_DISPATCH_FLOW_CONTROL_H
#define PR_SCHEDULER_DISPATCH_FLOW_CONTROL_H

#include "scheduler/dispatch/job_queue.h"

typedef enum pr_flow_reason {
    PR_FLOW_PASS,
    PR_FLOW_QUEUE_JOBS,    // as many jobs wait as may
    PR_FLOW_QUEUE_TOKENS,  // as many prompt tokens wait as may
    PR_FLOW_TARGET,        // its first token would come after its target
    PR_FLOW_EXPIRED,       // it waited for its time to live
    PR_FLOW_REASONS
} pr_flow_reason;

enum { PR_MAX_CEILINGS = 8 };

// Bands from this priority on start only while the saturation is below the ceiling.
typedef struct pr_flow_ceiling {
    int32_t priority;
    double saturation;
} pr_flow_ceiling;

// All zero: no bounds; jobs with a target and a priority number above 0 may be rejected for it.
typedef struct pr_flow_params {
    int64_t most_prompt_tokens;  // that wait; 0: no bound. The only one that waits may have more
    double ttl_s;                // of a job that brings no expires_s; 0: none
    int32_t sheddable_above;     // higher priority numbers may be rejected; INT32_MAX: none
    int32_t ceilings;
    pr_flow_ceiling ceiling[PR_MAX_CEILINGS];  // ascending priority. Above the first: 1
} pr_flow_params;

// PR_ERR_ARGUMENT with one line.
pr_status pr_flow_params_check(const pr_flow_params *params) PR_MUST_CHECK;

// What waits, and what the lanes that serve the job's queue are about to do.
typedef struct pr_flow_view {
    int32_t jobs, most_jobs;
    int64_t prompt_tokens;
    double now_s;
    double free_s;  // when the first of them can start something
    int32_t lanes;
} pr_flow_view;

// May the job wait? key and remaining_s are set. Sets expires_s if the job has none.
pr_flow_reason pr_flow_arrive(
    const pr_flow_params *params, const pr_job_queue *queue, const pr_flow_view *view, pr_job *job);

// The job that starts next or, if that is too late now (pr_flow_is_late), is rejected. It stays in the
// queue. NULL: none. Saturation: 0 idle .. 1 full and beyond.
pr_job *
pr_flow_next(const pr_flow_params *params, pr_job_queue *queue, double now_s, double saturation);

// May the job be rejected for its target at all? One that has answered a token is past it.
bool pr_flow_may_shed(const pr_flow_params *params, const pr_job *job);
// It may, and misses its target even if it starts now.
bool pr_flow_is_late(const pr_flow_params *params, const pr_job *job, double now_s);

const char *pr_flow_reason_text(pr_flow_reason reason);     // one line, static
int32_t pr_flow_reason_http_status(pr_flow_reason reason);  // 429, 503; PASS: 200

#endif

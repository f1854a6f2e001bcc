// SPDX-License-Identifier: BSD-3-Clause
// Jobs that wait, and who is next: priority bands, fairness between the tenants of a band, an order
// within a tenant.
//
//   band 0  --> tenants by virtual token counter --> jobs by key (a heap)
//   band 1  ...                                      key = remaining_s + arrival_s / ageing
//
// Bands: strictly lower priority number first, except for the starvation guard: a job that has waited
// longer than guard_s goes before everything that has not (oldest first).
// Fairness: each tenant of a band has a counter of service received, divided by its weight; the
// backlogged tenant with the smallest counter is served. An idle tenant that comes back is lifted to the
// smallest counter of the backlogged ones, or of the one that waited last if none is. Bound: two tenants that stay backlogged never differ by more
// than 2 max(w_p L_in, w_q M) (VTC, Sheng et al., OSDI 2024, theorem 4.4).
// Order: key ascending, ties by arrival, then id. Every job waits at the same pace, so
// remaining - wait / A orders like remaining + arrival / A, which does not change: a heap holds it.
//
// Memory: grows by jobs and tenants up to the maxima given at create. Cost: O(log jobs + log tenants).
// Threads: one. Jobs are the caller's and stay where they are while they wait.
#ifndef PR_SCHEDULER_DISPATCH_JOB_QUEUE_H
#define PR_SCHEDULER_DISPATCH_JOB_QUEUE_H

#include <stdbool.h>

#include "runtime/base/status.h"
#include "scheduler/dispatch/job.h"

typedef struct pr_job_queue pr_job_queue;

typedef struct pr_job_queue_params {
    bool fair;             // false: all tenants of a band are one
    double prompt_weight;  // w_p: service per prompt token admitted (VTC: 1)
    double output_weight;  // w_q: service per output token (VTC: 2)
    double guard_s;        // starvation guard; INFINITY: none
    int32_t most_jobs;     // more are refused
    int32_t
        most_tenants;  // remembered while nothing of theirs waits; the longest idle are forgotten
} pr_job_queue_params;

pr_status
pr_job_queue_create(const pr_job_queue_params *params, pr_job_queue **queue) PR_MUST_CHECK;
void pr_job_queue_destroy(pr_job_queue *queue);  // the jobs are not touched

// Weight of a tenant's share (default 1), in every band. PR_ERR_RESOURCE beyond most_tenants of them.
pr_status pr_job_queue_weigh(pr_job_queue *queue, uint64_t tenant, double weight) PR_MUST_CHECK;

// key and everything above it is set, and stays while it waits. PR_ERR_RESOURCE (silent) when most_jobs wait.
pr_status pr_job_queue_put(pr_job_queue *queue, pr_job *job) PR_MUST_CHECK;
void pr_job_queue_take(pr_job_queue *queue, pr_job *job);  // it waits; any position

pr_job *pr_job_queue_first(pr_job_queue *queue, double now_s);  // NULL: none. Stays in
// The next after `job` in an order that is right for the first and near enough behind it (same
// tenant's heap first): for a caller that cannot use the first. Each waiting job comes once, if nothing
// is put, taken or served meanwhile. NULL: no more.
pr_job *pr_job_queue_after(pr_job_queue *queue, const pr_job *job);

// Service received by a tenant of a band: prompt tokens when it starts, outputs as they come. A job
// that comes back (preempted, put back) is credited what it was charged: negative counts.
void pr_job_queue_serve(
    pr_job_queue *queue, const pr_job *job, int64_t prompt_tokens, int64_t outputs);
// The tenant's counter, lifts included; 0 for one that is not remembered.
double pr_job_queue_service(const pr_job_queue *queue, int32_t priority, uint64_t tenant);

// Predicted work (remaining_s) of the waiting jobs that start before this one, which need not wait
// itself, if nothing else arrives: bands above; of its own tenant those with smaller keys; of the other
// tenants of its band what they are served meanwhile. Exact but for that last share, which is taken
// as fluid, and for the guard, which is not looked at. Counting stops once enough_s is passed.
// Cost: O(bands + tenants + jobs counted); see first whether pr_job_queue_work is little enough.
double pr_job_queue_ahead(const pr_job_queue *queue, const pr_job *job, double enough_s);

int32_t pr_job_queue_jobs(const pr_job_queue *queue);
int64_t pr_job_queue_prompt_tokens(const pr_job_queue *queue);  // of all that wait
double pr_job_queue_work(const pr_job_queue *queue);            // remaining_s of all that wait
int32_t pr_job_queue_jobs_of(const pr_job_queue *queue, int32_t priority);

// Asserts every invariant: heaps, counters, links.
void pr_job_queue_check(const pr_job_queue *queue);

#endif

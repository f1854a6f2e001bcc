// SPDX-License-Identifier: BSD-3-Clause
// When a request would have ended that starts now, and all that it would slow down: walltime.h, filled with
// what sits in the scheduler's lanes. The request's own prompt counts without what its lane holds of it.
//
//   mixed group:      its lanes, with the request in one of them
//   prefill, decode:  prompts of all prefill groups, then a handover, then every decode group with its share
//                     of what is not there yet
//
// Choices of a request that wait for its prompt count with it. Steps are learnt as the controller sees
// them, from report to report.
// Cost: O(sequences seated in the groups concerned). No allocation after create. Threads: one.
#ifndef PR_SCHEDULER_WALLTIME_FORECAST_H
#define PR_SCHEDULER_WALLTIME_FORECAST_H

#include "scheduler/scheduler_state.h"

pr_status pr_forecast_create(pr_scheduler *scheduler) PR_MUST_CHECK;
void pr_forecast_destroy(pr_scheduler *scheduler);

// Whether all have ended in left_s, should the sequence be seated in this lane now, and fetch a prefix first.
bool pr_forecast_is_in_time(
    pr_scheduler *scheduler,
    const pr_lane *lane,
    const pr_sequence *sequence,
    bool fetches,
    double left_s);

// How long it takes with nobody beside it.
double pr_forecast_alone_s(pr_scheduler *scheduler, const pr_sequence *sequence);

// Learns from a step's reports, from a handover, and from a gather.
void pr_forecast_report(pr_scheduler *scheduler, pr_group_state *group, const pr_report *report);
void pr_forecast_handed_over(pr_scheduler *scheduler, const pr_sequence *sequence);
void pr_forecast_fetched(pr_scheduler *scheduler, const pr_sequence *sequence);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// A trace on a modelled fleet at one policy and speed, or at the highest speed that meets a target.
// Threads: one; progress goes to stderr.
#ifndef PR_LAUNCHER_SIMULATE_SIMULATION_H
#define PR_LAUNCHER_SIMULATE_SIMULATION_H

#include "launcher/fleet/fleet.h"
#include "launcher/simulate/run_table.h"

typedef struct pr_simulation {
    const pr_trace *trace;
    pr_fleet_params fleet;  // but policy, speed and progress
    int64_t most_spans;
} pr_simulation;

typedef struct pr_simulation_target {
    bool slo_b;           // or SLO-A (statistics.h)
    double goodput;       // at least this part of all requests
    double ttft_limit_s;  // and the 99th percentile of TTFT at most this; 0: whatever it is
} pr_simulation_target;

// The caller frees the record.
pr_status pr_simulation_run(
    const pr_simulation *simulation,
    const char *policy,
    double speed,
    pr_run_record *record,
    pr_run_point *point) PR_MUST_CHECK;

// Bisection, as DistServe's placement search: goodput falls as speed rises. The run at the speed found,
// to within a hundredth. PR_ERR_ARGUMENT when no speed meets the target, or every one does.
pr_status pr_simulation_capacity(
    const pr_simulation *simulation,
    const char *policy,
    const pr_simulation_target *target,
    pr_run_record *record,
    pr_run_point *point) PR_MUST_CHECK;

#endif

// SPDX-License-Identifier: BSD-3-Clause
// How to divide groups into prefill and decode for a workload: for each split the highest speed of the
// trace that meets the target, by simulated bisection; the split that bears most wins.
//
// More prefill groups help until decode becomes the bottleneck, so capacity over the split has one peak:
// splits are tried at wide steps, then around the best at ever smaller ones.
// Source: DistServe's placement search, on the scheduler's own dispatch instead of queueing formulas.
// Cost: O(log groups) bisections, each some ten runs of the trace. Threads: one; progress to stderr.
#ifndef PR_LAUNCHER_PLAN_SPLIT_SEARCH_H
#define PR_LAUNCHER_PLAN_SPLIT_SEARCH_H

#include "launcher/simulate/simulation.h"

enum { PR_SPLITS_MOST = 64 };

typedef struct pr_split {
    int32_t prefill, decode;
    bool meets;          // the target, at some speed
    pr_run_point point;  // at the highest
} pr_split;

typedef struct pr_split_search {
    int32_t splits;  // tried, most decode first
    pr_split split[PR_SPLITS_MOST];
    int32_t best;  // of these; -1: none meets the target
} pr_split_search;

// simulation->fleet says everything but the two numbers of groups, policy and speed.
pr_status pr_split_search_run(
    const pr_simulation *simulation,
    const char *policy,
    const pr_simulation_target *target,
    int32_t groups,
    pr_split_search *search) PR_MUST_CHECK;

#endif

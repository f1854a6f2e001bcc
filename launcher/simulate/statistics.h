// SPDX-License-Identifier: BSD-3-Clause
// A run in numbers: latencies, the part of requests that met a target, how the groups were used.
//
//   TTFT  first token - arrival                     TBT  (finish - first token) / (outputs - 1)
//   goodput     requests that met the target / all requests, rejected and unfinished ones included
//   SLO-A       TTFT <= 30 s and TBT <= 100 ms
//   SLO-B       TTFT <= 10 x prefill time of the bare prompt, and TBT <= 100 ms
//   hit rate    prompt tokens not computed / prompt tokens
//   utilisation of prefill: busy time / (groups x time in which requests arrived)
//   imbalance   busiest prefill group / mean
// Percentiles are nearest rank. Source of the targets: DistServe and Mooncake (docs/simulation.md).
// Cost: a few sorts of the requests. Threads: any.
#ifndef PR_LAUNCHER_SIMULATE_STATISTICS_H
#define PR_LAUNCHER_SIMULATE_STATISTICS_H

#include <jansson.h>

#include "launcher/simulate/run_record.h"
#include "scheduler/cost/cost_model.h"

typedef struct pr_summary {
    int64_t count;
    double mean, p50, p90, p99, most;  // NAN when count is 0
} pr_summary;

typedef struct pr_statistics {
    int64_t requests, finished, rejected;
    int64_t prompt_tokens, output_tokens;  // of finished requests
    int64_t hit_tokens, fetch_tokens;      // of requests whose prefill began
    pr_summary ttft_s, tbt_s, tbt_tail_s, latency_s;
    double goodput_a, goodput_b;  // b is NAN without a cost model
    double hit_rate, fetch_rate;
    double utilisation, imbalance;
    double arrival_span_s, span_s;  // first to last arrival; first arrival to last finish
    double requests_per_s, output_tokens_per_s;
} pr_statistics;

// cost: what SLO-B is measured by, or NULL.
pr_status pr_statistics_compute(
    const pr_run_record *record,
    const pr_cost_model *cost,
    pr_statistics *statistics) PR_MUST_CHECK;

json_t *pr_statistics_json(const pr_statistics *statistics);  // a new reference; NAN becomes null

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Counts of values by size, in Prometheus's sense: bound[i] is the largest value of bucket i, the last bucket
// takes the rest. The scales are vLLM's, so that its dashboards and quantiles fit (vllm/v1/metrics/loggers.py).
// Threads: one. Cost: a search over at most 32 bounds.
#ifndef PR_LAUNCHER_OBSERVE_HISTOGRAM_H
#define PR_LAUNCHER_OBSERVE_HISTOGRAM_H

#include <stdint.h>

enum { PR_HISTOGRAM_BOUNDS = 32 };

typedef struct pr_histogram_scale {
    int32_t bounds;
    double bound[PR_HISTOGRAM_BOUNDS];  // [bounds], ascending
} pr_histogram_scale;

extern const pr_histogram_scale pr_histogram_ttft;       // seconds to the first token
extern const pr_histogram_scale pr_histogram_gap;        // seconds between tokens
extern const pr_histogram_scale pr_histogram_latency;    // seconds of a request's phases
extern const pr_histogram_scale pr_histogram_iteration;  // tokens of a step
extern const pr_histogram_scale pr_histogram_choices;    // the parameter n
// 1, 2, 5, 10, ... as far as they are at most `most`.
pr_histogram_scale pr_histogram_tokens(int32_t most);

typedef struct pr_histogram {
    const pr_histogram_scale *scale;         // outlives it
    int64_t count[PR_HISTOGRAM_BOUNDS + 1];  // [bounds + 1], not cumulative
    int64_t values;
    double sum;
} pr_histogram;

int32_t pr_histogram_place(const pr_histogram_scale *scale, double value);  // 0..bounds
void pr_histogram_add(pr_histogram *histogram, double value);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What clients saw of a run, recorded or on virtual time, by the same arithmetic: rows per request,
// gaps between tokens, and their sum-up.
#ifndef PR_LAUNCHER_VIRTUAL_RUN_MEASURE_H
#define PR_LAUNCHER_VIRTUAL_RUN_MEASURE_H

#include <stdbool.h>

#include "launcher/simulate/run_record.h"

typedef struct pr_run_measure {
    int64_t requests, room;
    pr_request_row *request;  // in order of arrival
    int64_t gaps, gap_room;
    double *gap_s;  // between two tokens of a request
} pr_run_measure;

typedef struct pr_run_spread {
    double mean, p50, p99;
} pr_run_spread;

typedef struct pr_run_summary {
    int64_t requests, ended, outputs, prompt_tokens, hit_tokens;
    double seconds;  // first arrival to last token
    double outputs_per_s;
    pr_run_spread ttft_s, tbt_s, latency_s;
} pr_run_summary;

// Requests are numbered 0, 1, 2, ... in the order of their arrivals.
pr_status pr_run_measure_arrival(pr_run_measure *measure, int64_t now_ns, int32_t prompt_tokens)
    PR_MUST_CHECK;
void pr_run_measure_hit(pr_run_measure *measure, int64_t request, int32_t tokens);
pr_status pr_run_measure_token(pr_run_measure *measure, int64_t request, int64_t now_ns, bool last)
    PR_MUST_CHECK;
void pr_run_measure_rejected(pr_run_measure *measure, int64_t request, const char *reason);
void pr_run_measure_free(pr_run_measure *measure);

// Sorts the gaps.
pr_status pr_run_measure_sum_up(pr_run_measure *measure, pr_run_summary *summary) PR_MUST_CHECK;

#endif

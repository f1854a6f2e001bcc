// SPDX-License-Identifier: BSD-3-Clause
// What became of each request of a run, live (bench) or simulated, and of each group: the rows that
// statistics, CSV and HDF5 are made of. Times in seconds from the run's start; NAN where it never happened.
#ifndef PR_LAUNCHER_SIMULATE_RUN_RECORD_H
#define PR_LAUNCHER_SIMULATE_RUN_RECORD_H

#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_request_row {
    int64_t id;
    double arrival_s;
    int32_t prompt_tokens, outputs;
    int32_t prefill_group, decode_group;  // -1: none
    int64_t hit_tokens;    // leading tokens not computed: held by the lane or fetched
    int64_t fetch_tokens;  // of these, fetched from other lanes
    double prefill_start_s, first_s, join_s, finish_s;
    double tbt_mean_s, tbt_tail_s;  // of the gaps between tokens; tail: mean of the longest 10 %
    uint64_t tenant;
    int32_t priority;
    const char *rejected;  // NULL, or the reason; a static string
} pr_request_row;

// One span of a group's work, for the Gantt chart.
typedef struct pr_span_row {
    int32_t group;
    char what;  // 'p' prefill chunk, 'd' decode, 'g' gather, 't' transfer
    double begin_s, end_s;
    int64_t id;  // of the request, or -1
} pr_span_row;

typedef struct pr_run_record {
    int64_t requests;
    pr_request_row *request;    // [requests], in order of id
    int64_t spans, most_spans;  // spans beyond the maximum are not kept
    pr_span_row *span;          // [most_spans] or NULL
    int32_t prefill_groups, decode_groups;
    double *busy_s;  // [prefill_groups + decode_groups]
} pr_run_record;

// Rows are given ids 0.. and nothing else; groups have no work.
pr_status pr_run_record_create(
    int64_t requests,
    int64_t most_spans,
    int32_t prefill_groups,
    int32_t decode_groups,
    pr_run_record *record) PR_MUST_CHECK;
void pr_run_record_free(pr_run_record *record);

#endif

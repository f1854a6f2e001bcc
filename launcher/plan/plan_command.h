// SPDX-License-Identifier: BSD-3-Clause
// `polyreme plan MODEL --ranks N`: what a run would do, without doing it. Never starts MPI, reads only
// the model's config.json and the headers of its weight files.
#ifndef PR_LAUNCHER_PLAN_PLAN_COMMAND_H
#define PR_LAUNCHER_PLAN_PLAN_COMMAND_H

#include "launcher/engine/memory_budget.h"
#include "launcher/plan/prediction.h"
#include "runtime/batch/layout.h"
#include "runtime/model/shard.h"

// One rank's part. Group -1: the dedicated controller, everything else 0.
typedef struct pr_rank_figures {
    int32_t group, lane;
    pr_place place;
    int32_t first_expert, experts;
    int32_t query_heads, kv_heads;
    int64_t read_bytes;    // of the weight files
    int64_t packed_bytes;  // of weights in device memory
    int64_t work_bytes;
    int64_t kv_bytes;
} pr_rank_figures;

// Bytes a rank sends for one token of its lane, all layers; estimates from the layout alone.
typedef struct pr_traffic_figures {
    int64_t reduce_bytes;    // branch sums, log2(tp) rounds
    int64_t gather_bytes;    // its part of one row of logits
    int64_t experts_bytes;   // dispatch and combine, each of K experts elsewhere
    int64_t handover_bytes;  // KV of one prompt token, prefill to decode; 0 if mixed
} pr_traffic_figures;

void pr_rank_figures_of(
    const pr_memory_facts *facts,
    const pr_layout *layout,
    int32_t blocks,
    int32_t rank,
    pr_rank_figures *figures);

void pr_traffic_figures_of(
    const pr_memory_facts *facts, const pr_group_layout *group, pr_traffic_figures *figures);

// The forecast that plan would print for options->model on options->machine, with its ranks, layout and
// engine options: the cost models of its lanes. Errors: as plan's; PR_ERR_ARGUMENT if no machine is named.
pr_status pr_plan_forecast(const pr_options *options, pr_prediction *prediction) PR_MUST_CHECK;

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a serving run says of itself at one moment: the JSON of GET /v1/polyreme/status as a record.
// The sender may be any server: a field that is missing or of another type is NAN or "", text is plain (plain_text.h),
// and lists are cut at their maximum.
// Threads: any; nothing is kept.
#ifndef PR_LAUNCHER_CLIENT_RUN_STATUS_H
#define PR_LAUNCHER_CLIENT_RUN_STATUS_H

#include <jansson.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_RUN_STATUS_MAX_GROUPS = 4096, PR_RUN_STATUS_MAX_RANKS = 65536 };

typedef struct pr_run_quantiles {
    double p50, p90, p99;  // s
} pr_run_quantiles;

typedef struct pr_run_group {
    char role[16];
    double index, first_rank, ranks, tp, running;
    double kv_used_blocks, kv_cached_blocks, kv_blocks;
    double steps;  // since the start
    double step_ms, tokens_per_s;
} pr_run_group;

typedef struct pr_run_rank {
    char role[16];
    double rank, group;
} pr_run_rank;

typedef struct pr_run_status {
    char version[32], state[16], model[128], job_id[64], layout[256];
    double uptime_s, max_model_len, block_tokens, connections;
    double running, waiting;  // requests
    double ended_stop, ended_length, ended_abort, ended_error;
    double prompt_tokens, generated_tokens, cached_tokens;  // since the start
    double prompt_per_s, generated_per_s;
    pr_run_quantiles ttft, itl, e2e;
    double kv_used_blocks, kv_cached_blocks, kv_blocks;
    int32_t groups, ranks;
    pr_run_group *group;  // [groups]
    pr_run_rank *rank;    // [ranks]
} pr_run_status;

// PR_ERR_RESOURCE: no memory; nothing is left to clear then.
pr_status pr_run_status_parse(const json_t *root, pr_run_status *status) PR_MUST_CHECK;
void pr_run_status_clear(pr_run_status *status);

#endif

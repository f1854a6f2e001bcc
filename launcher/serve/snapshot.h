// SPDX-License-Identifier: BSD-3-Clause
// What the controller knows about the whole run at one moment, for metrics and status. Copied from its thread to
// the HTTP thread, some times a second at most: a scrape never enters MPI, nor waits for anybody.
#ifndef PR_LAUNCHER_SERVE_SNAPSHOT_H
#define PR_LAUNCHER_SERVE_SNAPSHOT_H

#include "runtime/batch/layout.h"
#include "scheduler/scheduler.h"

enum { PR_ITERATION_BUCKETS = 14 };  // pr_histogram_iteration's bounds, and more

// One group: what its scheduler's lanes hold, and what its lane leaders have reported. Counters run from the start.
typedef struct pr_group_snapshot {
    pr_role role;
    int32_t first_rank, ranks, tp;
    int32_t running;  // sequences seated in its lanes
    int32_t blocks, used_blocks,
        cached_blocks;  // of KV, over its lanes; cached: published, held or not
    int64_t steps;
    double step_s;  // sum of the steps' durations
    int64_t prefill_tokens, decode_tokens;
} pr_group_snapshot;

typedef struct pr_snapshot {
    int64_t time_ns;
    int32_t waiting;  // requests not yet seated
    int32_t unfinished;
    pr_scheduler_counts counts;
    pr_walltime_state walltime;
    int64_t end_unix_s;                              // of the job; 0: no end is known
    int64_t iteration_bucket[PR_ITERATION_BUCKETS];  // steps by tokens computed, not cumulative
    int64_t iteration_sum;
    int32_t groups;
    pr_group_snapshot *group;  // [groups], owned by whoever made the snapshot
} pr_snapshot;

#endif

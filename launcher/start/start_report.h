// SPDX-License-Identifier: BSD-3-Clause
// What a start cost: how much was read and packed, how fast, on which pages, and where the time went.
//
//   INFO   weights: 1.1 GiB mapped, 1.1 GiB packed by 2 ranks x 1 thread in 0.42 s, 2.83 GB/s;
//          98% on huge pages (or: to the GPU)
//   DEBUG  start-up 0.61 s: MPI 0.05, model 0.03, weights 0.42, KV 0.01, groups 0.10
//
// Threads: the engine's.
#ifndef PR_LAUNCHER_START_REPORT_H
#define PR_LAUNCHER_START_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/world.h"
#include "runtime/model/shard.h"

typedef enum pr_start_part {
    PR_START_MPI,
    PR_START_MODEL,  // config, tokenizer, headers of the weights, layout
    PR_START_WEIGHTS,
    PR_START_KV,
    PR_START_GROUPS,  // communicators, control plane, workers
    PR_START_PARTS,
} pr_start_part;

// Of one rank.
typedef struct pr_start_weights {
    int64_t read_bytes, packed_bytes;
    int64_t huge_bytes;  // of this process, once the weights were there
    bool on_device;      // they are in memory of the device's own
    int64_t load_ns;
    int32_t threads;
} pr_start_weights;

typedef struct pr_start_report {
    int64_t begin_ns, last_ns;
    int64_t part_ns[PR_START_PARTS];
    pr_start_weights weights;
} pr_start_report;

void pr_start_begin(pr_start_report *report);
// What passed since the last mark belongs to this part.
void pr_start_mark(pr_start_report *report, pr_start_part part);
// After the weights' mark. shard: NULL on a rank that holds none.
void pr_start_note_weights(pr_start_report *report, const pr_shard *shard);

// Collective: sums over the ranks; the first one logs the line. mode: what auto came to.
pr_status pr_start_tell_weights(
    pr_start_report *report, pr_world *world, pr_load_mode mode, bool converted) PR_MUST_CHECK;
void pr_start_tell_parts(const pr_start_report *report);

#endif

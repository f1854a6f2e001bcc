// SPDX-License-Identifier: BSD-3-Clause
// Blocks that jobs on their way to a lane will bring into its cache: with what the lane holds already,
// the cache as it will be when a job that is sent now gets there. Counted, as several jobs may bring one.
// Memory: grows with the blocks of the jobs under way. Cost O(1) per block. Threads: one.
#ifndef PR_SCHEDULER_POLICY_PENDING_BLOCKS_H
#define PR_SCHEDULER_POLICY_PENDING_BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_pending_blocks pr_pending_blocks;

pr_status pr_pending_blocks_create(pr_pending_blocks **pending) PR_MUST_CHECK;
void pr_pending_blocks_destroy(pr_pending_blocks *pending);

// A job with these blocks is sent to the lane / is there or will not come. Without memory some are
// not counted: it is a prediction.
void pr_pending_blocks_add(
    pr_pending_blocks *pending, int32_t lane, const uint64_t *block, int32_t blocks);
void pr_pending_blocks_remove(
    pr_pending_blocks *pending, int32_t lane, const uint64_t *block, int32_t blocks);

bool pr_pending_blocks_has(const pr_pending_blocks *pending, int32_t lane, uint64_t block);

#endif

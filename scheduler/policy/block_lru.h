// SPDX-License-Identifier: BSD-3-Clause
// The blocks of one cache in order of last use, with a maximum: what a group's prefix cache holds (in
// the simulator), or what a policy believes it holds. Touching and inserting a prompt goes tail to head,
// so the head is always more recent than what hangs under it and a tail is evicted first.
//
// With heat, life is longer for what is used often and for what is dear to compute again: a block goes
// when the clock (uses of blocks) passes  last use + most (use log2(uses) + cost x dearness).  A life
// is never cut, uses and dearness of a head are those of its tail or more, so tails still go first.
// Source: GreedyDual-Size-Frequency (Cherkasova, 1998), its inflation replaced by the clock.
//
// Memory: all taken at create. Cost O(1), with heat O(log blocks). Threads: one.
#ifndef PR_SCHEDULER_POLICY_BLOCK_LRU_H
#define PR_SCHEDULER_POLICY_BLOCK_LRU_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_block_lru pr_block_lru;

// Told what comes and goes; NULL: nobody.
typedef struct pr_block_lru_watch {
    void *context;
    void (*stored)(void *context, uint64_t block);
    void (*evicted)(void *context, uint64_t block);
} pr_block_lru_watch;

pr_status pr_block_lru_create(
    int32_t most_blocks, const pr_block_lru_watch *watch, pr_block_lru **lru) PR_MUST_CHECK;
// Parts of an LRU's life that a block gets on top: for each doubling of its uses; for each time it is
// dearer than the cheapest.
typedef struct pr_block_heat {
    double use, cost;
} pr_block_heat;

// Of an empty cache.
pr_status pr_block_lru_heat(pr_block_lru *lru, const pr_block_heat *heat) PR_MUST_CHECK;
// How dear the prompt is whose blocks are touched and inserted next: time to compute its last token
// over that of its first, less one.
void pr_block_lru_value(pr_block_lru *lru, double cost);
void pr_block_lru_destroy(pr_block_lru *lru);

bool pr_block_lru_holds(const pr_block_lru *lru, uint64_t block);
int32_t pr_block_lru_depth(const pr_block_lru *lru, const uint64_t *block, int32_t blocks);
void pr_block_lru_touch(
    pr_block_lru *lru, const uint64_t *block, int32_t blocks);  // those it holds
void pr_block_lru_insert(pr_block_lru *lru, const uint64_t *block, int32_t blocks);  // and touches
int32_t pr_block_lru_count(const pr_block_lru *lru);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Which lanes hold which prefix blocks: one table on rank 0 over all lanes. A block is named by the
// hash of its whole prefix (chained), so equal hash = equal prefix. Blocks are coarse here (256-512
// tokens); the fine ones are the lane's own business (runtime/cache/kv_cache.h).
//
//   hash -> up to 5 lanes inline | count + bitmap      32 bytes an entry (block_table.h): at most 63
//                                                      bytes per block, bitmaps apart
//
// A block that (nearly) every lane holds, e.g. a system prompt, is a count and a bitmap: nothing
// here or in placement ever walks its holders. Lookups issue their prefetches first, so the cost of
// a prompt is about one memory latency, not one per block.
// The map is a guide, not the truth about KV: who acts on it compares tokens.
// Memory: grows with the number of blocks, which the lanes' caches bound; a few slots move with each
// add, so no add waits for all. Bitmaps come from a pool. Threads: one. Source: ours; figures to beat in
// docs/scheduling.md.
#ifndef PR_SCHEDULER_DISPATCH_CACHE_MAP_H
#define PR_SCHEDULER_DISPATCH_CACHE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

typedef struct pr_cache_map pr_cache_map;

pr_status pr_cache_map_create(int32_t lanes, pr_cache_map **map) PR_MUST_CHECK;
void pr_cache_map_destroy(pr_cache_map *map);

// The lane holds the block from now on / no more. Adding twice or removing what is not held: no effect.
pr_status pr_cache_map_add(pr_cache_map *map, uint64_t block, int32_t lane) PR_MUST_CHECK;
void pr_cache_map_remove(pr_cache_map *map, uint64_t block, int32_t lane);

// Only advice: these blocks (a few dozen at most) will be added, removed or looked up one by one now, so
// their memory had better be on its way.
void pr_cache_map_expect(const pr_cache_map *map, const uint64_t *block, int32_t blocks);

bool pr_cache_map_holds(const pr_cache_map *map, uint64_t block, int32_t lane);
int32_t pr_cache_map_holders(const pr_cache_map *map, uint64_t block);  // how many lanes
// The holder with the smallest number >= from (0..lanes), cyclic; -1: no lane holds it.
int32_t pr_cache_map_holder(const pr_cache_map *map, uint64_t block, int32_t from);

// Leading blocks of a prompt that the lane holds without a gap / that one lane or another holds.
int32_t
pr_cache_map_depth(const pr_cache_map *map, const uint64_t *block, int32_t blocks, int32_t lane);
// Leading blocks that the lane holds without a gap and the other lane does not.
int32_t pr_cache_map_run(
    const pr_cache_map *map, const uint64_t *block, int32_t blocks, int32_t lane, int32_t other);
int32_t pr_cache_map_union_depth(const pr_cache_map *map, const uint64_t *block, int32_t blocks);

// A lane worth looking at for a prompt.
typedef struct pr_cache_candidate {
    int32_t lane;
    int32_t depth;  // leading blocks it holds
} pr_cache_candidate;

// A block with more holders than this is never walked holder by holder.
enum { PR_CACHE_MAP_FEW = 5 };

// The union depth in *depth and up to `most` lanes that hold the deepest prefixes, deepest first
// (ties: lower lane first): the lanes that hold the prompt without a gap up to and with its first block
// of few holders. No lane can be deeper than these; a universal block brings none. Returns how many,
// PR_CACHE_MAP_FEW at most.
int32_t pr_cache_map_candidates(
    const pr_cache_map *map,
    const uint64_t *block,
    int32_t blocks,
    int32_t *depth,
    pr_cache_candidate *candidate,
    int32_t most);

int64_t pr_cache_map_blocks(const pr_cache_map *map);   // distinct
int64_t pr_cache_map_copies(const pr_cache_map *map);   // (block, lane) pairs
int64_t pr_cache_map_changes(const pr_cache_map *map);  // pairs added and removed since create
int32_t pr_cache_map_copies_of(const pr_cache_map *map, int32_t lane);
int64_t pr_cache_map_size_bytes(const pr_cache_map *map);  // memory taken

// Asserts every invariant: each entry is found by its key, counts match holders.
void pr_cache_map_check(const pr_cache_map *map);

#endif

// SPDX-License-Identifier: BSD-3-Clause
// What a policy believes the lanes' caches to hold, from its own decisions alone: each prompt it sends to
// a lane enters that lane's shadow at once, long before the lane has computed it. Routers that stand
// outside the engines know no more; on arrival such a view is even ahead of the truth.
//
//   note(lane, blocks) --> the lane's LRU --stored, evicted--> map of all lanes
//
// Memory: as large as the caches it mirrors. Cost: O(1) per block. Threads: one.
#ifndef PR_SCHEDULER_POLICY_SHADOW_CACHE_H
#define PR_SCHEDULER_POLICY_SHADOW_CACHE_H

#include <stdint.h>

#include "runtime/base/status.h"
#include "scheduler/dispatch/cache_map.h"

typedef struct pr_shadow_cache pr_shadow_cache;

pr_status pr_shadow_cache_create(int32_t lanes, int32_t blocks_of_a_lane, pr_shadow_cache **shadow)
    PR_MUST_CHECK;
void pr_shadow_cache_destroy(pr_shadow_cache *shadow);

// The lane will hold these.
void pr_shadow_cache_note(
    pr_shadow_cache *shadow, int32_t lane, const uint64_t *block, int32_t blocks);

// Which lane is believed to hold what.
const pr_cache_map *pr_shadow_cache_map(const pr_shadow_cache *shadow);

#endif

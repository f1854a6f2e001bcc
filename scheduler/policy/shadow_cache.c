// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/policy/shadow_cache.h"

#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/policy/block_lru.h"

typedef struct pr_shadow_lane {
    pr_shadow_cache *shadow;
    int32_t number;
    pr_block_lru *lru;
} pr_shadow_lane;

struct pr_shadow_cache {
    int32_t lanes;
    pr_shadow_lane *lane;  // [lanes]
    pr_cache_map *map;
};

// A view may lack a block: without memory for it, it does.
static void stored(void *context, uint64_t block)
{
    pr_shadow_lane *lane = context;
    pr_status status = pr_cache_map_add(lane->shadow->map, block, lane->number);
    (void)status;
}

static void evicted(void *context, uint64_t block)
{
    pr_shadow_lane *lane = context;
    pr_cache_map_remove(lane->shadow->map, block, lane->number);
}

static pr_status create_lanes(pr_shadow_cache *shadow, int32_t lanes, int32_t blocks)
{
    PR_TRY(pr_cache_map_create(lanes, &shadow->map));
    shadow->lane = calloc((size_t)lanes, sizeof *shadow->lane);
    if (!shadow->lane)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory for %d lanes", lanes);
    shadow->lanes = lanes;
    for (int32_t l = 0; l < lanes; l++) {
        pr_shadow_lane *lane = &shadow->lane[l];
        *lane = (pr_shadow_lane){.shadow = shadow, .number = l};
        pr_block_lru_watch watch = {lane, stored, evicted};
        PR_TRY(pr_block_lru_create(blocks, &watch, &lane->lru));
    }
    return PR_OK;
}

pr_status pr_shadow_cache_create(int32_t lanes, int32_t blocks_of_a_lane, pr_shadow_cache **shadow)
{
    pr_shadow_cache *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory");
    pr_status status = create_lanes(made, lanes, blocks_of_a_lane);
    if (status != PR_OK) {
        pr_shadow_cache_destroy(made);
        return status;
    }
    *shadow = made;
    return PR_OK;
}

void pr_shadow_cache_destroy(pr_shadow_cache *shadow)
{
    if (!shadow)
        return;
    for (int32_t l = 0; l < shadow->lanes; l++)
        pr_block_lru_destroy(shadow->lane[l].lru);
    pr_cache_map_destroy(shadow->map);
    free(shadow->lane);
    free(shadow);
}

void pr_shadow_cache_note(
    pr_shadow_cache *shadow, int32_t lane, const uint64_t *block, int32_t blocks)
{
    pr_block_lru_insert(shadow->lane[lane].lru, block, blocks);
}

const pr_cache_map *pr_shadow_cache_map(const pr_shadow_cache *shadow) { return shadow->map; }

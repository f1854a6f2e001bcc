// SPDX-License-Identifier: BSD-3-Clause
// What the lanes' pools hold, as a listener knows it.
#ifndef PR_TESTS_KV_MIRROR_H
#define PR_TESTS_KV_MIRROR_H

#include "runtime/cache/kv_cache.h"
#include "runtime/cache/prefix_index.h"
#include "sim_worker.h"

enum { KV_MIRROR_BLOCKS = 4096 };

typedef struct kv_mirror {
    int32_t blocks;
    int64_t stored, evicted;
    struct {
        int32_t group, lane;
        uint64_t chain;
    } block[KV_MIRROR_BLOCKS];
} kv_mirror;

static inline int32_t
kv_mirror_find(const kv_mirror *mirror, int32_t group, int32_t lane, uint64_t chain)
{
    int32_t i = 0;
    while (i < mirror->blocks && (mirror->block[i].chain != chain ||
                                  mirror->block[i].group != group || mirror->block[i].lane != lane))
        i++;
    return i;
}

static inline void
kv_mirror_stored(void *context, int32_t group, int32_t lane, const pr_kv_block *block)
{
    kv_mirror *mirror = context;
    SIM_ASSERT(kv_mirror_find(mirror, group, lane, block->chain) == mirror->blocks);
    SIM_ASSERT(mirror->blocks < KV_MIRROR_BLOCKS);
    if (block->depth == 1)
        SIM_ASSERT(block->parent == pr_prefix_index_root_chain(block->salt));
    else
        SIM_ASSERT(kv_mirror_find(mirror, group, lane, block->parent) < mirror->blocks);
    SIM_ASSERT(
        block->chain == pr_prefix_index_next_chain(block->parent, block->token, block->tokens));
    mirror->block[mirror->blocks].group = group;
    mirror->block[mirror->blocks].lane = lane;
    mirror->block[mirror->blocks++].chain = block->chain;
    mirror->stored++;
}

static inline void kv_mirror_evicted(void *context, int32_t group, int32_t lane, uint64_t chain)
{
    kv_mirror *mirror = context;
    int32_t i = kv_mirror_find(mirror, group, lane, chain);
    SIM_ASSERT(i < mirror->blocks);
    mirror->block[i] = mirror->block[--mirror->blocks];
    mirror->evicted++;
}

#endif

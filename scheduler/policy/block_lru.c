// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/policy/block_lru.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "scheduler/dispatch/min_heap.h"

// Entry 0 is the ring's anchor: anchor.next is the most recent block, anchor.prev the least. With heat,
// the order is the heap's and the ring is not used.
typedef struct pr_lru_entry {
    uint64_t block;
    int32_t next, prev;
    int32_t at, uses;  // in the heap
    double used;       // the clock when it was used last
} pr_lru_entry;

struct pr_block_lru {
    pr_block_lru_watch watch;
    int32_t most, count;
    uint32_t mask;
    pr_lru_entry *entry;  // [1 + most]
    int32_t *slot;        // [mask + 1] entry of a block, 0: empty; linear probing, load <= 1/2
    bool heated;
    pr_block_heat heat;
    double worth;      // of what is used now, in blocks of longer life
    double clock;      // uses of blocks so far
    pr_min_heap cold;  // entries by the time at which their life ends
};

pr_status
pr_block_lru_create(int32_t most_blocks, const pr_block_lru_watch *watch, pr_block_lru **lru)
{
    if (most_blocks < 1 || most_blocks > (1 << 29))
        return pr_fail(PR_ERR_ARGUMENT, "block lru: %d blocks, 1..2^29 are possible", most_blocks);
    uint32_t slots = 2;
    while (slots < 2 * (uint32_t)most_blocks)
        slots *= 2;
    pr_block_lru *made = calloc(1, sizeof *made);
    if (made) {
        // Zero pages are the system's until touched: a large maximum costs what is used of it.
        made->entry = calloc((size_t)most_blocks + 1, sizeof *made->entry);
        made->slot = calloc(slots, sizeof *made->slot);
    }
    if (!made || !made->entry || !made->slot) {
        pr_block_lru_destroy(made);
        return pr_fail(PR_ERR_RESOURCE, "block lru: no memory for %d blocks", most_blocks);
    }
    made->most = most_blocks;
    made->mask = slots - 1;
    if (watch)
        made->watch = *watch;
    *lru = made;
    return PR_OK;
}

void pr_block_lru_destroy(pr_block_lru *lru)
{
    if (!lru)
        return;
    pr_min_heap_clear(&lru->cold);
    free(lru->entry);
    free(lru->slot);
    free(lru);
}

static bool colder(const void *a, const void *b)
{
    return ((const pr_lru_entry *)a)->used < ((const pr_lru_entry *)b)->used;
}

pr_status pr_block_lru_heat(pr_block_lru *lru, const pr_block_heat *heat)
{
    assert(lru->count == 0);
    lru->heated = true;
    lru->heat = *heat;
    lru->cold.index_offset = offsetof(pr_lru_entry, at);
    lru->cold.before = colder;
    return pr_min_heap_reserve(&lru->cold, lru->most);
}

void pr_block_lru_value(pr_block_lru *lru, double cost) { lru->worth = lru->heat.cost * cost; }

static uint32_t home(const pr_block_lru *lru, uint64_t block)
{
    return (uint32_t)((block * 0x9e3779b97f4a7c15u) >> 32) & lru->mask;
}

// The slot that holds the block, or the empty one where it would go.
static uint32_t find(const pr_block_lru *lru, uint64_t block)
{
    uint32_t at = home(lru, block);
    while (lru->slot[at] && lru->entry[lru->slot[at]].block != block)
        at = (at + 1) & lru->mask;
    return at;
}

// Empties a slot and moves those that were probed past it back, so that no search stops early.
static void erase(pr_block_lru *lru, uint32_t hole)
{
    for (uint32_t at = (hole + 1) & lru->mask; lru->slot[at]; at = (at + 1) & lru->mask) {
        uint32_t from = home(lru, lru->entry[lru->slot[at]].block);
        if (((at - from) & lru->mask) >= ((at - hole) & lru->mask)) {
            lru->slot[hole] = lru->slot[at];
            hole = at;
        }
    }
    lru->slot[hole] = 0;
}

static void unlink_entry(pr_block_lru *lru, int32_t at)
{
    pr_lru_entry *entry = &lru->entry[at];
    lru->entry[entry->prev].next = entry->next;
    lru->entry[entry->next].prev = entry->prev;
}

static void link_first(pr_block_lru *lru, int32_t at)
{
    int32_t second = lru->entry[0].next;
    lru->entry[at].next = second;
    lru->entry[at].prev = 0;
    lru->entry[second].prev = at;
    lru->entry[0].next = at;
}

// When its life ends, on the clock: a cache of `most` blocks forgets what was not used for `most` uses.
static double end_of_life(const pr_block_lru *lru, const pr_lru_entry *entry)
{
    return lru->clock + lru->most * (lru->heat.use * log2(entry->uses) + lru->worth);
}

static void add_entry(pr_block_lru *lru, int32_t at)
{
    if (!lru->heated) {
        link_first(lru, at);
        return;
    }
    pr_lru_entry *entry = &lru->entry[at];
    entry->uses = 1;
    entry->used = ++lru->clock;
    pr_min_heap_put(&lru->cold, end_of_life(lru, entry), entry);
}

static void refresh(pr_block_lru *lru, int32_t at, bool again)
{
    if (!lru->heated) {
        unlink_entry(lru, at);
        link_first(lru, at);
        return;
    }
    pr_lru_entry *entry = &lru->entry[at];
    entry->uses += again;
    entry->used = ++lru->clock;
    double end = end_of_life(lru, entry);
    if (end > lru->cold.node[entry->at].key)
        pr_min_heap_change(&lru->cold, entry->at, end);
}

// Takes the entry whose turn it is out of the order.
static int32_t drop_entry(pr_block_lru *lru)
{
    int32_t last = lru->entry[0].prev;
    if (!lru->heated) {
        unlink_entry(lru, last);
        return last;
    }
    pr_lru_entry *entry = pr_min_heap_first(&lru->cold);
    pr_min_heap_take(&lru->cold, entry->at);
    return (int32_t)(entry - lru->entry);
}

bool pr_block_lru_holds(const pr_block_lru *lru, uint64_t block)
{
    return lru->slot[find(lru, block)] != 0;
}

int32_t pr_block_lru_depth(const pr_block_lru *lru, const uint64_t *block, int32_t blocks)
{
    int32_t depth = 0;
    while (depth < blocks && pr_block_lru_holds(lru, block[depth]))
        depth++;
    return depth;
}

void pr_block_lru_touch(pr_block_lru *lru, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = blocks - 1; i >= 0; i--) {
        int32_t at = lru->slot[find(lru, block[i])];
        if (at)
            refresh(lru, at, true);
    }
}

// An entry for one more block: a fresh one, or that of the block whose turn it is.
static int32_t take_entry(pr_block_lru *lru)
{
    if (lru->count < lru->most)
        return ++lru->count;
    int32_t last = drop_entry(lru);
    uint64_t evicted = lru->entry[last].block;
    erase(lru, find(lru, evicted));
    if (lru->watch.evicted)
        lru->watch.evicted(lru->watch.context, evicted);
    return last;
}

void pr_block_lru_insert(pr_block_lru *lru, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = blocks - 1; i >= 0; i--) {
        int32_t at = lru->slot[find(lru, block[i])];
        if (at) {
            refresh(lru, at, false);
            continue;
        }
        at = take_entry(lru);
        lru->entry[at].block = block[i];
        lru->slot[find(lru, block[i])] = at;
        add_entry(lru, at);
        if (lru->watch.stored)
            lru->watch.stored(lru->watch.context, block[i]);
    }
}

int32_t pr_block_lru_count(const pr_block_lru *lru) { return lru->count; }

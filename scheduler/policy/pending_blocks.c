// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/policy/pending_blocks.h"

#include <stdlib.h>

#include "runtime/base/log.h"

enum { FIRST_SLOTS = 1024 };

typedef struct pr_pending_slot {
    uint64_t block;
    int32_t lane, count;  // count 0: empty
} pr_pending_slot;

struct pr_pending_blocks {
    pr_pending_slot *slot;  // [mask + 1], linear probing, load <= 1/2
    uint64_t mask, used;
};

pr_status pr_pending_blocks_create(pr_pending_blocks **pending)
{
    pr_pending_blocks *made = calloc(1, sizeof *made);
    if (made)
        made->slot = calloc(FIRST_SLOTS, sizeof *made->slot);
    if (!made || !made->slot) {
        free(made);
        return pr_fail(PR_ERR_RESOURCE, "policy: no memory");
    }
    made->mask = FIRST_SLOTS - 1;
    *pending = made;
    return PR_OK;
}

void pr_pending_blocks_destroy(pr_pending_blocks *pending)
{
    if (!pending)
        return;
    free(pending->slot);
    free(pending);
}

static uint64_t home(const pr_pending_blocks *pending, int32_t lane, uint64_t block)
{
    uint64_t key = (block ^ ((uint64_t)lane << 40)) * 0x9e3779b97f4a7c15u;
    return (key >> 20) & pending->mask;
}

static uint64_t find(const pr_pending_blocks *pending, int32_t lane, uint64_t block)
{
    uint64_t at = home(pending, lane, block);
    while (pending->slot[at].count &&
           (pending->slot[at].block != block || pending->slot[at].lane != lane))
        at = (at + 1) & pending->mask;
    return at;
}

static bool make_room(pr_pending_blocks *pending)
{
    if (2 * (pending->used + 1) <= pending->mask + 1)
        return true;
    pr_pending_blocks grown = {.mask = 2 * pending->mask + 1, .used = pending->used};
    grown.slot = calloc(grown.mask + 1, sizeof *grown.slot);
    if (!grown.slot)
        return false;
    for (uint64_t i = 0; i <= pending->mask; i++) {
        const pr_pending_slot *slot = &pending->slot[i];
        if (slot->count)
            grown.slot[find(&grown, slot->lane, slot->block)] = *slot;
    }
    free(pending->slot);
    *pending = grown;
    return true;
}

void pr_pending_blocks_add(
    pr_pending_blocks *pending, int32_t lane, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = 0; i < blocks && make_room(pending); i++) {
        pr_pending_slot *slot = &pending->slot[find(pending, lane, block[i])];
        pending->used += slot->count == 0;
        *slot = (pr_pending_slot){block[i], lane, slot->count + 1};
    }
}

// Empties a slot and moves those that were probed past it back, so that no search stops early.
static void erase(pr_pending_blocks *pending, uint64_t hole)
{
    uint64_t mask = pending->mask;
    for (uint64_t at = (hole + 1) & mask; pending->slot[at].count; at = (at + 1) & mask) {
        uint64_t from = home(pending, pending->slot[at].lane, pending->slot[at].block);
        if (((at - from) & mask) >= ((at - hole) & mask)) {
            pending->slot[hole] = pending->slot[at];
            hole = at;
        }
    }
    pending->slot[hole].count = 0;
    pending->used--;
}

void pr_pending_blocks_remove(
    pr_pending_blocks *pending, int32_t lane, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = 0; i < blocks; i++) {
        uint64_t at = find(pending, lane, block[i]);
        if (pending->slot[at].count == 1)
            erase(pending, at);
        else if (pending->slot[at].count > 1)
            pending->slot[at].count--;
    }
}

bool pr_pending_blocks_has(const pr_pending_blocks *pending, int32_t lane, uint64_t block)
{
    return pending->slot[find(pending, lane, block)].count > 0;
}

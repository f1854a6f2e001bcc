// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/dispatch/block_table.h"

#include <assert.h>
#include <sys/mman.h>

#include "runtime/base/log.h"

enum {
    FIRST_HOMES = 256,
    PAST_HOMES = 4096,       // a key is displaced so far with a chance below e^-300 at load 0.7
    MOVED_PER_INSERT = 8,    // while growing; 4 would do to be done before the next time
    RELEASE_BYTES = 2 << 20  // of the old table at once: a huge page
};

static const double MAX_LOAD = 0.7, GROWTH = 1.375;

static_assert(sizeof(pr_block_entry) == 32, "two entries share a cache line");

static pr_status slots_create(uint64_t homes, pr_block_slots *made)
{
    size_t size_bytes = (homes + PAST_HOMES) * sizeof(pr_block_entry);
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a table of %llu blocks", (unsigned long long)homes);
    // Only advice: a kernel without huge pages serves small ones.
    madvise(memory, size_bytes, MADV_HUGEPAGE);
    *made = (pr_block_slots){
        .entry = memory,
        .homes = homes,
        .most = (int64_t)((double)homes * MAX_LOAD),
        .size_bytes = size_bytes};
    return PR_OK;
}

static void slots_destroy(pr_block_slots *slots)
{
    if (slots->entry)
        munmap(slots->entry, slots->size_bytes);
    *slots = (pr_block_slots){0};
}

pr_status pr_block_table_create(pr_block_table *table)
{
    *table = (pr_block_table){.frontier = 1};
    return slots_create(FIRST_HOMES, &table->now);
}

void pr_block_table_destroy(pr_block_table *table)
{
    slots_destroy(&table->old);
    slots_destroy(&table->now);
}

static const pr_block_slots *slots_of(const pr_block_table *table, const pr_block_entry *at)
{
    const pr_block_slots *old = &table->old;
    bool in_old = old->entry && at >= old->entry && at < old->entry + old->homes + PAST_HOMES;
    return in_old ? old : &table->now;
}

// Puts the entry at its place; what stands there and behind it up to the next gap moves by one.
static inline void
place(const pr_block_slots *slots, pr_block_entry *at, const pr_block_entry *entry)
{
    pr_block_entry *gap = at;
    while (gap->holders > 0)
        gap++;
    assert(gap + 4 < slots->entry + slots->homes + PAST_HOMES);
    (void)slots;
    for (; gap > at; gap--)
        *gap = gap[-1];
    *at = *entry;
}

// ---- Growing ----

static pr_status begin_growing(pr_block_table *table)
{
    pr_block_slots larger;
    PR_TRY(slots_create((uint64_t)((double)table->now.homes * GROWTH), &larger));
    table->old = table->now;
    table->now = larger;
    table->frontier = 0;
    table->released_bytes = 0;
    return PR_OK;
}

static void end_growing(pr_block_table *table)
{
    slots_destroy(&table->old);
    table->frontier = 1;  // every key has old home 0 now
    table->released_bytes = 0;
}

static void release_moved(pr_block_table *table)
{
    size_t moved_bytes = table->frontier * sizeof(pr_block_entry) - table->released_bytes;
    if (moved_bytes < 2 * (size_t)RELEASE_BYTES)
        return;
    size_t size_bytes = moved_bytes / RELEASE_BYTES * RELEASE_BYTES;
    madvise((char *)table->old.entry + table->released_bytes, size_bytes, MADV_DONTNEED);
    table->released_bytes += size_bytes;
}

// Takes the frontier some entries further, to just behind an empty one.
static void move_some(pr_block_table *table)
{
    const pr_block_slots *now = &table->now;
    const pr_block_entry *from = table->old.entry + table->frontier;
    const pr_block_entry *enough = from + MOVED_PER_INSERT;
    for (; from < enough || from->holders > 0; from++) {
        if (from->holders == 0)
            continue;
        pr_block_entry *home = now->entry + pr_block_slots_home(now, from->key);
        place(now, pr_block_entry_seek(home, from->key), from);
    }
    table->frontier = (uint64_t)(from + 1 - table->old.entry);
    if (table->frontier >= table->old.homes)
        end_growing(table);
    else
        release_moved(table);
}

static pr_status make_room(pr_block_table *table)
{
    if (table->old.homes > 0)
        move_some(table);
    if (table->blocks < table->now.most)
        return PR_OK;
    assert(table->old.homes == 0);
    return begin_growing(table);
}

pr_status
pr_block_table_insert(pr_block_table *table, pr_block_entry *at, const pr_block_entry *entry)
{
    if (table->old.homes > 0 || table->blocks >= table->now.most) {
        PR_TRY(make_room(table));
        at = pr_block_entry_seek(pr_block_table_home(table, entry->key), entry->key);
    }
    place(slots_of(table, at), at, entry);
    table->blocks++;
    return PR_OK;
}

void pr_block_table_erase(pr_block_table *table, pr_block_entry *at)
{
    const pr_block_slots *slots = slots_of(table, at);
    pr_block_entry *end = at + 1;  // of the displaced ones behind it, which move back
    while (end->holders > 0 && slots->entry + pr_block_slots_home(slots, end->key) < end)
        end++;
    for (; at + 1 < end; at++)
        *at = at[1];
    *at = (pr_block_entry){0};
    table->blocks--;
}

// ---- All entries ----

static const pr_block_entry *
next_of(const pr_block_slots *slots, uint64_t first, const pr_block_entry *before)
{
    if (slots->homes == 0)
        return NULL;
    const pr_block_entry *end = slots->entry + slots->homes + PAST_HOMES;
    for (const pr_block_entry *at = before ? before + 1 : slots->entry + first; at < end; at++) {
        if (at->holders > 0)
            return at;
    }
    return NULL;
}

const pr_block_entry *pr_block_table_next(const pr_block_table *table, const pr_block_entry *before)
{
    if (!before || slots_of(table, before) == &table->now) {
        const pr_block_entry *next = next_of(&table->now, 0, before);
        if (next)
            return next;
        before = NULL;
    }
    return next_of(&table->old, table->frontier, before);
}

size_t pr_block_table_size_bytes(const pr_block_table *table)
{
    if (table->old.homes == 0)
        return table->now.size_bytes;
    // The larger one is touched as far as the frontier has come.
    double moved = (double)table->frontier / (double)table->old.homes;
    size_t touched_bytes = (size_t)((double)table->now.size_bytes * moved);
    return touched_bytes + table->old.size_bytes - table->released_bytes;
}

void pr_block_table_check(const pr_block_table *table)
{
    int64_t blocks = 0;
    const pr_block_entry *before = NULL;
    for (const pr_block_entry *at = NULL; (at = pr_block_table_next(table, at)); before = at) {
        assert(pr_block_entry_seek(pr_block_table_home(table, at->key), at->key) == at);
        assert(!before || before->key > at->key);
        blocks++;
    }
    assert(blocks == table->blocks);
    (void)blocks, (void)before;
}

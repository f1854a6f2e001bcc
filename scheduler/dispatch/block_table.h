// SPDX-License-Identifier: BSD-3-Clause
// A hash table of blocks and their holders, for the cache map: 32 bytes an entry, load 0.51 to 0.7, that
// grows without ever stopping. Open addressing, sorted: an entry's home is its key's share of the table
// ((1 - key / 2^64) * homes, rounded down to a cache line), and of two keys the larger one always stands
// first. So a search ends at the first key that is not larger, an empty entry (key 0) among them; a
// removal shifts back and leaves nothing behind; and growing is one sweep:
//
//   old  [ moved, given back |frontier  keys not moved yet      ]   homes
//   now  [ keys moved, and new ones before it |     empty       ]   homes * 1.375
//
// The frontier is a home of the old table. It only stops behind an empty entry, so that no key stands
// displaced across it, and every insert takes it a few entries further.
// Keys must be spread evenly over 64 bits and not be for others to choose. What searches is inline: each
// is a few loads. Threads: one. Source: ours; order by hash as in Amble and Knuth, 1974.
#ifndef PR_SCHEDULER_DISPATCH_BLOCK_TABLE_H
#define PR_SCHEDULER_DISPATCH_BLOCK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { PR_BLOCK_ENTRY_LANES = 5 };

typedef struct pr_block_entry {
    uint64_t key;
    int32_t holders;                     // 0: empty, and so is the key
    int32_t lane[PR_BLOCK_ENTRY_LANES];  // the cache map's
} pr_block_entry;

typedef struct pr_block_slots {
    pr_block_entry *entry;  // [homes + some past them]
    uint64_t homes;
    int64_t most;  // blocks, by its load
    size_t size_bytes;
} pr_block_slots;

typedef struct pr_block_table {
    pr_block_slots now, old;  // old.homes is 0 when nothing moves
    uint64_t frontier;        // keys with an old home before it are in `now`
    size_t released_bytes;    // of old
    int64_t blocks;
} pr_block_table;

pr_status pr_block_table_create(pr_block_table *table) PR_MUST_CHECK;
void pr_block_table_destroy(pr_block_table *table);

static inline uint64_t pr_block_slots_home(const pr_block_slots *slots, uint64_t key)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)~key * (slots->homes / 2) >> 64) * 2;
}

// Where a search for the key begins.
static inline pr_block_entry *pr_block_table_home(const pr_block_table *table, uint64_t key)
{
    bool moved = pr_block_slots_home(&table->old, key) < table->frontier;
    const pr_block_slots *slots = moved ? &table->now : &table->old;
    return slots->entry + pr_block_slots_home(slots, key);
}

// The same, with the memory that the search will read on its way: two lines.
static inline pr_block_entry *pr_block_table_fetch(const pr_block_table *table, uint64_t key)
{
    pr_block_entry *home = pr_block_table_home(table, key);
    __builtin_prefetch(home);
    __builtin_prefetch(home + 2);
    return home;
}

// Where the key stands, or would stand, from its home. Counts instead of asking entry by entry: a branch
// on each would be guessed wrong every other time.
static inline pr_block_entry *pr_block_entry_seek(pr_block_entry *at, uint64_t key)
{
    for (;;) {
        int32_t before =
            (at[0].key > key) + (at[1].key > key) + (at[2].key > key) + (at[3].key > key);
        at += before;
        if (before < 4)
            return at;
    }
}

static inline bool pr_block_entry_is(const pr_block_entry *at, uint64_t key)
{
    return at->key == key && at->holders > 0;
}

// at: where its key, which is not in the table, would stand. Entries move.
pr_status pr_block_table_insert(
    pr_block_table *table, pr_block_entry *at, const pr_block_entry *entry) PR_MUST_CHECK;
void pr_block_table_erase(pr_block_table *table, pr_block_entry *at);

// The entry after this one, in no order that means anything; NULL: the first / no more.
const pr_block_entry *
pr_block_table_next(const pr_block_table *table, const pr_block_entry *before);

size_t pr_block_table_size_bytes(const pr_block_table *table);  // memory taken

// Asserts every invariant: order, each entry is found by its key, the count.
void pr_block_table_check(const pr_block_table *table);

#endif

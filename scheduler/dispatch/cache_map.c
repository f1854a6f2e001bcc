// SPDX-License-Identifier: BSD-3-Clause
#include "scheduler/dispatch/cache_map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"
#include "scheduler/dispatch/block_table.h"

enum {
    AHEAD = 32,         // blocks of a prompt whose entries are fetched at once
    AHEAD_OF_LANE = 4,  // the same, first, for one lane: most lanes do not hold much of a prompt
    BITMAPS_PER_SLAB = 64,
};

static_assert((int)PR_CACHE_MAP_FEW == (int)PR_BLOCK_ENTRY_LANES, "few lanes stand in the entry");

struct pr_cache_map {
    int32_t lanes;
    int32_t *copies_of;  // [lanes]
    // Keeps a key's place from whoever can choose blocks. No answer depends on it.
    uint64_t seed;
    pr_block_table table;

    int32_t bitmap_words;
    int32_t slabs;
    uint64_t **slab;      // [slabs] BITMAPS_PER_SLAB bitmaps each
    int32_t free_bitmap;  // -1: none; the next one stands in a free bitmap's first word, rest is 0

    int64_t copies, changes;
};

// ---- Bitmaps ----

static uint64_t *bitmap_at(const pr_cache_map *map, int32_t index)
{
    size_t within = (size_t)(index % BITMAPS_PER_SLAB) * (size_t)map->bitmap_words;
    return map->slab[index / BITMAPS_PER_SLAB] + within;
}

static pr_status add_slab(pr_cache_map *map)
{
    uint64_t **slab = realloc(map->slab, ((size_t)map->slabs + 1) * sizeof *slab);
    if (slab) {
        map->slab = slab;
        slab[map->slabs] = calloc(BITMAPS_PER_SLAB, (size_t)map->bitmap_words * sizeof(uint64_t));
    }
    if (!slab || !slab[map->slabs])
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for the holders of %d widely held blocks",
            (map->slabs + 1) * BITMAPS_PER_SLAB);
    int32_t first = map->slabs++ * BITMAPS_PER_SLAB;
    for (int32_t i = first + BITMAPS_PER_SLAB - 1; i >= first; i--) {
        bitmap_at(map, i)[0] = (uint64_t)(uint32_t)map->free_bitmap;
        map->free_bitmap = i;
    }
    return PR_OK;
}

// From lanes in the entry to a bitmap.
static pr_status spread(pr_cache_map *map, pr_block_entry *entry)
{
    if (map->free_bitmap < 0)
        PR_TRY(add_slab(map));
    int32_t index = map->free_bitmap;
    uint64_t *bits = bitmap_at(map, index);
    map->free_bitmap = (int32_t)(uint32_t)bits[0];
    bits[0] = 0;
    for (int32_t i = 0; i < entry->holders; i++)
        bits[entry->lane[i] / 64] |= 1ull << (entry->lane[i] % 64);
    entry->lane[0] = index;
    return PR_OK;
}

// From a bitmap with `entry->holders` lanes left to lanes in the entry.
static void gather(pr_cache_map *map, pr_block_entry *entry)
{
    int32_t index = entry->lane[0];
    uint64_t *bits = bitmap_at(map, index);
    int32_t found = 0;
    for (int32_t word = 0; found < entry->holders; word++) {
        for (; bits[word]; bits[word] &= bits[word] - 1)
            entry->lane[found++] = word * 64 + __builtin_ctzll(bits[word]);
    }
    bits[0] = (uint64_t)(uint32_t)map->free_bitmap;
    map->free_bitmap = index;
}

static inline bool has_lane(const pr_cache_map *map, const pr_block_entry *entry, int32_t lane)
{
    if (entry->holders > PR_CACHE_MAP_FEW)
        return bitmap_at(map, entry->lane[0])[lane / 64] >> (lane % 64) & 1;
    for (int32_t i = 0; i < entry->holders; i++) {
        if (entry->lane[i] == lane)
            return true;
    }
    return false;
}

// ---- The map ----

static inline uint64_t key_of(const pr_cache_map *map, uint64_t block)
{
    return pr_hash_mix(block ^ map->seed);
}

// Where the block stands or would stand.
static inline pr_block_entry *seek(const pr_cache_map *map, uint64_t key)
{
    return pr_block_entry_seek(pr_block_table_home(&map->table, key), key);
}

static const pr_block_entry *find(const pr_cache_map *map, uint64_t block)
{
    uint64_t key = key_of(map, block);
    const pr_block_entry *at = seek(map, key);
    return pr_block_entry_is(at, key) ? at : NULL;
}

pr_status pr_cache_map_create(int32_t lanes, pr_cache_map **map)
{
    if (lanes < 1)
        return pr_fail(PR_ERR_ARGUMENT, "a cache map needs at least one lane, not %d", lanes);
    pr_cache_map *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a cache map");
    pr_status status = pr_block_table_create(&made->table);
    made->copies_of = calloc((size_t)lanes, sizeof *made->copies_of);
    if (status == PR_OK && !made->copies_of)
        status = pr_fail(PR_ERR_RESOURCE, "no memory for a cache map of %d lanes", lanes);
    if (status != PR_OK) {
        pr_cache_map_destroy(made);
        return status;
    }
    if (getrandom(&made->seed, sizeof made->seed, GRND_NONBLOCK) != sizeof made->seed)
        made->seed = (uint64_t)(uintptr_t)made;
    made->lanes = lanes;
    made->bitmap_words = (lanes + 63) / 64;
    made->free_bitmap = -1;
    *map = made;
    return PR_OK;
}

void pr_cache_map_destroy(pr_cache_map *map)
{
    if (!map)
        return;
    for (int32_t i = 0; i < map->slabs; i++)
        free(map->slab[i]);
    free(map->slab);
    pr_block_table_destroy(&map->table);
    free(map->copies_of);
    free(map);
}

static pr_status add_holder(pr_cache_map *map, pr_block_entry *at, int32_t lane)
{
    if (has_lane(map, at, lane))
        return PR_OK;
    if (at->holders == PR_CACHE_MAP_FEW)
        PR_TRY(spread(map, at));
    if (at->holders >= PR_CACHE_MAP_FEW)
        bitmap_at(map, at->lane[0])[lane / 64] |= 1ull << (lane % 64);
    else
        at->lane[at->holders] = lane;
    at->holders++;
    map->copies++;
    map->changes++;
    map->copies_of[lane]++;
    return PR_OK;
}

pr_status pr_cache_map_add(pr_cache_map *map, uint64_t block, int32_t lane)
{
    assert(lane >= 0 && lane < map->lanes);
    uint64_t key = key_of(map, block);
    pr_block_entry *at = seek(map, key);
    if (pr_block_entry_is(at, key))
        return add_holder(map, at, lane);
    pr_block_entry entry = {.key = key, .holders = 1, .lane = {lane}};
    PR_TRY(pr_block_table_insert(&map->table, at, &entry));
    map->copies++;
    map->changes++;
    map->copies_of[lane]++;
    return PR_OK;
}

void pr_cache_map_remove(pr_cache_map *map, uint64_t block, int32_t lane)
{
    assert(lane >= 0 && lane < map->lanes);
    uint64_t key = key_of(map, block);
    pr_block_entry *at = seek(map, key);
    if (!pr_block_entry_is(at, key) || !has_lane(map, at, lane))
        return;
    map->copies--;
    map->changes++;
    map->copies_of[lane]--;
    if (at->holders == 1) {
        pr_block_table_erase(&map->table, at);
    } else if (at->holders > PR_CACHE_MAP_FEW) {
        bitmap_at(map, at->lane[0])[lane / 64] &= ~(1ull << (lane % 64));
        if (--at->holders == PR_CACHE_MAP_FEW)
            gather(map, at);
    } else {
        int32_t i = 0;
        while (at->lane[i] != lane)
            i++;
        at->lane[i] = at->lane[--at->holders];
    }
}

void pr_cache_map_expect(const pr_cache_map *map, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = 0; i < blocks; i++)
        pr_block_table_fetch(&map->table, key_of(map, block[i]));
}

bool pr_cache_map_holds(const pr_cache_map *map, uint64_t block, int32_t lane)
{
    const pr_block_entry *at = find(map, block);
    return at && has_lane(map, at, lane);
}

int32_t pr_cache_map_holders(const pr_cache_map *map, uint64_t block)
{
    const pr_block_entry *at = find(map, block);
    return at ? at->holders : 0;
}

// The first lane of a bitmap in [from, map->lanes), -1: none.
static int32_t next_bit(const pr_cache_map *map, const uint64_t *bits, int32_t from)
{
    int32_t word = from / 64;
    uint64_t rest = bits[word] & (~0ull << (from % 64));
    while (rest == 0 && ++word < map->bitmap_words)
        rest = bits[word];
    return rest ? word * 64 + __builtin_ctzll(rest) : -1;
}

int32_t pr_cache_map_holder(const pr_cache_map *map, uint64_t block, int32_t from)
{
    assert(from >= 0 && from <= map->lanes);
    const pr_block_entry *at = find(map, block);
    if (!at)
        return -1;
    if (from == map->lanes)
        from = 0;
    if (at->holders > PR_CACHE_MAP_FEW) {
        const uint64_t *bits = bitmap_at(map, at->lane[0]);
        int32_t lane = next_bit(map, bits, from);
        return lane >= 0 ? lane : next_bit(map, bits, 0);
    }
    int32_t best = -1;
    uint32_t nearest = UINT32_MAX;  // steps upwards from `from`, around the end
    for (int32_t i = 0; i < at->holders; i++) {
        int32_t lane = at->lane[i];
        uint32_t steps = (uint32_t)(lane >= from ? lane - from : lane - from + map->lanes);
        if (steps < nearest) {
            nearest = steps;
            best = lane;
        }
    }
    return best;
}

// ---- A prompt's leading blocks ----

// Goes along a prompt, with the memory of some blocks ahead on its way.
typedef struct prompt_walk {
    const pr_cache_map *map;
    const uint64_t *block;
    int32_t blocks, next;
    int32_t seen;  // blocks whose entries were fetched
    uint64_t key[AHEAD];
    pr_block_entry *home[AHEAD];
} prompt_walk;

// ahead: how many blocks to fetch at first; later it is AHEAD.
static inline void look_ahead(prompt_walk *walk, int32_t ahead)
{
    int32_t left = walk->blocks - walk->seen;
    int32_t end = walk->seen + (left < ahead ? left : ahead);
    for (int32_t i = walk->seen; i < end; i++) {
        uint64_t key = key_of(walk->map, walk->block[i]);
        walk->key[i % AHEAD] = key;
        walk->home[i % AHEAD] = pr_block_table_fetch(&walk->map->table, key);
    }
    walk->seen = end;
}

static inline void walk_begin(
    prompt_walk *walk,
    const pr_cache_map *map,
    const uint64_t *block,
    int32_t blocks,
    int32_t ahead)
{
    walk->map = map;
    walk->block = block;
    walk->blocks = blocks;
    walk->next = walk->seen = 0;
    look_ahead(walk, ahead);
}

// The entry of the next block; NULL: the prompt is over or nobody holds the block.
static inline const pr_block_entry *walk_next(prompt_walk *walk)
{
    if (walk->next == walk->seen) {
        if (walk->next == walk->blocks)
            return NULL;
        look_ahead(walk, AHEAD);
    }
    int32_t i = walk->next++ % AHEAD;
    const pr_block_entry *at = pr_block_entry_seek(walk->home[i], walk->key[i]);
    return pr_block_entry_is(at, walk->key[i]) ? at : NULL;
}

int32_t
pr_cache_map_depth(const pr_cache_map *map, const uint64_t *block, int32_t blocks, int32_t lane)
{
    assert(lane >= 0 && lane < map->lanes);
    prompt_walk walk;
    walk_begin(&walk, map, block, blocks, AHEAD_OF_LANE);
    int32_t depth = 0;
    for (const pr_block_entry *at; (at = walk_next(&walk)) && has_lane(map, at, lane);)
        depth++;
    return depth;
}

int32_t pr_cache_map_run(
    const pr_cache_map *map, const uint64_t *block, int32_t blocks, int32_t lane, int32_t other)
{
    assert(lane >= 0 && lane < map->lanes && other >= 0 && other < map->lanes);
    prompt_walk walk;
    walk_begin(&walk, map, block, blocks, AHEAD);
    int32_t run = 0;
    const pr_block_entry *at;
    while ((at = walk_next(&walk)) && has_lane(map, at, lane) && !has_lane(map, at, other))
        run++;
    return run;
}

int32_t pr_cache_map_union_depth(const pr_cache_map *map, const uint64_t *block, int32_t blocks)
{
    prompt_walk walk;
    walk_begin(&walk, map, block, blocks, AHEAD);
    int32_t depth = 0;
    while (walk_next(&walk))
        depth++;
    return depth;
}

// Those of the entry's lanes that hold all `before` blocks before it.
static int32_t gapless_holders(
    const pr_cache_map *map,
    const pr_block_entry *at,
    const uint64_t *block,
    int32_t before,
    pr_cache_candidate candidate[PR_CACHE_MAP_FEW])
{
    int32_t found = 0;
    for (int32_t i = 0; i < at->holders; i++) {
        int32_t held = 0;
        while (held < before && pr_cache_map_holds(map, block[held], at->lane[i]))
            held++;
        if (held == before)
            candidate[found++] = (pr_cache_candidate){.lane = at->lane[i], .depth = before + 1};
    }
    return found;
}

static bool comes_first(const pr_cache_candidate *a, const pr_cache_candidate *b)
{
    return a->depth > b->depth || (a->depth == b->depth && a->lane < b->lane);
}

static void sort_candidates(pr_cache_candidate *candidate, int32_t candidates)
{
    for (int32_t i = 1; i < candidates; i++) {
        pr_cache_candidate moved = candidate[i];
        int32_t to = i;
        for (; to > 0 && comes_first(&moved, &candidate[to - 1]); to--)
            candidate[to] = candidate[to - 1];
        candidate[to] = moved;
    }
}

int32_t pr_cache_map_candidates(
    const pr_cache_map *map,
    const uint64_t *block,
    int32_t blocks,
    int32_t *depth,
    pr_cache_candidate *candidate,
    int32_t most)
{
    pr_cache_candidate lane[PR_CACHE_MAP_FEW];
    int32_t lanes = -1;  // no block with few holders yet
    prompt_walk walk;
    walk_begin(&walk, map, block, blocks, AHEAD);
    *depth = 0;
    for (const pr_block_entry *at; (at = walk_next(&walk)); ++*depth) {
        if (lanes >= 0) {
            for (int32_t i = 0; i < lanes; i++)
                lane[i].depth += lane[i].depth == *depth && has_lane(map, at, lane[i].lane);
        } else if (at->holders <= PR_CACHE_MAP_FEW) {
            lanes = gapless_holders(map, at, block, *depth, lane);
        }
    }
    if (lanes <= 0)
        return 0;
    sort_candidates(lane, lanes);
    int32_t candidates = lanes < most ? lanes : most;
    memcpy(candidate, lane, (size_t)candidates * sizeof *lane);
    return candidates;
}

// ---- Sizes and invariants ----

int64_t pr_cache_map_blocks(const pr_cache_map *map) { return map->table.blocks; }

int32_t pr_cache_map_copies_of(const pr_cache_map *map, int32_t lane)
{
    return map->copies_of[lane];
}

int64_t pr_cache_map_copies(const pr_cache_map *map) { return map->copies; }

int64_t pr_cache_map_changes(const pr_cache_map *map) { return map->changes; }

int64_t pr_cache_map_size_bytes(const pr_cache_map *map)
{
    size_t bitmaps = (size_t)map->slabs * BITMAPS_PER_SLAB * (size_t)map->bitmap_words * 8;
    size_t lists = (size_t)map->slabs * sizeof *map->slab + (size_t)map->lanes * sizeof(int32_t);
    return (int64_t)(sizeof *map + pr_block_table_size_bytes(&map->table) + bitmaps + lists);
}

static void check_entry(const pr_cache_map *map, const pr_block_entry *at)
{
    if (at->holders > PR_CACHE_MAP_FEW) {
        int32_t bits = 0;
        for (int32_t word = 0; word < map->bitmap_words; word++)
            bits += __builtin_popcountll(bitmap_at(map, at->lane[0])[word]);
        assert(bits == at->holders);
        (void)bits;
        return;
    }
    for (int32_t i = 0; i < at->holders; i++) {
        assert(at->lane[i] >= 0 && at->lane[i] < map->lanes);
        for (int32_t k = 0; k < i; k++)
            assert(at->lane[k] != at->lane[i]);
    }
}

void pr_cache_map_check(const pr_cache_map *map)
{
    pr_block_table_check(&map->table);
    int64_t copies = 0, bitmaps = 0;
    for (const pr_block_entry *at = NULL; (at = pr_block_table_next(&map->table, at));) {
        check_entry(map, at);
        copies += at->holders;
        bitmaps += at->holders > PR_CACHE_MAP_FEW;
    }
    assert(copies == map->copies);
    for (int32_t lane = 0; lane < map->lanes; lane++)
        copies -= map->copies_of[lane];
    assert(copies == 0);
    for (int32_t i = map->free_bitmap; i >= 0; i = (int32_t)(uint32_t)bitmap_at(map, i)[0])
        bitmaps++;
    assert(bitmaps == (int64_t)map->slabs * BITMAPS_PER_SLAB);
    (void)bitmaps;
}

// SPDX-License-Identifier: BSD-3-Clause
// The table is sorted: a block's key is its mixed hash, a key's home is its share of the table
// ((1 - key / 2^64) * homes, rounded down to a cache line), and of two keys the larger one always
// stands first. So a search ends at the first key that is not larger, an empty slot (key 0) among them; a
// removal shifts back and leaves nothing behind; and growing is one sweep:
//
//   old  [ moved, released |frontier  keys not moved yet      ]   homes
//   now  [ keys moved, and new ones before it |   empty       ]   homes * 1.375
//
// The frontier is a home of the old table. It only stops behind an empty slot, so that no key stands
// displaced across it, and every insert takes it a few slots further.
#include "scheduler/cache_map.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "runtime/base/hash.h"
#include "runtime/base/log.h"

enum {
    FIRST_HOMES = 256,
    SLOTS_PAST_HOMES = 4096,  // a key is displaced so far with a chance below e^-300 at load 0.7
    SLOTS_PER_INSERT = 8,     // that move while growing; 4 would do to be done before the next time
    RELEASE_BYTES = 2 << 20,
    AHEAD = 32,         // blocks of a prompt whose slots are fetched at once
    AHEAD_OF_LANE = 4,  // the same, first, for one lane: most lanes do not hold much of a prompt
    BITMAPS_PER_SLAB = 64,
};

static const double MAX_LOAD = 0.7, GROWTH = 1.375;

typedef struct map_slot {
    uint64_t key;
    int32_t holders;                 // 0: empty
    int32_t lane[PR_CACHE_MAP_FEW];  // in no order; lane[0] is a bitmap when there are more
} map_slot;
static_assert(sizeof(map_slot) == 32, "two slots share a cache line");

typedef struct slot_table {
    map_slot *slot;
    uint64_t homes;
    int64_t most;  // blocks, by its load
    size_t size_bytes;
} slot_table;

struct pr_cache_map {
    int32_t lanes;
    int32_t *copies_of;  // [lanes]
    // Keeps a key's place from whoever can choose blocks. No answer depends on it.
    uint64_t seed;
    slot_table now, old;    // old.homes is 0 when nothing moves
    uint64_t frontier;      // keys with an old home before it are in `now`
    size_t released_bytes;  // of old

    int32_t bitmap_words;
    int32_t slabs;
    uint64_t **slab;      // [slabs] BITMAPS_PER_SLAB bitmaps each
    int32_t free_bitmap;  // -1: none; the next one stands in a free bitmap's first word, rest is 0

    int64_t blocks, copies;
    int64_t changes;
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

// From lanes in the slot to a bitmap.
static pr_status spread(pr_cache_map *map, map_slot *slot)
{
    if (map->free_bitmap < 0)
        PR_TRY(add_slab(map));
    int32_t index = map->free_bitmap;
    uint64_t *bits = bitmap_at(map, index);
    map->free_bitmap = (int32_t)(uint32_t)bits[0];
    bits[0] = 0;
    for (int32_t i = 0; i < slot->holders; i++)
        bits[slot->lane[i] / 64] |= 1ull << (slot->lane[i] % 64);
    slot->lane[0] = index;
    return PR_OK;
}

// From a bitmap with `slot->holders` lanes left to lanes in the slot.
static void gather(pr_cache_map *map, map_slot *slot)
{
    int32_t index = slot->lane[0];
    uint64_t *bits = bitmap_at(map, index);
    int32_t found = 0;
    for (int32_t word = 0; found < slot->holders; word++) {
        for (; bits[word]; bits[word] &= bits[word] - 1)
            slot->lane[found++] = word * 64 + __builtin_ctzll(bits[word]);
    }
    bits[0] = (uint64_t)(uint32_t)map->free_bitmap;
    map->free_bitmap = index;
}

static inline bool slot_has(const pr_cache_map *map, const map_slot *slot, int32_t lane)
{
    if (slot->holders > PR_CACHE_MAP_FEW)
        return bitmap_at(map, slot->lane[0])[lane / 64] >> (lane % 64) & 1;
    for (int32_t i = 0; i < slot->holders; i++) {
        if (slot->lane[i] == lane)
            return true;
    }
    return false;
}

// ---- The table ----

static pr_status table_create(uint64_t homes, slot_table *made)
{
    size_t size_bytes = (homes + SLOTS_PAST_HOMES) * sizeof(map_slot);
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return pr_fail(
            PR_ERR_RESOURCE, "no memory for a cache map of %llu blocks", (unsigned long long)homes);
    // Only advice: a kernel without huge pages serves small ones.
    madvise(memory, size_bytes, MADV_HUGEPAGE);
    *made = (slot_table){
        .slot = memory,
        .homes = homes,
        .most = (int64_t)((double)homes * MAX_LOAD),
        .size_bytes = size_bytes};
    return PR_OK;
}

static void table_destroy(slot_table *table)
{
    if (table->slot)
        munmap(table->slot, table->size_bytes);
    *table = (slot_table){0};
}

static inline uint64_t key_of(const pr_cache_map *map, uint64_t block)
{
    return pr_hash_mix(block ^ map->seed);
}

static inline uint64_t home_of(const slot_table *table, uint64_t key)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)~key * (table->homes / 2) >> 64) * 2;
}

static const slot_table *table_of(const pr_cache_map *map, uint64_t key)
{
    return home_of(&map->old, key) < map->frontier ? &map->now : &map->old;
}

static inline map_slot *home_slot(const pr_cache_map *map, uint64_t key)
{
    const slot_table *table = table_of(map, key);
    return table->slot + home_of(table, key);
}

// Where the key stands, or would stand. Counts instead of asking slot by slot: a branch on each would be
// guessed wrong every other time.
static inline map_slot *seek(map_slot *at, uint64_t key)
{
    for (;;) {
        int32_t before =
            (at[0].key > key) + (at[1].key > key) + (at[2].key > key) + (at[3].key > key);
        at += before;
        if (before < 4)
            return at;
    }
}

static inline bool is_at(const map_slot *at, uint64_t key)
{
    return at->holders > 0 && at->key == key;
}

static const map_slot *find(const pr_cache_map *map, uint64_t block)
{
    uint64_t key = key_of(map, block);
    const map_slot *at = seek(home_slot(map, key), key);
    return is_at(at, key) ? at : NULL;
}

// Shifts what stands at `at` and behind it up to the next gap by one.
static inline void make_gap(const slot_table *table, map_slot *at)
{
    map_slot *gap = at;
    while (gap->holders > 0)
        gap++;
    assert(gap + 4 < table->slot + table->homes + SLOTS_PAST_HOMES);
    (void)table;
    for (; gap > at; gap--)
        *gap = gap[-1];
}

// Shifts the displaced slots behind `at` back by one.
static void close_gap(const slot_table *table, map_slot *at)
{
    map_slot *end = at + 1;
    while (end->holders > 0 && table->slot + home_of(table, end->key) < end)
        end++;
    for (; at + 1 < end; at++)
        *at = at[1];
    *at = (map_slot){0};
}

// ---- Growing ----

static pr_status begin_growing(pr_cache_map *map)
{
    slot_table larger;
    PR_TRY(table_create((uint64_t)((double)map->now.homes * GROWTH), &larger));
    map->old = map->now;
    map->now = larger;
    map->frontier = 0;
    map->released_bytes = 0;
    return PR_OK;
}

static void end_growing(pr_cache_map *map)
{
    table_destroy(&map->old);
    map->frontier = 1;  // every key has old home 0 now
    map->released_bytes = 0;
}

// Takes the frontier at least `slots` further, to just behind an empty slot.
static void move_some(pr_cache_map *map, uint64_t slots)
{
    const map_slot *from = map->old.slot + map->frontier;
    const map_slot *end = map->old.slot + map->old.homes + SLOTS_PAST_HOMES;
    const map_slot *enough = (uint64_t)(end - from) > slots ? from + slots : end;
    for (; from < enough || (from < end && from->holders > 0); from++) {
        if (from->holders == 0)
            continue;
        map_slot *to = seek(map->now.slot + home_of(&map->now, from->key), from->key);
        make_gap(&map->now, to);
        *to = *from;
    }
    map->frontier = (uint64_t)(from + 1 - map->old.slot);
    if (map->frontier >= map->old.homes) {
        end_growing(map);
        return;
    }
    size_t moved_bytes = map->frontier * sizeof(map_slot);
    if (moved_bytes - map->released_bytes >= 2 * (size_t)RELEASE_BYTES) {
        size_t size_bytes = (moved_bytes - map->released_bytes) / RELEASE_BYTES * RELEASE_BYTES;
        madvise((char *)map->old.slot + map->released_bytes, size_bytes, MADV_DONTNEED);
        map->released_bytes += size_bytes;
    }
}

static inline bool is_full(const pr_cache_map *map) { return map->blocks >= map->now.most; }

// Room for one more block.
static pr_status make_room(pr_cache_map *map)
{
    if (map->old.homes > 0)
        move_some(map, SLOTS_PER_INSERT);
    if (!is_full(map))
        return PR_OK;
    assert(map->old.homes == 0);
    return begin_growing(map);
}

// ---- The map ----

pr_status pr_cache_map_create(int32_t lanes, pr_cache_map **map)
{
    if (lanes < 1)
        return pr_fail(PR_ERR_ARGUMENT, "a cache map needs at least one lane, not %d", lanes);
    pr_cache_map *made = calloc(1, sizeof *made);
    if (!made)
        return pr_fail(PR_ERR_RESOURCE, "no memory for a cache map");
    pr_status status = table_create(FIRST_HOMES, &made->now);
    made->copies_of = calloc((size_t)lanes, sizeof *made->copies_of);
    if (status == PR_OK && !made->copies_of)
        status = pr_fail(PR_ERR_RESOURCE, "no memory for a cache map of %d lanes", lanes);
    if (status != PR_OK) {
        pr_cache_map_destroy(made);
        return status;
    }
    if (getrandom(&made->seed, sizeof made->seed, GRND_NONBLOCK) != sizeof made->seed)
        made->seed = (uint64_t)(uintptr_t)made->now.slot;
    made->lanes = lanes;
    made->frontier = 1;
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
    table_destroy(&map->old);
    table_destroy(&map->now);
    free(map->copies_of);
    free(map);
}

static pr_status add_holder(pr_cache_map *map, map_slot *at, int32_t lane)
{
    if (slot_has(map, at, lane))
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
    map_slot *at = seek(home_slot(map, key), key);
    if (is_at(at, key))
        return add_holder(map, at, lane);
    if (map->old.homes > 0 || is_full(map)) {
        PR_TRY(make_room(map));
        at = seek(home_slot(map, key), key);
    }
    make_gap(table_of(map, key), at);
    *at = (map_slot){.key = key, .holders = 1, .lane = {lane}};
    map->blocks++;
    map->copies++;
    map->changes++;
    map->copies_of[lane]++;
    return PR_OK;
}

void pr_cache_map_remove(pr_cache_map *map, uint64_t block, int32_t lane)
{
    assert(lane >= 0 && lane < map->lanes);
    uint64_t key = key_of(map, block);
    map_slot *at = seek(home_slot(map, key), key);
    if (!is_at(at, key) || !slot_has(map, at, lane))
        return;
    map->copies--;
    map->changes++;
    map->copies_of[lane]--;
    if (at->holders == 1) {
        close_gap(table_of(map, key), at);
        map->blocks--;
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

static inline map_slot *fetch_home(const pr_cache_map *map, uint64_t key)
{
    map_slot *home = home_slot(map, key);
    __builtin_prefetch(home);  // seek reads two lines
    __builtin_prefetch(home + 2);
    return home;
}

void pr_cache_map_expect(const pr_cache_map *map, const uint64_t *block, int32_t blocks)
{
    for (int32_t i = 0; i < blocks; i++)
        fetch_home(map, key_of(map, block[i]));
}

bool pr_cache_map_holds(const pr_cache_map *map, uint64_t block, int32_t lane)
{
    const map_slot *at = find(map, block);
    return at && slot_has(map, at, lane);
}

int32_t pr_cache_map_holders(const pr_cache_map *map, uint64_t block)
{
    const map_slot *at = find(map, block);
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
    const map_slot *at = find(map, block);
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
    int32_t seen;  // blocks whose slots were fetched
    uint64_t key[AHEAD];
    map_slot *home[AHEAD];
} prompt_walk;

// ahead: how many blocks to fetch at first; later it is AHEAD.
static inline void look_ahead(prompt_walk *walk, int32_t ahead)
{
    int32_t left = walk->blocks - walk->seen;
    int32_t end = walk->seen + (left < ahead ? left : ahead);
    for (int32_t i = walk->seen; i < end; i++) {
        uint64_t key = key_of(walk->map, walk->block[i]);
        walk->key[i % AHEAD] = key;
        walk->home[i % AHEAD] = fetch_home(walk->map, key);
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

// The slot of the next block; NULL: the prompt is over or nobody holds the block.
static inline const map_slot *walk_next(prompt_walk *walk)
{
    if (walk->next == walk->seen) {
        if (walk->next == walk->blocks)
            return NULL;
        look_ahead(walk, AHEAD);
    }
    int32_t i = walk->next++ % AHEAD;
    const map_slot *at = seek(walk->home[i], walk->key[i]);
    return is_at(at, walk->key[i]) ? at : NULL;
}

int32_t
pr_cache_map_depth(const pr_cache_map *map, const uint64_t *block, int32_t blocks, int32_t lane)
{
    assert(lane >= 0 && lane < map->lanes);
    prompt_walk walk;
    walk_begin(&walk, map, block, blocks, AHEAD_OF_LANE);
    int32_t depth = 0;
    for (const map_slot *at; (at = walk_next(&walk)) && slot_has(map, at, lane);)
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
    const map_slot *at;
    while ((at = walk_next(&walk)) && slot_has(map, at, lane) && !slot_has(map, at, other))
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

// Those of the slot's lanes that hold all `before` blocks before it.
static int32_t gapless_holders(
    const pr_cache_map *map,
    const map_slot *at,
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
    for (const map_slot *at; (at = walk_next(&walk)); ++*depth) {
        if (lanes >= 0) {
            for (int32_t i = 0; i < lanes; i++)
                lane[i].depth += lane[i].depth == *depth && slot_has(map, at, lane[i].lane);
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

int64_t pr_cache_map_blocks(const pr_cache_map *map) { return map->blocks; }

int32_t pr_cache_map_copies_of(const pr_cache_map *map, int32_t lane)
{
    return map->copies_of[lane];
}

int64_t pr_cache_map_copies(const pr_cache_map *map) { return map->copies; }

int64_t pr_cache_map_changes(const pr_cache_map *map) { return map->changes; }

int64_t pr_cache_map_size_bytes(const pr_cache_map *map)
{
    size_t tables = map->now.size_bytes;
    if (map->old.homes > 0) {  // the larger table is touched as far as the frontier has come
        double moved = (double)map->frontier / (double)map->old.homes;
        tables = (size_t)((double)tables * moved) + map->old.size_bytes - map->released_bytes;
    }
    size_t bitmaps = (size_t)map->slabs * BITMAPS_PER_SLAB * (size_t)map->bitmap_words * 8;
    return (int64_t)(sizeof *map + tables + bitmaps + (size_t)map->slabs * sizeof *map->slab);
}

static int64_t check_table(
    const pr_cache_map *map,
    const slot_table *table,
    uint64_t first,
    int64_t *copies,
    int64_t *spread)
{
    int64_t blocks = 0;
    uint64_t slots = table->homes > 0 ? table->homes + SLOTS_PAST_HOMES : 0;
    const map_slot *before = NULL;
    for (uint64_t i = first; i < slots; i++) {
        const map_slot *at = &table->slot[i];
        assert(at->holders > 0 || at->key == 0);
        if (at->holders == 0)
            continue;
        assert(table_of(map, at->key) == table && seek(home_slot(map, at->key), at->key) == at);
        assert(!before || before->key > at->key);
        before = at;
        blocks++;
        *copies += at->holders;
        if (at->holders <= PR_CACHE_MAP_FEW) {
            for (int32_t k = 0; k < at->holders; k++) {
                assert(at->lane[k] >= 0 && at->lane[k] < map->lanes);
                for (int32_t j = 0; j < k; j++)
                    assert(at->lane[j] != at->lane[k]);
            }
            continue;
        }
        ++*spread;
        int32_t bits = 0;
        for (int32_t word = 0; word < map->bitmap_words; word++)
            bits += __builtin_popcountll(bitmap_at(map, at->lane[0])[word]);
        assert(bits == at->holders);
        (void)bits;
    }
    (void)before;
    return blocks;
}

void pr_cache_map_check(const pr_cache_map *map)
{
    int64_t copies = 0, spread = 0;
    int64_t blocks = check_table(map, &map->now, 0, &copies, &spread);
    blocks += check_table(map, &map->old, map->frontier, &copies, &spread);
    assert(blocks == map->blocks && copies == map->copies);
    for (int32_t lane = 0; lane < map->lanes; lane++)
        copies -= map->copies_of[lane];
    assert(copies == 0);
    int64_t idle = 0;
    for (int32_t i = map->free_bitmap; i >= 0; i = (int32_t)(uint32_t)bitmap_at(map, i)[0])
        idle++;
    assert(spread + idle == (int64_t)map->slabs * BITMAPS_PER_SLAB);
    (void)blocks;
    (void)idle;
}

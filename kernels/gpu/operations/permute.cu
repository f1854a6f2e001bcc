// SPDX-License-Identifier: BSD-3-Clause
// A stable counting sort of (t, k) pairs by local expert, without atomics. Pairs are cut into tiles of a block, tiles into
// runs of a warp, runs into groups of GPU_WARP:
//   count    a pair's rank among those of its expert in its tile: ballots give the rank within a group, counters of
//            the warp's own carry it through a run, a sum over the warps through the tile
//   offsets  prefix sums over tiles and experts, by one block
//   place    rank + offset
// Few pairs are one tile: one block does all three. The result is the same: it is defined by the order of pairs alone.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/block_scan.cuh"

enum { THREADS = 256, WARPS = THREADS / GPU_WARP };
enum { TILE = 2048, ALONE_MOST = 8192 };  // pairs of a tile, and of the only one

// In front of the counters, [WARPS][experts].
struct permute_shared {
    pr_block_scan scan;
};

GPU_FUNCTION int32_t *counters_of(permute_shared &shared)
{
    return reinterpret_cast<int32_t *>(&shared + 1);
}

// Pairs of one block.
typedef struct tile {
    int64_t begin, end;
    int64_t run;  // pairs of a warp, whole groups
} tile;

GPU_FUNCTION int64_t pairs_used(const pr_gpu_permute_args &args)
{
    return (int64_t)(args.tokens_used ? *args.tokens_used : args.tokens) * args.chosen;
}

GPU_FUNCTION tile tile_of(const pr_gpu_permute_args &args, int64_t begin, int64_t length)
{
    int64_t all = (int64_t)args.tokens * args.chosen;
    tile made = {begin, begin + length < all ? begin + length : all, 0};
    int64_t groups = (length + GPU_WARP - 1) / GPU_WARP;
    made.run = (groups + WARPS - 1) / WARPS * GPU_WARP;
    return made;
}

// The pair's local expert, or `experts` for one that is elsewhere or beyond those used.
GPU_FUNCTION int32_t local_expert(const pr_gpu_permute_args &args, int64_t pair, int64_t used)
{
    if (pair >= used)
        return args.experts;
    int64_t expert = (int64_t)args.expert[pair] - args.first_expert;
    return expert >= 0 && expert < args.experts ? (int32_t)expert : args.experts;
}

// Lanes of the warp with the same value, of which `bits` bits count.
GPU_FUNCTION uint64_t lanes_like_mine(int32_t value, int bits)
{
    uint64_t same = ~(uint64_t)0;
    for (int bit = 0; bit < bits; bit++) {
        bool mine = (value >> bit & 1) != 0;
        uint64_t set = gpu_ballot(mine);
        same &= mine ? set : ~set;
    }
    return GPU_WARP == 64 ? same : same & 0xffffffffu;
}

// How many bits are set.
GPU_FUNCTION int bits_of(uint64_t v)
{
    v -= v >> 1 & 0x5555555555555555u;
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
    v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)(v * 0x0101010101010101u >> 56);
}

// Leaves each pair's rank within its warp's run in `place`, and the run's counts in the warp's counters.
GPU_FUNCTION void rank_run(const pr_gpu_permute_args &args, const tile &tile, int32_t *counter)
{
    int64_t used = pairs_used(args), begin = tile.begin + gpu_warp() * tile.run;
    int64_t end = begin + tile.run < tile.end ? begin + tile.run : tile.end;
    int bits = 1;
    while (args.experts >> bits)
        bits++;
    for (int64_t group = begin; group < end; group += GPU_WARP) {
        int64_t pair = group + gpu_lane();
        int32_t expert = pair < end ? local_expert(args, pair, used) : args.experts;
        uint64_t same = lanes_like_mine(expert, bits);
        uint64_t lower = same & (((uint64_t)1 << gpu_lane()) - 1);
        int32_t before = expert < args.experts ? counter[expert] : 0;
        gpu_warp_barrier();
        if (expert < args.experts) {
            args.place[pair] = before + bits_of(lower);
            if (lower == 0)
                counter[expert] = before + bits_of(same);
        } else if (pair < end) {
            args.place[pair] = -1;
        }
        gpu_warp_barrier();
    }
}

// Ranks within the tile in `place`; counters become the sums of the warps before; thread e of each turn has the tile's
// count of expert e stored in count[e].
GPU_FUNCTION void
rank_tile(const pr_gpu_permute_args &args, const tile &tile, permute_shared &shared, int32_t *count)
{
    int32_t *counter = counters_of(shared);
    for (int32_t i = gpu_thread(); i < WARPS * args.experts; i += THREADS)
        counter[i] = 0;
    gpu_barrier();
    rank_run(args, tile, counter + gpu_warp() * args.experts);
    gpu_barrier();
    for (int32_t e = gpu_thread(); e < args.experts; e += THREADS) {
        int32_t sum = 0;
        for (int warp = 0; warp < WARPS; warp++) {
            int32_t own = counter[warp * args.experts + e];
            counter[warp * args.experts + e] = sum;
            sum += own;
        }
        count[e] = sum;
    }
    gpu_barrier();
    int64_t used = pairs_used(args), begin = tile.begin + gpu_warp() * tile.run;
    int64_t end = begin + tile.run < tile.end ? begin + tile.run : tile.end;
    for (int64_t pair = begin + gpu_lane(); pair < end; pair += GPU_WARP) {
        int32_t expert = local_expert(args, pair, used);
        if (expert < args.experts)
            args.place[pair] += counter[gpu_warp() * args.experts + expert];
    }
}

// count[tiles][experts] becomes where the tile's rows of that expert begin.
GPU_FUNCTION void
find_offsets(const pr_gpu_permute_args &args, int64_t tiles, pr_block_scan &scan, int32_t *count)
{
    int32_t begin = 0;
    for (int32_t first = 0; first < args.experts; first += THREADS) {
        int32_t e = first + gpu_thread(), all = 0, total = 0;
        for (int64_t t = 0; e < args.experts && t < tiles; t++)
            all += count[t * args.experts + e];
        int32_t offset = begin + pr_block_scan_before(scan, all, total);
        if (e < args.experts)
            args.count[e] = all;
        for (int64_t t = 0; e < args.experts && t < tiles; t++) {
            int32_t own = count[t * args.experts + e];
            count[t * args.experts + e] = offset;
            offset += own;
        }
        begin += total;
    }
    if (gpu_thread() == 0)
        *args.total = begin;
}

GPU_FUNCTION void
place_tile(const pr_gpu_permute_args &args, const tile &tile, const int32_t *offset)
{
    int64_t used = pairs_used(args);
    for (int64_t pair = tile.begin + gpu_thread(); pair < tile.end; pair += THREADS) {
        int32_t expert = local_expert(args, pair, used);
        if (expert == args.experts)
            continue;
        int32_t row = args.place[pair] + offset[expert];
        args.place[pair] = row;
        args.row_of[row] = (int32_t)(pair / args.chosen);
    }
}

GPU_KERNEL void permute_alone(pr_gpu_permute_args args)
{
    permute_shared &shared = gpu_shared<permute_shared>();
    tile all = tile_of(args, 0, (int64_t)args.tokens * args.chosen);
    rank_tile(args, all, shared, args.scratch);
    gpu_barrier();
    find_offsets(args, 1, shared.scan, args.scratch);
    gpu_barrier();
    place_tile(args, all, args.scratch);
}

GPU_KERNEL void permute_count(pr_gpu_permute_args args)
{
    permute_shared &shared = gpu_shared<permute_shared>();
    tile mine = tile_of(args, (int64_t)gpu_block() * TILE, TILE);
    rank_tile(args, mine, shared, args.scratch + (int64_t)gpu_block() * args.experts);
}

GPU_KERNEL void permute_offsets(pr_gpu_permute_args args, int64_t tiles)
{
    find_offsets(args, tiles, gpu_shared<pr_block_scan>(), args.scratch);
}

GPU_KERNEL void permute_place(pr_gpu_permute_args args)
{
    tile mine = tile_of(args, (int64_t)gpu_block() * TILE, TILE);
    place_tile(args, mine, args.scratch + (int64_t)gpu_block() * args.experts);
}

static int64_t tiles_of(int64_t pairs)
{
    return pairs <= ALONE_MOST ? 1 : (pairs + TILE - 1) / TILE;
}

size_t pr_gpu_permute_scratch_bytes(int32_t tokens, int32_t chosen, int32_t experts)
{
    int64_t rows = tiles_of((int64_t)tokens * chosen) * (experts > 0 ? experts : 1);
    return (size_t)rows * sizeof(int32_t);
}

void pr_gpu_permute(pr_gpu_stream *stream, const pr_gpu_permute_args *args)
{
    int64_t tiles = tiles_of((int64_t)args->tokens * args->chosen);
    unsigned shared_bytes = (unsigned)sizeof(permute_shared) + WARPS * (unsigned)args->experts * 4;
    if (tiles <= 1) {
        gpu_launch(permute_alone, gpu_grid{1}, THREADS, shared_bytes, stream, *args);
        return;
    }
    gpu_grid grid = {(unsigned)tiles};
    gpu_launch(permute_count, grid, THREADS, shared_bytes, stream, *args);
    gpu_launch(
        permute_offsets, gpu_grid{1}, THREADS, (unsigned)sizeof(pr_block_scan), stream, *args,
        tiles);
    gpu_launch(permute_place, grid, THREADS, 0, stream, *args);
}

// SPDX-License-Identifier: BSD-3-Clause
// Few rows (up to 16) times many columns: bound by the bytes of the weights, so every warp keeps a ring of chunks of its
// own in flight and no warp waits for another until a span of K is summed.
//
//   block   WIDE tiles of 16 columns x STREAM_WARPS / WIDE spans of K at once; warp w: tile w % WIDE, span w / WIDE
//   ring    STREAM_STAGES chunks of 16 columns x 64 of k, by copies of 16 bytes, 128 bytes of each column
//   rows    straight from memory into tiles, a chunk ahead (the first cache holds them)
//   round   sums of the spans to shared memory; each thread adds those of its outputs, spans ascending
//
// Which WIDE is taken changes no bits: matmul_order.cuh. Source: ours.
// Cost: the weights once from memory, 16 / WIDE of the rows' bytes beside them from the cache.
#ifndef PR_GPU_MATRIX_MATMUL_STREAM_CUH
#define PR_GPU_MATRIX_MATMUL_STREAM_CUH

#include "kernels/gpu/matrix/matmul_order.cuh"

enum {
    STREAM_THREADS = GPU_TILE * GPU_TILE,  // one output of each tile for each thread
    STREAM_WARPS = STREAM_THREADS / GPU_WARP,
    STREAM_CHUNK = 64,
    STREAM_TILES = STREAM_CHUNK / GPU_TILE,
    STREAM_STRIDE = STREAM_CHUNK + 8,
    STREAM_PIECES = STREAM_CHUNK / 8,  // of 16 bytes in a column's chunk
    STREAM_COPIES = GPU_TILE * STREAM_PIECES / GPU_WARP,
    STREAM_STAGES = GPU_COPY_OVERLAPS ? 3 : 2,
    STREAM_ROWS = GPU_TILE,
};

struct stream_shared {
    alignas(16) gpu_bf16 ring[STREAM_WARPS][STREAM_STAGES][GPU_TILE][STREAM_STRIDE];
    float partial[STREAM_WARPS][STREAM_THREADS];
};

// What a block multiplies. Rows of this lane as tile.cuh wants them, some row of the product where it has fewer than 16
// (their sums are not kept); weights of this warp's 16 columns.
struct stream_floats {
    const float *row[GPU_TILE_A_ROWS];
    bool paired;  // all rows begin at multiples of 8 bytes
};
struct stream_rounded {
    const gpu_bf16 *row[GPU_TILE_A_ROWS];  // there up to the next multiple of STREAM_CHUNK
};
struct stream_weights {
    const gpu_bf16 *column;  // the first of 16
    int stride, cols, slices;
};

// The number of tiles side by side for so many in all: as many as leave `blocks` blocks, and no warp without a span.
static inline int stream_wide(int64_t tiles, int rows, int spans)
{
    int64_t blocks = rows > 4 ? 128 : 256;  // few rows are read again by more blocks at little cost
    int wide = 1;
    while (wide < STREAM_WARPS && (tiles >= 2 * wide * blocks || STREAM_WARPS / wide > spans))
        wide *= 2;
    return wide;
}

struct stream_ahead_floats {
    gpu_tile_floats tile[STREAM_TILES];
};
struct stream_ahead_rounded {
    gpu_tile_a tile[STREAM_TILES];
};

GPU_FUNCTION void
stream_fetch(stream_ahead_floats &ahead, const stream_floats &x, const matmul_walk &at)
{
    if (x.paired && at.k + STREAM_CHUNK <= at.span_end) {
        GPU_UNROLL
        for (int t = 0; t < STREAM_TILES; t++)
            gpu_tile_load_floats(ahead.tile[t], x.row, at.k + t * GPU_TILE);
    } else {
        GPU_UNROLL
        for (int t = 0; t < STREAM_TILES; t++)
            gpu_tile_load_floats_part(
                ahead.tile[t], x.row, at.k + t * GPU_TILE, at.span_end - at.k - t * GPU_TILE);
    }
}

GPU_FUNCTION void
stream_fetch(stream_ahead_rounded &ahead, const stream_rounded &x, const matmul_walk &at)
{
    GPU_UNROLL
    for (int t = 0; t < STREAM_TILES; t++)
        gpu_tile_load_rows(ahead.tile[t], x.row, at.k + t * GPU_TILE);
}

GPU_FUNCTION void stream_round(gpu_tile_a *a, const stream_ahead_floats &ahead)
{
    GPU_UNROLL
    for (int t = 0; t < STREAM_TILES; t++)
        gpu_tile_round(a[t], ahead.tile[t]);
}

GPU_FUNCTION void stream_round(gpu_tile_a *a, const stream_ahead_rounded &ahead)
{
    GPU_UNROLL
    for (int t = 0; t < STREAM_TILES; t++)
        a[t] = ahead.tile[t];
}

GPU_FUNCTION stream_ahead_floats stream_ahead_of(const stream_floats &)
{
    return stream_ahead_floats{};
}
GPU_FUNCTION stream_ahead_rounded stream_ahead_of(const stream_rounded &)
{
    return stream_ahead_rounded{};
}

// Begins to copy the chunk at `at` and goes on to the next.
GPU_FUNCTION void stream_issue(
    gpu_bf16 (*slot)[STREAM_STRIDE], const stream_weights &weights, matmul_walk &at, int spans)
{
    if (!matmul_walk_done(at)) {
        int filled = matmul_walk_filled(at);
        GPU_UNROLL
        for (int i = 0; i < STREAM_COPIES; i++) {
            int piece = gpu_lane() + i * GPU_WARP;
            int column = piece / STREAM_PIECES, k = piece % STREAM_PIECES * 8;
            if (at.k + k < filled)
                gpu_copy16_begin(
                    &slot[column][k], weights.column + (int64_t)column * weights.stride + at.k + k);
        }
        matmul_walk_chunk(at, STREAM_CHUNK, spans);
    }
    gpu_copy16_commit();
}

GPU_FUNCTION void stream_multiply(gpu_tile_sum &sum, const gpu_tile_a &a, const gpu_bf16 *weights)
{
    gpu_tile_b b;
    gpu_tile_load_b(b, weights, STREAM_STRIDE);
    gpu_tile_multiply(sum, a, b);
}

// One warp's pipeline, kept from span to span.
struct stream_pipe {
    matmul_walk load, compute;
    int load_slot, compute_slot;
    int spans;  // from one of this warp to its next
};

// The sum of the span at `compute`: 16 rows x 16 columns.
template <class X, class Ahead>
GPU_FUNCTION void stream_span(
    gpu_tile_sum &sum,
    gpu_bf16 (*ring)[GPU_TILE][STREAM_STRIDE],
    stream_pipe &pipe,
    const X &x,
    Ahead &ahead,
    const stream_weights &weights)
{
    bool more = !matmul_walk_done(pipe.compute);
    while (more) {
        int k = pipe.compute.k, end = pipe.compute.span_end;
        more = k + STREAM_CHUNK < end;
        gpu_copy16_wait<STREAM_STAGES - 2>();
        gpu_warp_barrier();
        stream_issue(ring[pipe.load_slot], weights, pipe.load, pipe.spans);
        gpu_tile_a a[STREAM_TILES];
        stream_round(a, ahead);
        matmul_walk_chunk(pipe.compute, STREAM_CHUNK, pipe.spans);
        if (!matmul_walk_done(pipe.compute))
            stream_fetch(ahead, x, pipe.compute);
        const gpu_bf16 *chunk = &ring[pipe.compute_slot][0][0];
        if (k + STREAM_CHUNK <= end) {
            GPU_UNROLL
            for (int t = 0; t < STREAM_TILES; t++)
                stream_multiply(sum, a[t], chunk + t * GPU_TILE);
        } else {
            GPU_UNROLL
            for (int t = 0; t < STREAM_TILES; t++)
                if (k + t * GPU_TILE < end)
                    stream_multiply(sum, a[t], chunk + t * GPU_TILE);
        }
        pipe.load_slot = pipe.load_slot + 1 == STREAM_STAGES ? 0 : pipe.load_slot + 1;
        pipe.compute_slot = pipe.compute_slot + 1 == STREAM_STAGES ? 0 : pipe.compute_slot + 1;
    }
}

// Output (thread / 16, thread % 16) of each of the block's WIDE tiles, in sums.value.
template <int WIDE, bool SLICED, class X>
GPU_FUNCTION void stream_product(
    stream_shared &shared,
    const X &x,
    const stream_weights &weights,
    matmul_sums<WIDE, SLICED> &sums)
{
    enum { PARALLEL = STREAM_WARPS / WIDE };
    gpu_bf16(*ring)[GPU_TILE][STREAM_STRIDE] = shared.ring[gpu_warp()];
    stream_pipe pipe = {};
    pipe.spans = PARALLEL;
    pipe.compute = matmul_walk_begin(weights.cols, weights.slices);
    matmul_walk all = pipe.compute;
    matmul_walk_spans(pipe.compute, gpu_warp() / WIDE);
    pipe.load = pipe.compute;
    for (int s = 0; s < STREAM_STAGES - 1; s++)
        stream_issue(ring[s], weights, pipe.load, PARALLEL);
    pipe.load_slot = STREAM_STAGES - 1;
    auto ahead = stream_ahead_of(x);
    if (!matmul_walk_done(pipe.compute))
        stream_fetch(ahead, x, pipe.compute);
    matmul_sums_begin(sums);
    while (!matmul_walk_done(all)) {
        gpu_tile_sum sum = {};
        stream_span(sum, ring, pipe, x, ahead, weights);
        GPU_UNROLL
        for (int i = 0; i < GPU_TILE_VALUES; i++)
            shared.partial[gpu_warp()][gpu_tile_row(i) * GPU_TILE + gpu_tile_column(i)] =
                sum.value[i];
        gpu_barrier();
        for (int j = 0; j < PARALLEL && !matmul_walk_done(all); j++) {
            matmul_sums_slice(sums, all.slice, weights.slices);
            GPU_UNROLL
            for (int i = 0; i < WIDE; i++)
                sums.value[i] += shared.partial[j * WIDE + i][gpu_thread()];
            matmul_walk_span(all);
        }
        gpu_barrier();
    }
    gpu_copy16_wait<0>();
    matmul_sums_slice(sums, weights.slices, weights.slices);
}

#endif

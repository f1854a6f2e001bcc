// SPDX-License-Identifier: BSD-3-Clause
// Many rows: a block sums BM rows x BN columns by tensor cores, its warps in a grid over them, rows and weights in
// chunks of BK through a ring in shared memory that all warps share.
//
//   block 128 x 128, 8 warps: each 64 x 32, 4 x 2 tiles of 16 x 16; a sum of the span and one of the slice in registers
//   ring  STAGES x (BM + BN) rows of BK + 8 elements: without conflicts of banks for copies and for tiles
//
// Rows come rounded (bfloat16), as many bytes as the weights. Which shape is taken changes no bits: matmul_order.cuh.
// Source: ours, after the usual order of a multistage product. Cost: 1/BM of the weights' and 1/BN of the rows' bytes
// for each product from the second cache.
#ifndef PR_GPU_MATRIX_MATMUL_BLOCK_CUH
#define PR_GPU_MATRIX_MATMUL_BLOCK_CUH

#include "kernels/gpu/matrix/matmul_order.cuh"

enum { BLOCK_THREADS = 256, BLOCK_WARPS = BLOCK_THREADS / GPU_WARP };

// DOWN: how many of 8 warps stand one below another (half as many where a warp has 64 lanes and there are 4).
template <int BM_, int BN_, int BK_, int DOWN, bool SLICED_> struct block_shape {
    enum {
        BM = BM_,
        BN = BN_,
        BK = BK_,
        SLICED = SLICED_,
        STAGES = GPU_COPY_OVERLAPS ? 4 : 2,
        STRIDE = BK + 8,
        WARPS_M = BLOCK_WARPS == 8 || DOWN <= 2 ? DOWN : DOWN / 2,
        WARPS_N = BLOCK_WARPS / WARPS_M,
        TILES_M = BM / WARPS_M / GPU_TILE,
        TILES_N = BN / WARPS_N / GPU_TILE,
        TILES = TILES_M * TILES_N,
        VALUES = TILES * GPU_TILE_VALUES,
        PIECES = BK / 8,                        // of 16 bytes in a row's chunk
        ROWS_AT_ONCE = BLOCK_THREADS / PIECES,  // of the ring that one copy of each thread fills
        COPIES_M = (BM + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE,
        COPIES_N = (BN + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE,
    };
    typedef matmul_sums<VALUES, SLICED_> sums;
};

template <class S> struct block_shared {
    alignas(16) gpu_bf16 x[S::STAGES][S::BM][S::STRIDE];
    alignas(16) gpu_bf16 weights[S::STAGES][S::BN][S::STRIDE];
};

// What this thread copies: block_row(i) of the rows and of the weights, from k = 8 * block_piece() on.
template <class S> struct block_source {
    const gpu_bf16 *x[S::COPIES_M];
    const gpu_bf16 *weights[S::COPIES_N];
    int cols, slices;
};

template <class S> GPU_FUNCTION int block_row(int i)
{
    return gpu_thread() / S::PIECES + i * S::ROWS_AT_ONCE;
}
template <class S> GPU_FUNCTION int block_piece() { return gpu_thread() % S::PIECES * 8; }

template <class S>
GPU_FUNCTION void
block_issue(block_shared<S> &shared, int slot, const block_source<S> &source, matmul_walk &at)
{
    int piece = block_piece<S>();
    if (!matmul_walk_done(at)) {
        if (at.k + piece < matmul_walk_filled(at)) {
            GPU_UNROLL
            for (int i = 0; i < S::COPIES_M; i++)
                if (S::BM % S::ROWS_AT_ONCE == 0 || block_row<S>(i) < S::BM)
                    gpu_copy16_begin(&shared.x[slot][block_row<S>(i)][piece], source.x[i] + at.k);
            GPU_UNROLL
            for (int i = 0; i < S::COPIES_N; i++)
                if (S::BN % S::ROWS_AT_ONCE == 0 || block_row<S>(i) < S::BN)
                    gpu_copy16_begin(
                        &shared.weights[slot][block_row<S>(i)][piece], source.weights[i] + at.k);
        }
        matmul_walk_chunk(at, S::BK, 1);
    }
    gpu_copy16_commit();
}

template <class S> GPU_FUNCTION int block_warp_row()
{
    return gpu_warp() / S::WARPS_N * S::TILES_M * GPU_TILE;
}
template <class S> GPU_FUNCTION int block_warp_column()
{
    return gpu_warp() % S::WARPS_N * S::TILES_N * GPU_TILE;
}

// Where value i of this thread's sums stands in the block.
template <class S> GPU_FUNCTION int block_value_row(int i)
{
    return block_warp_row<S>() + i / GPU_TILE_VALUES / S::TILES_N * GPU_TILE +
           gpu_tile_row(i % GPU_TILE_VALUES);
}
template <class S> GPU_FUNCTION int block_value_column(int i)
{
    return block_warp_column<S>() + i / GPU_TILE_VALUES % S::TILES_N * GPU_TILE +
           gpu_tile_column(i % GPU_TILE_VALUES);
}

template <class S>
GPU_FUNCTION void block_multiply(gpu_tile_sum *sum, const block_shared<S> &shared, int slot, int k)
{
    gpu_tile_a a[S::TILES_M];
    gpu_tile_b b[S::TILES_N];
    GPU_UNROLL
    for (int n = 0; n < S::TILES_N; n++)
        gpu_tile_load_b(
            b[n], &shared.weights[slot][block_warp_column<S>() + n * GPU_TILE][k], S::STRIDE);
    GPU_UNROLL
    for (int m = 0; m < S::TILES_M; m++)
        gpu_tile_load_a(a[m], &shared.x[slot][block_warp_row<S>() + m * GPU_TILE][k], S::STRIDE);
    GPU_UNROLL
    for (int m = 0; m < S::TILES_M; m++) {
        GPU_UNROLL
        for (int n = 0; n < S::TILES_N; n++)
            gpu_tile_multiply(sum[m * S::TILES_N + n], a[m], b[n]);
    }
}

// A span ended: its sum to the slice's.
template <class S> GPU_FUNCTION void block_close(gpu_tile_sum *sum, typename S::sums &sums)
{
    GPU_UNROLL
    for (int i = 0; i < S::VALUES; i++) {
        sums.value[i] += sum[i / GPU_TILE_VALUES].value[i % GPU_TILE_VALUES];
        sum[i / GPU_TILE_VALUES].value[i % GPU_TILE_VALUES] = 0.0f;
    }
}

template <class S>
GPU_FUNCTION void
block_product(block_shared<S> &shared, const block_source<S> &source, typename S::sums &sums)
{
    matmul_walk load = matmul_walk_begin(source.cols, source.slices), compute = load;
    GPU_UNROLL
    for (int s = 0; s < S::STAGES - 1; s++)
        block_issue<S>(shared, s, source, load);
    int load_slot = S::STAGES - 1, slot = 0;
    gpu_tile_sum sum[S::TILES] = {};
    matmul_sums_begin(sums);
    while (!matmul_walk_done(compute)) {
        int k = compute.k, end = compute.span_end;
        gpu_copy16_wait<S::STAGES - 2>();
        gpu_barrier();
        block_issue<S>(shared, load_slot, source, load);
        matmul_sums_slice(sums, compute.slice, source.slices);
        matmul_walk_chunk(compute, S::BK, 1);
        if (k + S::BK <= end) {
            GPU_UNROLL
            for (int t = 0; t < S::BK; t += GPU_TILE)
                block_multiply<S>(sum, shared, slot, t);
        } else {
            for (int t = 0; k + t < end; t += GPU_TILE)
                block_multiply<S>(sum, shared, slot, t);
        }
        if (k + S::BK >= end)
            block_close<S>(sum, sums);
        load_slot = load_slot + 1 == S::STAGES ? 0 : load_slot + 1;
        slot = slot + 1 == S::STAGES ? 0 : slot + 1;
    }
    gpu_copy16_wait<0>();
    gpu_barrier();
    matmul_sums_slice(sums, source.slices, source.slices);
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The order of additions of every matrix product on a GPU, once: whoever walks K with matmul_walk and adds with
// matmul_sums gets the same bits, in one warp after another or in several at once.
//
//   K     | slice 0          | slice 1          | ...              S of them, [cols*s/S, cols*(s+1)/S)
//   slice | span 0 | span 1 |.                                      512 of k each, the last one shorter
//   span  |16|16|16|...                                             tiles, ascending, from 0
//
// A slice's sum is 0 + its spans' sums, ascending; slices are added as a balanced binary tree of neighbours.
// Spans are what may go in parallel: with eight warps, 4096 of k are one span for each.
// Source: ours. Cost: one addition per output and span, 1/512 of the products.
#ifndef PR_GPU_MATRIX_MATMUL_ORDER_CUH
#define PR_GPU_MATRIX_MATMUL_ORDER_CUH

#include "kernels/gpu/language/tile.cuh"

enum { MATMUL_SPAN = 512, MATMUL_SLICES_MOST = 8, MATMUL_LEVELS = 3 };

static inline int matmul_spans(int cols, int slices)
{
    int spans = 0;
    for (int s = 0; s < slices; s++) {
        int begin = (int)((int64_t)cols * s / slices),
            end = (int)((int64_t)cols * (s + 1) / slices);
        spans += (end - begin + MATMUL_SPAN - 1) / MATMUL_SPAN;
    }
    return spans;
}

// A place in K. Slices lie one after another, so the next span begins where this one ends.
struct matmul_walk {
    int cols, slices;
    int slice, slice_end;  // slice == slices: at the end
    int k, span_end;
};

GPU_FUNCTION bool matmul_walk_done(const matmul_walk &walk) { return walk.slice >= walk.slices; }

GPU_FUNCTION void matmul_walk_span(matmul_walk &walk)
{
    walk.k = walk.span_end;
    while (walk.k >= walk.slice_end && walk.slice < walk.slices) {
        walk.slice++;
        walk.slice_end =
            (int)((unsigned)walk.cols * (unsigned)(walk.slice + 1) / (unsigned)walk.slices);
    }
    int end = walk.k + MATMUL_SPAN;
    walk.span_end = end < walk.slice_end ? end : walk.slice_end;
}

GPU_FUNCTION void matmul_walk_spans(matmul_walk &walk, int spans)
{
    for (int i = 0; i < spans && !matmul_walk_done(walk); i++)
        matmul_walk_span(walk);
}

// At the first span of K.
GPU_FUNCTION matmul_walk matmul_walk_begin(int cols, int slices)
{
    matmul_walk walk = {cols, slices, 0, cols / slices, 0, 0};
    matmul_walk_span(walk);
    return walk;
}

// `chunk` further in the span, or to the span `spans` after this one.
GPU_FUNCTION void matmul_walk_chunk(matmul_walk &walk, int chunk, int spans)
{
    walk.k += chunk;
    if (walk.k >= walk.span_end)
        matmul_walk_spans(walk, spans);
}

// Up to where this span's columns are there, with the zeros that fill the last tile of K.
GPU_FUNCTION int matmul_walk_filled(const matmul_walk &walk)
{
    return (walk.span_end + GPU_TILE - 1) / GPU_TILE * GPU_TILE;
}

// N outputs of this thread, on their way from spans to slices to the tree.
template <int N, bool SLICED> struct matmul_sums {
    float value[N];  // of the slice so far; after the last slice, of all
    float left[SLICED ? MATMUL_LEVELS : 1]
              [N];  // sums that wait for their right neighbours, by level
    int slice;      // which `value` is of
};

template <int N, bool SLICED> GPU_FUNCTION void matmul_sums_begin(matmul_sums<N, SLICED> &sums)
{
    GPU_UNROLL
    for (int i = 0; i < N; i++)
        sums.value[i] = 0.0f;
    GPU_UNROLL
    for (int level = 0; level < (SLICED ? MATMUL_LEVELS : 1); level++) {
        GPU_UNROLL
        for (int i = 0; i < N; i++)
            sums.left[level][i] = 0.0f;
    }
    sums.slice = 0;
}

// Moves on to `slice`; `slices` of `slices` ends it all.
template <int N>
GPU_FUNCTION void matmul_sums_slice(matmul_sums<N, true> &sums, int slice, int slices)
{
    for (; sums.slice < slice; sums.slice++) {
        int s = sums.slice;
        bool last = s + 1 == slices;
        GPU_UNROLL
        for (int i = 0; i < N; i++) {
            float v = sums.value[i];
            if (s & 1)
                v = sums.left[0][i] + v;
            if ((s & 3) == 3)
                v = sums.left[1][i] + v;
            if ((s & 7) == 7)
                v = sums.left[2][i] + v;
            sums.left[0][i] = (s & 1) == 0 ? v : sums.left[0][i];
            sums.left[1][i] = (s & 3) == 1 ? v : sums.left[1][i];
            sums.left[2][i] = (s & 7) == 3 ? v : sums.left[2][i];
            sums.value[i] = last ? v : 0.0f;
        }
    }
}

template <int N> GPU_FUNCTION void matmul_sums_slice(matmul_sums<N, false> &, int, int) {}

#endif

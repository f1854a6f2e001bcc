// SPDX-License-Identifier: BSD-3-Clause
// Prefix sums over the threads of a block. Integers, so their order does not matter. Every thread of the block arrives.
#ifndef PR_GPU_ROWS_BLOCK_SCAN_CUH
#define PR_GPU_ROWS_BLOCK_SCAN_CUH

#include "kernels/gpu/language/gpu.cuh"

enum { PR_BLOCK_WARPS = 1024 / GPU_WARP };  // most of a block

struct pr_block_scan {
    int32_t warp_sum[PR_BLOCK_WARPS];
};

// The sum over the threads before this one; total: over all of them. May be called again at once.
GPU_FUNCTION int32_t pr_block_scan_before(pr_block_scan &shared, int32_t value, int32_t &total)
{
    int32_t sum = value;
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2) {
        int32_t other = gpu_shuffle_up(sum, step);
        sum += gpu_lane() >= step ? other : 0;
    }
    if (gpu_lane() == GPU_WARP - 1)
        shared.warp_sum[gpu_warp()] = sum;
    gpu_barrier();
    int32_t before = sum - value;
    total = 0;
    for (int warp = 0; warp < gpu_threads() / GPU_WARP; warp++) {
        before += warp < gpu_warp() ? shared.warp_sum[warp] : 0;
        total += shared.warp_sum[warp];
    }
    gpu_barrier();
    return before;
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// tile.cuh for the emulation. Elements lie in lanes as on CUDA for 32 of them (mma.m16n8k16, g = lane / 4, t = lane % 4)
// and as on AMD for 64 (v_mfma_f32_16x16x16bf16_1k), so what a kernel does with a lane's values is checked for both.
// Included by tile.cuh alone.
#ifndef PR_GPU_LANGUAGE_TILE_EMULATED_H
#define PR_GPU_LANGUAGE_TILE_EMULATED_H

#include "kernels/gpu/emulate/emulated_tile.h"

enum { GPU_TILE_A_ROWS = GPU_WARP == 32 ? 2 : 1 };

struct gpu_tile_a {
    gpu_bf16 value[GPU_TILE_VALUES];
};
struct gpu_tile_b {
    gpu_bf16 value[GPU_TILE_VALUES];
};
struct gpu_tile_floats {
    float value[GPU_TILE_VALUES];
};

// Element i of a lane: row and k of A; column and k of B; row and column of a sum.
GPU_FUNCTION int gpu_tile_row_of_a(int lane, int i)
{
    return GPU_WARP == 32 ? lane / 4 + 8 * (i / 2 % 2) : lane % 16;
}
GPU_FUNCTION int gpu_tile_k_of_a(int lane, int i)
{
    return GPU_WARP == 32 ? 2 * (lane % 4) + 8 * (i / 4) + i % 2 : 4 * (lane / 16) + i;
}
GPU_FUNCTION int gpu_tile_column_of_b(int lane, int i)
{
    return GPU_WARP == 32 ? lane / 4 + 8 * (i / 4) : lane % 16;
}
GPU_FUNCTION int gpu_tile_k_of_b(int lane, int i)
{
    return GPU_WARP == 32 ? 2 * (lane % 4) + 8 * (i / 2 % 2) + i % 2 : 4 * (lane / 16) + i;
}
GPU_FUNCTION int gpu_tile_row_of_sum(int lane, int i)
{
    return GPU_WARP == 32 ? lane / 4 + 8 * (i / 2 % 2) : 4 * (lane / 16) + i;
}
GPU_FUNCTION int gpu_tile_column_of_sum(int lane, int i)
{
    return GPU_WARP == 32 ? 2 * (lane % 4) + 8 * (i / 4) + i % 2 : lane % 16;
}
GPU_FUNCTION int gpu_tile_row(int i) { return gpu_tile_row_of_sum(gpu_lane(), i); }
GPU_FUNCTION int gpu_tile_column(int i) { return gpu_tile_column_of_sum(gpu_lane(), i); }

GPU_FUNCTION int gpu_tile_a_row(int i)
{
    return gpu_tile_row_of_a(gpu_lane(), GPU_WARP == 32 ? 2 * i : i);
}

// What the instructions ask for.
GPU_FUNCTION void gpu_tile_check(const gpu_bf16 *from, int stride, pr_emulated_site site)
{
    if (!pr_emulated_block_is_shared(from))
        pr_emulated_block_fail("tiles are loaded from shared memory only", site);
    if ((uintptr_t)from % 16 != 0 || stride % 8 != 0)
        pr_emulated_block_fail("a row of a tile does not begin at a multiple of 16 bytes", site);
}

GPU_FUNCTION void gpu_tile_load_a(gpu_tile_a &a, const gpu_bf16 *from, int stride, GPU_SITE_PARAMS)
{
    gpu_tile_check(from, stride, GPU_SITE("gpu_tile_load_a"));
    for (int i = 0; i < GPU_TILE_VALUES; i++)
        a.value[i] =
            from[gpu_tile_row_of_a(gpu_lane(), i) * stride + gpu_tile_k_of_a(gpu_lane(), i)];
}
GPU_FUNCTION void gpu_tile_load_b(gpu_tile_b &b, const gpu_bf16 *from, int stride, GPU_SITE_PARAMS)
{
    gpu_tile_check(from, stride, GPU_SITE("gpu_tile_load_b"));
    for (int i = 0; i < GPU_TILE_VALUES; i++)
        b.value[i] =
            from[gpu_tile_column_of_b(gpu_lane(), i) * stride + gpu_tile_k_of_b(gpu_lane(), i)];
}
GPU_FUNCTION void
gpu_tile_load_b_across(gpu_tile_b &b, const gpu_bf16 *from, int stride, GPU_SITE_PARAMS)
{
    gpu_tile_check(from, stride, GPU_SITE("gpu_tile_load_b_across"));
    for (int i = 0; i < GPU_TILE_VALUES; i++)
        b.value[i] =
            from[gpu_tile_k_of_b(gpu_lane(), i) * stride + gpu_tile_column_of_b(gpu_lane(), i)];
}

GPU_FUNCTION void gpu_tile_load_rows(
    gpu_tile_a &a, const gpu_bf16 *const row[GPU_TILE_A_ROWS], int k, GPU_SITE_PARAMS)
{
    for (int i = 0; i < GPU_TILE_VALUES; i++) {
        const gpu_bf16 *from = row[i / 2 % GPU_TILE_A_ROWS];
        if ((uintptr_t)from % 16 != 0 || k % 8 != 0)
            pr_emulated_block_fail(
                "a row does not begin at a multiple of 16 bytes", GPU_SITE("gpu_tile_load_rows"));
        a.value[i] = from[k + gpu_tile_k_of_a(gpu_lane(), i)];
    }
}
GPU_FUNCTION void gpu_tile_load_floats_part(
    gpu_tile_floats &f, const float *const row[GPU_TILE_A_ROWS], int k, int depth)
{
    for (int i = 0; i < GPU_TILE_VALUES; i++) {
        int at = gpu_tile_k_of_a(gpu_lane(), i);
        f.value[i] = at < depth ? row[i / 2 % GPU_TILE_A_ROWS][k + at] : 0.0f;
    }
}
GPU_FUNCTION void gpu_tile_load_floats(
    gpu_tile_floats &f, const float *const row[GPU_TILE_A_ROWS], int k, GPU_SITE_PARAMS)
{
    for (int i = 0; i < GPU_TILE_A_ROWS; i++)
        if ((uintptr_t)(row[i] + k) % 8 != 0)
            pr_emulated_block_fail(
                "a row does not begin at a multiple of 8 bytes", GPU_SITE("gpu_tile_load_floats"));
    gpu_tile_load_floats_part(f, row, k, GPU_TILE);
}
GPU_FUNCTION void gpu_tile_round(gpu_tile_a &a, const gpu_tile_floats &f)
{
    for (int i = 0; i < GPU_TILE_VALUES; i++)
        a.value[i] = gpu_to_bf16(f.value[i]);
}

// What a lane gives to gpu_tile_multiply, and what it gets back.
struct gpu_tile_share {
    gpu_tile_sum sum;
    gpu_tile_a a;
    gpu_tile_b b;
};
static_assert(sizeof(gpu_tile_share) <= PR_EMULATED_SLOT_BYTES, "a lane's part of three tiles");

GPU_FUNCTION void gpu_tile_meet(unsigned char *slots)
{
    static pr_emulated_tiles tiles;
    for (int lane = 0; lane < GPU_WARP; lane++) {
        const gpu_tile_share *share =
            reinterpret_cast<const gpu_tile_share *>(slots + lane * PR_EMULATED_SLOT_BYTES);
        for (int i = 0; i < GPU_TILE_VALUES; i++) {
            tiles.a[gpu_tile_row_of_a(lane, i)][gpu_tile_k_of_a(lane, i)] =
                gpu_from_bf16(share->a.value[i]);
            tiles.b[gpu_tile_k_of_b(lane, i)][gpu_tile_column_of_b(lane, i)] =
                gpu_from_bf16(share->b.value[i]);
            tiles.sums[gpu_tile_row_of_sum(lane, i)][gpu_tile_column_of_sum(lane, i)] =
                share->sum.value[i];
        }
    }
    pr_emulated_tile_multiply(&tiles);
    for (int lane = 0; lane < GPU_WARP; lane++) {
        gpu_tile_share *share =
            reinterpret_cast<gpu_tile_share *>(slots + lane * PR_EMULATED_SLOT_BYTES);
        for (int i = 0; i < GPU_TILE_VALUES; i++)
            share->sum.value[i] =
                tiles.sums[gpu_tile_row_of_sum(lane, i)][gpu_tile_column_of_sum(lane, i)];
    }
}

GPU_FUNCTION const unsigned char *gpu_tile_exchange(
    const gpu_tile_share &mine, void (*meet)(unsigned char *slots), pr_emulated_site site)
{
    if (pr_emulated_block_lanes() != GPU_WARP)
        pr_emulated_block_fail("a warp with fewer lanes", site);
    return pr_emulated_block_exchange(&mine, sizeof(mine), meet, site);
}

GPU_FUNCTION void
gpu_tile_multiply(gpu_tile_sum &c, const gpu_tile_a &a, const gpu_tile_b &b, GPU_SITE_PARAMS)
{
    const unsigned char *slots =
        gpu_tile_exchange({c, a, b}, gpu_tile_meet, GPU_SITE("gpu_tile_multiply"));
    c = reinterpret_cast<const gpu_tile_share *>(slots + gpu_lane() * PR_EMULATED_SLOT_BYTES)->sum;
}

// On CUDA without the others; here as on AMD, where lanes hold what other lanes need.
GPU_FUNCTION void gpu_tile_a_of_sum(gpu_tile_a &a, const gpu_tile_sum &c, GPU_SITE_PARAMS)
{
    const unsigned char *slots =
        gpu_tile_exchange({c, {}, {}}, NULL, GPU_SITE("gpu_tile_a_of_sum"));
    for (int i = 0; i < GPU_TILE_VALUES; i++) {
        int row = gpu_tile_row_of_a(gpu_lane(), i), k = gpu_tile_k_of_a(gpu_lane(), i);
        int lane = GPU_WARP == 32 ? 4 * (row % 8) + k % 8 / 2 : 16 * (row / 4) + k;
        int at = GPU_WARP == 32 ? 4 * (k / 8) + 2 * (row / 8) + k % 2 : row % 4;
        const gpu_tile_share *share =
            reinterpret_cast<const gpu_tile_share *>(slots + lane * PR_EMULATED_SLOT_BYTES);
        a.value[i] = gpu_to_bf16(share->sum.value[at]);
    }
}

#endif

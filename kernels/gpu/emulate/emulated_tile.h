// SPDX-License-Identifier: BSD-3-Clause
// The arithmetic of tile.cuh for a whole warp at once: sums + A B by fma, k ascending.
#ifndef PR_KERNELS_GPU_EMULATED_TILE_H
#define PR_KERNELS_GPU_EMULATED_TILE_H

enum { PR_EMULATED_TILE = 16 };

struct pr_emulated_tiles {
    float a[PR_EMULATED_TILE][PR_EMULATED_TILE];     // [row][k]
    float b[PR_EMULATED_TILE][PR_EMULATED_TILE];     // [k][column]
    float sums[PR_EMULATED_TILE][PR_EMULATED_TILE];  // [row][column]
};

void pr_emulated_tile_multiply(pr_emulated_tiles *tiles);

#endif

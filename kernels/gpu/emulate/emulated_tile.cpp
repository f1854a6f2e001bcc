// SPDX-License-Identifier: BSD-3-Clause
#include "kernels/gpu/emulate/emulated_tile.h"

// Compiled twice on x86-64: fma of the processor has the bits of the library's, and is some 50 times as fast.
__attribute__((always_inline)) static inline void multiply(pr_emulated_tiles *tiles)
{
    for (int row = 0; row < PR_EMULATED_TILE; row++) {
        float *sums = tiles->sums[row];
        for (int k = 0; k < PR_EMULATED_TILE; k++)
            for (int column = 0; column < PR_EMULATED_TILE; column++)
                sums[column] = __builtin_fmaf(tiles->a[row][k], tiles->b[k][column], sums[column]);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"), optimize("O3"))) static void
multiply_fma(pr_emulated_tiles *tiles)
{
    multiply(tiles);
}
#endif

void pr_emulated_tile_multiply(pr_emulated_tiles *tiles)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("avx2")) {
        multiply_fma(tiles);
        return;
    }
#endif
    multiply(tiles);
}

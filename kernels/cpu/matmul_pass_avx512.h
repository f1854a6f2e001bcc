// SPDX-License-Identifier: BSD-3-Clause
// The pass of matmul_walk.h on AVX-512: one vector is one column (or pair) of a panel of 16 outputs. The
// including file defines before:
//   lanes_of(dtype)   lanes of x in one step
//   bytes_of(dtype)   weights of a step of one panel
//   add_step(dtype, x, rows, panels, panel, sum)
#ifndef PR_KERNELS_CPU_MATMUL_PASS_AVX512_H
#define PR_KERNELS_CPU_MATMUL_PASS_AVX512_H

#include "kernels/cpu/matmul_walk.h"

// By the rows of the largest block: as many panels as give 24 sums, or 4 streams of weights.
#define PR_PANELS_AVX512                                                                           \
    {                                                                                              \
        1, 4, 4, 4, 4, 4, 4, 3, 3, 2, 2, 2, 2                                                      \
    }

// rows, panels and dtype are constants at every call: the loops over them unroll.
PR_INLINE void pass_block(pr_dtype dtype, const pr_pass *pass, int rows, int panels, float *sums)
{
    const char *panel[PR_MOST_PANELS], *ahead = pass->ahead;
    const float *x = pass->x;
    __m512 sum[PR_BLOCK_ROWS][PR_MOST_PANELS];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        panel[p] = pass->weights + (size_t)p * pass->panel_bytes;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            sum[r][p] = _mm512_setzero_ps();
    }
    int64_t step = 0;
    for (; step + PR_PASS_STEPS <= pass->steps; step += PR_PASS_STEPS) {
        for (int32_t i = 0; i < pass->ahead_lines; i++, ahead += PR_LINE)
            _mm_prefetch(ahead, _MM_HINT_T1);
#pragma GCC unroll 4
        for (int i = 0; i < PR_PASS_STEPS; i++) {
            if (rows > 4)
                _mm_prefetch((const char *)x + PR_X_AHEAD, _MM_HINT_T0);
            add_step(dtype, x, rows, panels, panel, sum);
            x += lanes_of(dtype) * rows;
#pragma GCC unroll 4
            for (int p = 0; p < panels; p++)
                panel[p] += bytes_of(dtype);
        }
    }
    for (; step < pass->steps; step++) {
        add_step(dtype, x, rows, panels, panel, sum);
        x += lanes_of(dtype) * rows;
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            panel[p] += bytes_of(dtype);
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++)
            _mm512_storeu_ps(sums + (r * panels + p) * PR_PANEL, sum[r][p]);
    }
}

PR_INLINE void pass_one_panel(pr_dtype dtype, const pr_pass *pass, float *sum)
{
    switch (pass->rows) {
    case 1:
        pass_block(dtype, pass, 1, 1, sum);
        break;
    case 2:
        pass_block(dtype, pass, 2, 1, sum);
        break;
    case 3:
        pass_block(dtype, pass, 3, 1, sum);
        break;
    case 4:
        pass_block(dtype, pass, 4, 1, sum);
        break;
    case 5:
        pass_block(dtype, pass, 5, 1, sum);
        break;
    case 6:
        pass_block(dtype, pass, 6, 1, sum);
        break;
    case 7:
        pass_block(dtype, pass, 7, 1, sum);
        break;
    case 8:
        pass_block(dtype, pass, 8, 1, sum);
        break;
    case 9:
        pass_block(dtype, pass, 9, 1, sum);
        break;
    case 10:
        pass_block(dtype, pass, 10, 1, sum);
        break;
    case 11:
        pass_block(dtype, pass, 11, 1, sum);
        break;
    default:
        pass_block(dtype, pass, 12, 1, sum);
        break;
    }
}

// Blocks of 6 and 8 rows also stand beside larger ones, which take fewer panels.
PR_INLINE void pass_panels(pr_dtype dtype, const pr_pass *pass, float *sum)
{
    switch (pass->rows) {
    case 1:
        pass_block(dtype, pass, 1, 4, sum);
        break;
    case 2:
        pass_block(dtype, pass, 2, 4, sum);
        break;
    case 3:
        pass_block(dtype, pass, 3, 4, sum);
        break;
    case 4:
        pass_block(dtype, pass, 4, 4, sum);
        break;
    case 5:
        pass_block(dtype, pass, 5, 4, sum);
        break;
    case 6:
        if (pass->panels == 4)
            pass_block(dtype, pass, 6, 4, sum);
        else
            pass_block(dtype, pass, 6, 3, sum);
        break;
    case 7:
        pass_block(dtype, pass, 7, 3, sum);
        break;
    case 8:
        if (pass->panels == 3)
            pass_block(dtype, pass, 8, 3, sum);
        else
            pass_block(dtype, pass, 8, 2, sum);
        break;
    case 9:
        pass_block(dtype, pass, 9, 2, sum);
        break;
    case 10:
        pass_block(dtype, pass, 10, 2, sum);
        break;
    case 11:
        pass_block(dtype, pass, 11, 2, sum);
        break;
    default:
        pass_block(dtype, pass, 12, 2, sum);
        break;
    }
}

PR_INLINE void pass_any(pr_dtype dtype, const pr_pass *pass, float *sum)
{
    if (pass->panels == 1)
        pass_one_panel(dtype, pass, sum);
    else
        pass_panels(dtype, pass, sum);
}

#endif

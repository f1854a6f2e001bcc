// SPDX-License-Identifier: BSD-3-Clause
// The pass of matmul_walk.h for any vector width: sums of rows x panels stay in registers while k runs.
// The including file defines before:
//   vector, zero, store      a vector of sums; PANEL_VECTORS of them are the 16 outputs of a panel
//   PASS_ROWS                rows of a pass at the most, 6 or 12 (a macro)
//   pass_panels[rows]        panels of a pass at the most, so that its sums fit the registers
//   FETCH_ROWS               from so many rows on x comes from the third cache
//   lanes_of, bytes_of       lanes of x in a step; weights of a step of one panel
//   add_step(dtype, x, rows, vectors, panel, sum), with sums sum[PASS_ROWS][...] as below
#ifndef PR_KERNELS_CPU_MATMUL_PASS_H
#define PR_KERNELS_CPU_MATMUL_PASS_H

#include "kernels/cpu/matmul_walk.h"

PR_INLINE void
advance(pr_dtype dtype, int rows, int panels, const float **x, const char **panel, sums sum)
{
    add_step(dtype, *x, rows, PANEL_VECTORS * panels, panel, sum);
    *x += lanes_of(dtype) * rows;
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        panel[p] += bytes_of(dtype);
}

// rows, panels and dtype are constants at every call: the loops over them unroll.
PR_INLINE void pass_block(pr_dtype dtype, const pr_pass *pass, int rows, int panels, float *to)
{
    const char *panel[PR_MOST_PANELS], *ahead = pass->ahead;
    const float *x = pass->x;
    int vectors = PANEL_VECTORS * panels;
    sums sum;
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        panel[p] = pass->weights + (size_t)p * pass->panel_bytes;
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            sum[r][v] = zero();
    }
    int64_t step = 0;
    for (; step + PR_PASS_STEPS <= pass->steps; step += PR_PASS_STEPS) {
        for (int32_t i = 0; i < pass->ahead_lines; i++, ahead += PR_LINE)
            __builtin_prefetch(ahead, 0, 2);
#pragma GCC unroll 4
        for (int i = 0; i < PR_PASS_STEPS; i++) {
            if (rows >= FETCH_ROWS)
                __builtin_prefetch((const char *)x + PR_X_AHEAD, 0, 3);
            advance(dtype, rows, panels, &x, panel, sum);
        }
    }
    for (; step < pass->steps; step++)
        advance(dtype, rows, panels, &x, panel, sum);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            store(to + (r * vectors + v) * (PR_PANEL / PANEL_VECTORS), sum[r][v]);
    }
}

// Up to `most` panels, a constant.
PR_INLINE void pass_rows(pr_dtype dtype, const pr_pass *pass, int rows, int most, float *sum)
{
    if (pass->panels == 1 || most == 1)
        pass_block(dtype, pass, rows, 1, sum);
    else if (pass->panels == 2 || most == 2)
        pass_block(dtype, pass, rows, 2, sum);
    else if (pass->panels == 3 || most == 3)
        pass_block(dtype, pass, rows, 3, sum);
    else
        pass_block(dtype, pass, rows, 4, sum);
}

#define PR_PASS_OF(n)                                                                              \
    case n:                                                                                        \
        pass_rows(dtype, pass, n, pass_panels[n], sum);                                            \
        break

PR_INLINE void pass_any(pr_dtype dtype, const pr_pass *pass, float *sum)
{
    switch (pass->rows) {
        PR_PASS_OF(1);
        PR_PASS_OF(2);
        PR_PASS_OF(3);
        PR_PASS_OF(4);
        PR_PASS_OF(5);
        PR_PASS_OF(6);
#if PASS_ROWS > 6
        PR_PASS_OF(7);
        PR_PASS_OF(8);
        PR_PASS_OF(9);
        PR_PASS_OF(10);
        PR_PASS_OF(11);
        PR_PASS_OF(12);
#endif
    }
}

static inline void pass_f32(const pr_pass *pass, float *sum) { pass_any(PR_F32, pass, sum); }

static inline void pass_f16(const pr_pass *pass, float *sum) { pass_any(PR_F16, pass, sum); }

// Not inlined, so that no arithmetic moves out of where denormals are zero.
static __attribute__((noinline, unused)) void pass_bf16_flushed(const pr_pass *pass, float *sum)
{
    pass_any(PR_BF16, pass, sum);
}

#endif

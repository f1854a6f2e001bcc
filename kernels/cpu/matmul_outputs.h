// SPDX-License-Identifier: BSD-3-Clause
// What the specifications of matmul share: the order of slices, and the walk over outputs.
#ifndef PR_KERNELS_CPU_MATMUL_OUTPUTS_H
#define PR_KERNELS_CPU_MATMUL_OUTPUTS_H

#include "kernels/cpu/cpu_kernels.h"

// Slices were summed on their own; pairs of neighbours until one is left.
static inline float pr_matrix_add_slices(float *slice, int32_t slices)
{
    for (int32_t step = 1; step < slices; step *= 2) {
        for (int32_t s = 0; s < slices; s += 2 * step)
            slice[s] = slice[s] + slice[s + step];
    }
    return slice[0];
}

// Output n of row m, without its bias.
typedef float
pr_matmul_output(const pr_matmul_args *args, const void *prepared, int32_t m, int64_t n);

static inline void pr_matmul_each_output(
    const pr_matmul_args *args,
    const void *prepared,
    pr_matmul_output *output,
    int64_t panel_begin,
    int64_t panel_end)
{
    int64_t outputs = args->matrix->rows, end = panel_end * PR_PANEL;
    end = end < outputs ? end : outputs;
    for (int32_t m = 0; m < args->rows; m++) {
        for (int64_t n = panel_begin * PR_PANEL; n < end; n++) {
            float y = output(args, prepared, m, n);
            args->y[m * outputs + n] = args->bias != NULL ? y + args->bias[n] : y;
        }
    }
}

#endif

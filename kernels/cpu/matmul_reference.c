// SPDX-License-Identifier: BSD-3-Clause
// The specification of matmul, in plain C (docs/kernels.md).
#include <math.h>
#include <stddef.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "runtime/base/dtype.h"

static size_t no_row_bytes(const pr_matrix *matrix)
{
    (void)matrix;
    return 0;
}

static void prepare_nothing(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    (void)matrix;
    (void)x;
    (void)rows;
    (void)begin;
    (void)end;
    (void)prepared;
}

// One output: slices summed on their own, then pairs of neighbours until one is left.
static float dot(const pr_matrix *matrix, pr_dtype dtype, const float *x, int64_t output)
{
    const char *panel = pr_matrix_panel(matrix, output / PR_PANEL);
    int64_t lane = output % PR_PANEL;
    float slice[PR_SLICES];
    for (int32_t s = 0; s < matrix->slices; s++) {
        int64_t end = pr_matrix_slice_begin(matrix, s + 1);
        slice[s] = 0.0f;
        for (int64_t k = pr_matrix_slice_begin(matrix, s); k < end; k++) {
            float w = pr_dtype_load(dtype, panel, (size_t)(k * PR_PANEL + lane));
            slice[s] = fmaf(x[k], w, slice[s]);
        }
    }
    for (int32_t step = 1; step < matrix->slices; step *= 2) {
        for (int32_t s = 0; s < matrix->slices; s += 2 * step)
            slice[s] = slice[s] + slice[s + step];
    }
    return slice[0];
}

static void multiply(const pr_matmul_args *args, pr_dtype dtype, int64_t begin, int64_t end)
{
    const pr_matrix *matrix = args->matrix;
    int64_t last = end * PR_PANEL < matrix->rows ? end * PR_PANEL : matrix->rows;
    for (int32_t m = 0; m < args->rows; m++) {
        for (int64_t n = begin * PR_PANEL; n < last; n++) {
            float y = dot(matrix, dtype, args->x + m * matrix->cols, n);
            args->y[m * matrix->rows + n] = args->bias != NULL ? y + args->bias[n] : y;
        }
    }
}

static void
multiply_f32(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    (void)prepared;
    multiply(args, PR_F32, begin, end);
}

static void
multiply_bf16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    (void)prepared;
    multiply(args, PR_BF16, begin, end);
}

static void
multiply_f16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    (void)prepared;
    multiply(args, PR_F16, begin, end);
}

const pr_matmul_kernel pr_matmul_f32_reference = {no_row_bytes, prepare_nothing, multiply_f32};
const pr_matmul_kernel pr_matmul_bf16_reference = {no_row_bytes, prepare_nothing, multiply_bf16};
const pr_matmul_kernel pr_matmul_f16_reference = {no_row_bytes, prepare_nothing, multiply_f16};

// SPDX-License-Identifier: BSD-3-Clause
// The specification of matmul, in plain C (docs/kernels.md). bfloat16: prepared rows are the rounded
// ones, as floats; every slice filled up to pairs. The others take x as it is.
#include <math.h>
#include <stddef.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/flushed.h"
#include "runtime/base/dtype.h"

static size_t no_row_bytes(const pr_matrix *matrix)
{
    (void)matrix;
    return 0;
}

static size_t float_row_bytes(const pr_matrix *matrix)
{
    return ((size_t)matrix->padded_cols * sizeof(float) + 63) / 64 * 64;
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

static void prepare_bf16(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    (void)rows;
    for (int32_t m = begin; m < end; m++) {
        float *row = (float *)(void *)((char *)prepared + (size_t)m * float_row_bytes(matrix));
        for (int32_t s = 0; s < matrix->slices; s++) {
            int64_t first = pr_matrix_slice_begin(matrix, s), at = first;
            for (; at < pr_matrix_slice_begin(matrix, s + 1); at++)
                *row++ = pr_bf16_to_f32(pr_f32_to_bf16(pr_flushed(x[m * matrix->cols + at])));
            for (; at < first + pr_matrix_slice_padded(matrix, s); at++)
                *row++ = 0.0f;
        }
    }
}

// Slices summed on their own, then pairs of neighbours until one is left.
static float add_slices(float *slice, int32_t slices)
{
    for (int32_t step = 1; step < slices; step *= 2) {
        for (int32_t s = 0; s < slices; s += 2 * step)
            slice[s] = slice[s] + slice[s + step];
    }
    return slice[0];
}

// One output of float32 or float16 weights.
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
    return add_slices(slice, matrix->slices);
}

// One output of bfloat16 weights, from a prepared row: of a pair the second column first.
static float dot_pairs(const pr_matrix *matrix, const float *x, int64_t output)
{
    const char *panel = pr_matrix_panel(matrix, output / PR_PANEL);
    int64_t lane = output % PR_PANEL, k = 0;
    float slice[PR_SLICES];
    for (int32_t s = 0; s < matrix->slices; s++) {
        int64_t end = k + pr_matrix_slice_padded(matrix, s);
        slice[s] = 0.0f;
        for (; k < end; k += 2) {
            size_t pair = (size_t)(k * PR_PANEL + 2 * lane);
            float first = pr_dtype_load(PR_BF16, panel, pair);
            float second = pr_dtype_load(PR_BF16, panel, pair + 1);
            slice[s] = pr_flushed_fma(x[k + 1], second, slice[s]);
            slice[s] = pr_flushed_fma(x[k], first, slice[s]);
        }
    }
    return add_slices(slice, matrix->slices);
}

static void multiply(
    const pr_matmul_args *args, pr_dtype dtype, const char *prepared, int64_t begin, int64_t end)
{
    const pr_matrix *matrix = args->matrix;
    int64_t last = end * PR_PANEL < matrix->rows ? end * PR_PANEL : matrix->rows;
    for (int32_t m = 0; m < args->rows; m++) {
        const char *row = prepared + (size_t)m * float_row_bytes(matrix);
        for (int64_t n = begin * PR_PANEL; n < last; n++) {
            float y = dtype == PR_BF16 ? dot_pairs(matrix, (const float *)(const void *)row, n)
                                       : dot(matrix, dtype, args->x + m * matrix->cols, n);
            args->y[m * matrix->rows + n] = args->bias != NULL ? y + args->bias[n] : y;
        }
    }
}

static void
multiply_f32(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    multiply(args, PR_F32, prepared, begin, end);
}

static void
multiply_bf16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    multiply(args, PR_BF16, prepared, begin, end);
}

static void
multiply_f16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    multiply(args, PR_F16, prepared, begin, end);
}

const pr_matmul_kernel pr_matmul_f32_reference = {no_row_bytes, prepare_nothing, multiply_f32};
const pr_matmul_kernel pr_matmul_bf16_reference = {float_row_bytes, prepare_bf16, multiply_bf16};
const pr_matmul_kernel pr_matmul_f16_reference = {no_row_bytes, prepare_nothing, multiply_f16};

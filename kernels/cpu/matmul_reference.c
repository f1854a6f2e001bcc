// SPDX-License-Identifier: BSD-3-Clause
// The specification of matmul, in plain C (docs/kernels.md). bfloat16: prepared rows are the rounded
// ones, as floats; every slice filled up to pairs. The others take x as it is.
#include <math.h>
#include <stddef.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/flushed.h"
#include "kernels/cpu/matmul_outputs.h"
#include "runtime/base/dtype.h"

static size_t row_bytes(const pr_matrix *matrix)
{
    if (matrix->packing != PR_PACKED_BF16)
        return 0;
    return ((size_t)matrix->padded_cols * sizeof(float) + 63) / 64 * 64;
}

static void prepare(const pr_matmul_args *args, int32_t begin, int32_t end, void *prepared)
{
    const pr_matrix *matrix = args->matrix;
    for (int32_t m = begin; m < end && matrix->packing == PR_PACKED_BF16; m++) {
        float *row = (float *)(void *)((char *)prepared + (size_t)m * row_bytes(matrix));
        const float *x = args->x + m * matrix->cols;
        for (int32_t s = 0; s < matrix->slices; s++) {
            int64_t first = pr_matrix_slice_begin(matrix, s), at = first;
            for (; at < pr_matrix_slice_begin(matrix, s + 1); at++)
                *row++ = pr_bf16_to_f32(pr_f32_to_bf16(pr_flushed(x[at])));
            for (; at < first + pr_matrix_slice_padded(matrix, s); at++)
                *row++ = 0.0f;
        }
    }
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
    return pr_matrix_add_slices(slice, matrix->slices);
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
    return pr_matrix_add_slices(slice, matrix->slices);
}

static float output_of(const pr_matmul_args *args, const void *prepared, int32_t m, int64_t n)
{
    const pr_matrix *matrix = args->matrix;
    const float *x = args->x + m * matrix->cols;
    if (matrix->packing == PR_PACKED_F32)
        return dot(matrix, PR_F32, x, n);
    if (matrix->packing == PR_PACKED_F16)
        return dot(matrix, PR_F16, x, n);
    const void *row = (const char *)prepared + (size_t)m * row_bytes(matrix);
    return dot_pairs(matrix, row, n);
}

static void multiply(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_matmul_each_output(args, prepared, output_of, begin, end);
}

const pr_matmul_kernel pr_matmul_float_reference = {row_bytes, prepare, multiply};

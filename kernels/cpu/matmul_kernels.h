// SPDX-License-Identifier: BSD-3-Clause
// The functions of pr_matmul_kernel around walks[dtype], which the including file defines before: lanes
// are floats for every type.
#ifndef PR_KERNELS_CPU_MATMUL_KERNELS_H
#define PR_KERNELS_CPU_MATMUL_KERNELS_H

static size_t float_row_bytes(const pr_matrix *matrix)
{
    return pr_walk_row_bytes(&walks[PR_F32], matrix);
}

static void prepare_f32(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    pr_matmul_args args = {.rows = rows, .x = x, .matrix = matrix};
    pr_walk_prepare(&walks[PR_F32], &args, begin, end, prepared);
}

static void prepare_bf16(
    const pr_matrix *matrix,
    const float *x,
    int32_t rows,
    int32_t begin,
    int32_t end,
    void *prepared)
{
    pr_matmul_args args = {.rows = rows, .x = x, .matrix = matrix};
    pr_walk_prepare(&walks[PR_BF16], &args, begin, end, prepared);
}

static void
multiply_f32(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_walk_multiply(&walks[PR_F32], args, prepared, begin, end);
}

static void
multiply_bf16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_walk_multiply(&walks[PR_BF16], args, prepared, begin, end);
}

static void
multiply_f16(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_walk_multiply(&walks[PR_F16], args, prepared, begin, end);
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// The functions of pr_matmul_kernel around walks[packing], which the including file defines before.
#ifndef PR_KERNELS_CPU_MATMUL_KERNELS_H
#define PR_KERNELS_CPU_MATMUL_KERNELS_H

static size_t row_bytes(const pr_matrix *matrix)
{
    return pr_walk_row_bytes(&walks[matrix->packing], matrix);
}

static void prepare(const pr_matmul_args *args, int32_t begin, int32_t end, void *prepared)
{
    pr_walk_prepare(&walks[args->matrix->packing], args, begin, end, prepared);
}

static void multiply(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    pr_walk_multiply(&walks[args->matrix->packing], args, prepared, begin, end);
}

#endif

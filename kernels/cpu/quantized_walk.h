// SPDX-License-Identifier: BSD-3-Clause
// How a fast matmul with quantised weights walks: a panel stays in the near caches while all parts of the
// rows pass. The including file defines before: MOST_ROWS of a part, quantize_row_block (quantized.h), and
// compute_rows(b, rows, packing), where packing is a constant.
#ifndef PR_KERNELS_CPU_QUANTIZED_WALK_H
#define PR_KERNELS_CPU_QUANTIZED_WALK_H

static void prepare(const pr_matmul_args *args, int32_t begin, int32_t end, void *prepared)
{
    pr_quantized_prepare(args, begin, end, MOST_ROWS, quantize_row_block, prepared);
}

PR_INLINE void walk(
    const pr_matmul_args *args,
    pr_packing packing,
    const char *prepared,
    int64_t begin,
    int64_t end)
{
    int64_t rows = args->rows, parts = pr_row_parts(rows, MOST_ROWS);
    size_t row_bytes = pr_quantized_row_bytes(args->matrix);
    for (int64_t panel = begin; panel < end; panel++) {
        for (int64_t i = 0; i < parts; i++) {
            int64_t first = pr_row_part_begin(rows, parts, i);
            block b = {args, prepared + (size_t)first * row_bytes, first, panel};
            compute_rows(&b, pr_row_part_begin(rows, parts, i + 1) - first, packing);
        }
    }
}

// Not inlined into one: the compiler places loads better in each alone.
static __attribute__((noinline)) void
multiply_int8(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    walk(args, PR_PACKED_INT8, prepared, begin, end);
}

static __attribute__((noinline)) void
multiply_int4(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    walk(args, PR_PACKED_INT4, prepared, begin, end);
}

static void multiply(const pr_matmul_args *args, const void *prepared, int64_t begin, int64_t end)
{
    if (args->matrix->packing == PR_PACKED_INT8)
        multiply_int8(args, prepared, begin, end);
    else
        multiply_int4(args, prepared, begin, end);
}

#endif

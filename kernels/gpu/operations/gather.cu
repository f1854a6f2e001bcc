// SPDX-License-Identifier: BSD-3-Clause
// to[i] = from[row_of[i]]. One block a row; the grid is made for the most rows, blocks beyond those used leave at once.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/row_vector.cuh"

template <int N> GPU_KERNEL void gather_rows(pr_gpu_gather_args args)
{
    int32_t row = gpu_block(), used = args.used ? *args.used : args.rows;
    if (row >= used)
        return;
    const float *from = args.from + (int64_t)args.row_of[row] * args.hidden;
    float *to = args.to + (int64_t)row * args.hidden;
    for (int32_t i = pr_row_turn_first<N>(); i < args.hidden; i += pr_row_turn_step<N>())
        pr_row_turn_store<N>(to, i, args.hidden, pr_row_turn_load<N>(from, i, args.hidden));
}

void pr_gpu_gather(pr_gpu_stream *stream, const pr_gpu_gather_args *args)
{
    if (args->rows <= 0 || args->hidden <= 0)
        return;
    gpu_grid grid = {(unsigned)args->rows};
    if (pr_row_vector_fits(args->from, args->hidden) && pr_row_vector_fits(args->to, args->hidden))
        gpu_launch(
            gather_rows<PR_ROW_VECTOR>, grid, pr_row_vector_threads(args->hidden / PR_ROW_VECTOR),
            0, stream, *args);
    else
        gpu_launch(gather_rows<1>, grid, pr_row_vector_threads(args->hidden), 0, stream, *args);
}

// SPDX-License-Identifier: BSD-3-Clause
// y[t] = fma(weight[t][k], row, y[t]), k ascending from 0. A thread owns columns of one token and has the rows of several k
// in flight; a place of -1 (or a slot of NULL) has no row and adds nothing.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/row_vector.cuh"

enum { IN_FLIGHT = 4 };

GPU_FUNCTION const float *row_of(const pr_gpu_combine_args &args, int64_t pair)
{
    if (args.place == NULL)
        return args.slot[pair];
    int32_t place = args.place[pair];
    return place < 0 ? NULL : args.rows + (int64_t)place * args.hidden;
}

// The rows of slots k, k + 1, .. of one token onto y.
template <int N>
GPU_FUNCTION void add_rows(
    const pr_gpu_combine_args &args, int64_t pair, int32_t rows, int64_t i, pr_row_vector<N> &y)
{
    const float *row[IN_FLIGHT];
    pr_row_vector<N> part[IN_FLIGHT];
    GPU_UNROLL
    for (int k = 0; k < IN_FLIGHT; k++) {
        row[k] = k < rows ? row_of(args, pair + k) : NULL;
        if (row[k] != NULL)
            part[k] = pr_row_vector_load<N>(row[k] + i);
    }
    GPU_UNROLL
    for (int k = 0; k < IN_FLIGHT; k++) {
        if (row[k] == NULL)
            continue;
        float weight = args.weight[pair + k];
        GPU_UNROLL
        for (int j = 0; j < N; j++)
            y.value[j] = gpu_fma(weight, part[k].value[j], y.value[j]);
    }
}

template <int N> GPU_KERNEL void combine_rows(pr_gpu_combine_args args)
{
    int64_t t = gpu_block(), i = ((int64_t)gpu_block_y() * gpu_threads() + gpu_thread()) * N;
    if (i >= args.hidden)
        return;
    pr_row_vector<N> y;
    GPU_UNROLL
    for (int j = 0; j < N; j++)
        y.value[j] = 0;
    for (int32_t k = 0; k < args.chosen; k += IN_FLIGHT)
        add_rows<N>(args, t * args.chosen + k, args.chosen - k, i, y);
    pr_row_vector_store<N>(args.y + t * args.hidden + i, y);
}

template <int N> static void launch(pr_gpu_stream *stream, const pr_gpu_combine_args *args)
{
    unsigned columns = ((unsigned)args->hidden + N - 1) / N,
             threads = pr_row_vector_threads(columns);
    gpu_grid grid = {(unsigned)args->tokens, (columns + threads - 1) / threads};
    gpu_launch(combine_rows<N>, grid, threads, 0, stream, *args);
}

void pr_gpu_combine(pr_gpu_stream *stream, const pr_gpu_combine_args *args)
{
    if (args->tokens <= 0 || args->hidden <= 0)
        return;
    // Rows of slots lie in buffers of whole rows: aligned as rows are.
    if (pr_row_vector_fits(args->y, args->hidden) && pr_row_vector_fits(args->rows, args->hidden))
        launch<PR_ROW_VECTOR>(stream, args);
    else
        launch<1>(stream, args);
}

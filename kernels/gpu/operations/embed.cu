// SPDX-License-Identifier: BSD-3-Clause
// x[t] = table[token[t]], widened. One block a row; 16 bytes of x at a time.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/row_vector.cuh"

template <int N> GPU_FUNCTION pr_row_vector<N> widened(const gpu_bf16 *from)
{
    pr_row_vector<N> v;
    if constexpr (N == PR_ROW_VECTOR) {
        const uint32_t *pair = reinterpret_cast<const uint32_t *>(from);
        GPU_UNROLL
        for (int i = 0; i < N; i += 2) {
            v.value[i] = gpu_from_bits(pair[i / 2] << 16);
            v.value[i + 1] = gpu_from_bits(pair[i / 2] & 0xffff0000u);
        }
    } else {
        v.value[0] = gpu_from_bf16(*from);
    }
    return v;
}

template <int N, bool BF16> GPU_KERNEL void embed_rows(pr_gpu_embed_args args)
{
    int32_t t = gpu_block(), hidden = args.hidden;
    int64_t row = (int64_t)args.token[t] * hidden;
    float *x = args.x + (int64_t)t * hidden;
    for (int32_t first = pr_row_turn_first<N>(); first < hidden; first += pr_row_turn_step<N>()) {
        pr_row_turn<N> turn = {};
        if constexpr (BF16) {
            const gpu_bf16 *table = static_cast<const gpu_bf16 *>(args.table) + row;
            GPU_UNROLL
            for (int i = 0; i < PR_ROW_TURN; i++) {
                int32_t at = first + i * gpu_threads() * N;
                if (at < hidden)
                    turn.part[i] = widened<N>(table + at);
            }
        } else {
            turn = pr_row_turn_load<N>(static_cast<const float *>(args.table) + row, first, hidden);
        }
        pr_row_turn_store<N>(x, first, hidden, turn);
    }
}

template <int N> static void launch(pr_gpu_stream *stream, const pr_gpu_embed_args *args)
{
    gpu_grid grid = {(unsigned)args->tokens};
    unsigned threads = pr_row_vector_threads(args->hidden / N);
    if (args->table_is_bf16)
        gpu_launch(embed_rows<N, true>, grid, threads, 0, stream, *args);
    else
        gpu_launch(embed_rows<N, false>, grid, threads, 0, stream, *args);
}

void pr_gpu_embed(pr_gpu_stream *stream, const pr_gpu_embed_args *args)
{
    if (args->tokens <= 0 || args->hidden <= 0)
        return;
    if (pr_row_vector_fits(args->x, args->hidden) && pr_row_vector_fits(args->table, args->hidden))
        launch<PR_ROW_VECTOR>(stream, args);
    else
        launch<1>(stream, args);
}

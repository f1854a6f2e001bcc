// SPDX-License-Identifier: BSD-3-Clause
// Rows of float32 to rows of bfloat16 that the tensor cores' copies can take: gathered, padded with zeros. Once before
// a product of many rows, whose blocks would each convert them again. Source: ours. Cost: 6 bytes an element.
#ifndef PR_GPU_MATRIX_MATMUL_ROUND_CUH
#define PR_GPU_MATRIX_MATMUL_ROUND_CUH

#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/language/gpu.cuh"

enum { ROUND_THREADS = 256, ROUND_BLOCKS = 2048 };

static inline int matmul_padded(int cols)
{
    return (cols + PR_GPU_PADDED_COLS - 1) / PR_GPU_PADDED_COLS * PR_GPU_PADDED_COLS;
}

struct round_args {
    int rows;
    const int32_t *rows_used;  // [used_count], their sum counts; NULL: all of `rows`
    int used_count;
    const int32_t *row_of;  // NULL: row i is row i
    const float *from;      // [.][cols]
    int cols, padded;
    gpu_bf16 *to;  // [rows][padded]
};

GPU_FUNCTION int round_used(const round_args &args)
{
    if (!args.rows_used)
        return args.rows;
    int used = 0;
    for (int i = 0; i < args.used_count; i++)
        used += args.rows_used[i];
    return used < args.rows ? used : args.rows;
}

GPU_KERNEL void round_rows(round_args args)
{
    int used = round_used(args), pieces = args.padded / 8;
    bool even = args.cols % 4 == 0;
    for (int row = gpu_block(); row < used; row += gpu_blocks()) {
        const float *from = args.from + (int64_t)(args.row_of ? args.row_of[row] : row) * args.cols;
        for (int piece = gpu_thread(); piece < pieces; piece += ROUND_THREADS) {
            float v[8];
            int k = piece * 8;
            if (even && k + 8 <= args.cols) {
                gpu_bytes16 low = gpu_load16(from + k), high = gpu_load16(from + k + 4);
                GPU_UNROLL
                for (int i = 0; i < 4; i++) {
                    v[i] = gpu_from_bits(low.word[i]);
                    v[i + 4] = gpu_from_bits(high.word[i]);
                }
            } else {
                GPU_UNROLL
                for (int i = 0; i < 8; i++)
                    v[i] = k + i < args.cols ? from[k + i] : 0.0f;
            }
            gpu_bytes16 rounded;
            GPU_UNROLL
            for (int i = 0; i < 4; i++)
                rounded.word[i] = gpu_to_bf16_pair(v[2 * i], v[2 * i + 1]);
            gpu_store16(args.to + (int64_t)row * args.padded + k, rounded);
        }
    }
}

static inline void round_launch(pr_gpu_stream *stream, const round_args &args)
{
    unsigned blocks = (unsigned)(args.rows < ROUND_BLOCKS ? args.rows : ROUND_BLOCKS);
    gpu_launch(round_rows, gpu_grid{blocks, 1, 1}, ROUND_THREADS, 0, stream, args);
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// y = silu(gate) * up, the bits of pr_silu. Cost: 12 bytes an element.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/matrix/gated.cuh"

enum { GATED_THREADS = 256 };
static const int64_t gated_blocks_most = 2048;

GPU_FUNCTION gpu_bytes16 gated_four(gpu_bytes16 gate, gpu_bytes16 up)
{
    gpu_bytes16 y;
    GPU_UNROLL
    for (int i = 0; i < 4; i++)
        y.word[i] = gpu_bits(gated_value(gpu_from_bits(gate.word[i]), gpu_from_bits(up.word[i])));
    return y;
}

GPU_KERNEL void gated_elements(pr_gpu_gated_args args)
{
    int64_t first = (int64_t)gpu_block() * GATED_THREADS + gpu_thread();
    int64_t step = (int64_t)gpu_blocks() * GATED_THREADS, fours = args.elements / 4;
    for (int64_t i = first; i < fours; i += step)
        gpu_store16(
            args.y + i * 4, gated_four(gpu_load16(args.gate + i * 4), gpu_load16(args.up + i * 4)));
    for (int64_t i = fours * 4 + first; i < args.elements; i += step)
        args.y[i] = gated_value(args.gate[i], args.up[i]);
}

void pr_gpu_gated(pr_gpu_stream *stream, const pr_gpu_gated_args *args)
{
    if (args->elements == 0)
        return;
    int64_t blocks = (args->elements + 4 * GATED_THREADS - 1) / (4 * GATED_THREADS);
    unsigned x = (unsigned)(blocks < gated_blocks_most ? blocks : gated_blocks_most);
    gpu_launch(gated_elements, gpu_grid{x, 1, 1}, GATED_THREADS, 0, stream, *args);
}

// SPDX-License-Identifier: BSD-3-Clause
// x += y, where y may repeat. A block takes one piece of one repetition, so no element needs a division.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/row_vector.cuh"

// A block's piece: every thread has four vectors of 16 bytes.
enum { PIECE = 4 * PR_ROW_VECTOR * PR_ROW_THREADS };

typedef struct add_plan {
    float *x;
    const float *y;
    int64_t elements, period;
    int32_t pieces;  // of PIECE elements in a period
} add_plan;

template <int N> GPU_KERNEL void add_pieces(add_plan plan)
{
    int32_t repetition = gpu_block() / plan.pieces, piece = gpu_block() % plan.pieces;
    int64_t at = repetition * plan.period, begin = (int64_t)piece * PIECE;
    int64_t left = plan.elements - at < plan.period ? plan.elements - at : plan.period;
    int32_t length = left - begin < PIECE ? (int32_t)(left - begin) : PIECE;  // may be below 0
    float *x = plan.x + at + begin;
    const float *y = plan.y + begin;
    for (int32_t i = pr_row_turn_first<N>(); i < length; i += pr_row_turn_step<N>()) {
        pr_row_turn<N> turn = pr_row_turn_load<N>(x, i, length);
        pr_row_turn_add<N>(turn, pr_row_turn_load<N>(y, i, length));
        pr_row_turn_store<N>(x, i, length, turn);
    }
}

void pr_gpu_add(pr_gpu_stream *stream, const pr_gpu_add_args *args)
{
    if (args->elements <= 0)
        return;
    int64_t period = args->period > 0 ? args->period : args->elements;
    int32_t pieces = (int32_t)((period + PIECE - 1) / PIECE);
    int64_t repetitions = (args->elements + period - 1) / period;
    int64_t least = period < PIECE ? period : (int64_t)PIECE;
    add_plan plan = {args->x, args->y, args->elements, period, pieces};
    gpu_grid grid = {(unsigned)(repetitions * pieces)};
    bool wide = pr_row_vector_fits(args->x, period) && pr_row_vector_fits(args->y, args->elements);
    if (wide)
        gpu_launch(
            add_pieces<PR_ROW_VECTOR>, grid, pr_row_vector_threads(least / PR_ROW_VECTOR), 0,
            stream, plan);
    else
        gpu_launch(add_pieces<1>, grid, pr_row_vector_threads(least), 0, stream, plan);
}

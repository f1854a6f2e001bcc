// SPDX-License-Identifier: BSD-3-Clause
// x += addend, y = x * (1 / sqrt(sum of squares / n + epsilon)) * weight. One block a row. The sum has the reference's
// order: 16 strided lanes by fma, each one thread's, then neighbours; the row waits in shared memory meanwhile.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/rows/row_vector.cuh"

enum { LANES = 16, AHEAD = 8, HELD_FLOATS = 12 * 1024 };

// In front of the row, 16 bytes. A row longer than HELD_FLOATS is read from x again.
struct norm_shared {
    float inverse, unused[3];
};

GPU_FUNCTION void load_ahead(float (&value)[AHEAD], const float *x)
{
    GPU_UNROLL
    for (int j = 0; j < AHEAD; j++)
        value[j] = x[j * LANES];
}

// By the first warp. `x` is shared or global memory. While one batch is added the next one comes.
GPU_FUNCTION float sum_of_squares(const float *x, int32_t n)
{
    float sum = 0, now[AHEAD] = {}, next[AHEAD] = {};
    bool adds = gpu_lane() < LANES;
    int32_t batches = adds ? n / (AHEAD * LANES) : 0;
    x += gpu_lane();
    if (batches > 0)
        load_ahead(now, x);
    for (int32_t batch = 0; batch < batches; batch++) {
        if (batch + 1 < batches)
            load_ahead(next, x + (batch + 1) * AHEAD * LANES);
        GPU_UNROLL
        for (int j = 0; j < AHEAD; j++) {
            sum = gpu_fma(now[j], now[j], sum);
            now[j] = next[j];
        }
    }
    for (int32_t i = batches * AHEAD * LANES; adds && i + gpu_lane() < n; i += LANES)
        sum = gpu_fma(x[i], x[i], sum);
    GPU_UNROLL
    for (int step = 1; step < LANES; step *= 2)
        sum = sum + gpu_shuffle_xor(sum, step);
    return sum;
}

template <int N>
GPU_FUNCTION void take_row(const pr_gpu_rmsnorm_args &args, float *x, int64_t at, float *held)
{
    for (int32_t i = pr_row_turn_first<N>(); i < args.hidden; i += pr_row_turn_step<N>()) {
        pr_row_turn<N> turn = pr_row_turn_load<N>(x, i, args.hidden);
        if (args.addend != NULL) {
            pr_row_turn_add<N>(turn, pr_row_turn_load<N>(args.addend + at, i, args.hidden));
            pr_row_turn_store<N>(x, i, args.hidden, turn);
        }
        if (held != NULL)
            pr_row_turn_store<N>(held, i, args.hidden, turn);
    }
}

template <int N>
GPU_FUNCTION void scale(pr_row_turn<N> &turn, float inverse, const pr_row_turn<N> &weight)
{
    GPU_UNROLL
    for (int i = 0; i < PR_ROW_TURN; i++) {
        GPU_UNROLL
        for (int j = 0; j < N; j++)
            turn.part[i].value[j] = turn.part[i].value[j] * inverse * weight.part[i].value[j];
    }
}

template <int N, bool HELD> GPU_KERNEL void norm_rows(pr_gpu_rmsnorm_args args)
{
    norm_shared &shared = gpu_shared<norm_shared>();
    int64_t at = (int64_t)gpu_block() * args.hidden;
    float *x = args.x + (args.row ? (int64_t)args.row[gpu_block()] * args.hidden : at);
    float *held = HELD ? reinterpret_cast<float *>(&shared + 1) : NULL;
    const float *row = HELD ? held : x;
    int32_t first = pr_row_turn_first<N>(), hidden = args.hidden;
    take_row<N>(args, x, at, held);
    // Of the first turn, while the sum is made.
    pr_row_turn<N> weight = pr_row_turn_load<N>(args.weight, first, hidden);
    gpu_barrier();
    if (gpu_warp() == 0) {
        float sum = sum_of_squares(row, hidden);
        if (gpu_lane() == 0)
            shared.inverse = 1.0f / gpu_sqrt(sum / (float)hidden + args.epsilon);
    }
    gpu_barrier();
    float inverse = shared.inverse;
    for (int32_t i = first; i < hidden; i += pr_row_turn_step<N>()) {
        pr_row_turn<N> turn = pr_row_turn_load<N>(row, i, hidden);
        if (i > first)
            weight = pr_row_turn_load<N>(args.weight, i, hidden);
        scale<N>(turn, inverse, weight);
        pr_row_turn_store<N>(args.y + at, i, hidden, turn);
    }
}

template <int N> static void launch(pr_gpu_stream *stream, const pr_gpu_rmsnorm_args *args)
{
    gpu_grid grid = {(unsigned)args->tokens};
    unsigned threads = pr_row_vector_threads(args->hidden / N);
    unsigned head_bytes = (unsigned)sizeof(norm_shared);
    if (args->hidden <= HELD_FLOATS)
        gpu_launch(
            norm_rows<N, true>, grid, threads, head_bytes + (unsigned)args->hidden * 4, stream,
            *args);
    else
        gpu_launch(norm_rows<N, false>, grid, threads, head_bytes, stream, *args);
}

void pr_gpu_rmsnorm(pr_gpu_stream *stream, const pr_gpu_rmsnorm_args *args)
{
    if (args->tokens <= 0 || args->hidden <= 0)
        return;
    int64_t hidden = args->hidden;
    bool wide = pr_row_vector_fits(args->x, hidden) && pr_row_vector_fits(args->addend, hidden) &&
                pr_row_vector_fits(args->weight, hidden) && pr_row_vector_fits(args->y, hidden);
    if (wide)
        launch<PR_ROW_VECTOR>(stream, args);
    else
        launch<1>(stream, args);
}

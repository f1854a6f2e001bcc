// SPDX-License-Identifier: BSD-3-Clause
// The sum of the branches of a lane's ranks: each stores its piece to all of them, waits for theirs, and adds them in the
// order of the fixed tree, so all have the same bits.
#include "kernels/gpu/operations/exchange_region.cuh"

struct exchange_reduce_step {
    pr_gpu_exchange at;
    int64_t elements;
    const float *branch;
    float *sum;
};

GPU_FUNCTION float *
exchange_branch(const pr_gpu_exchange &at, unsigned char *region, uint32_t sequence, int tp_rank)
{
    int64_t buffer = sequence & 1;
    return (float *)(region + at.layout.branches) + (buffer * at.tp + tp_rank) * at.layout.piece;
}

// One thread, so that all blocks of the next kernel see the same number.
GPU_KERNEL void exchange_reduce_count(uint32_t *sequence) { *sequence += 1; }

// Each block a strip of the piece, in turns.
GPU_KERNEL void exchange_reduce_store(exchange_reduce_step step)
{
    const pr_gpu_exchange &at = step.at;
    exchange_flags flags = exchange_reduce_flags(at);
    int64_t stride = (int64_t)gpu_blocks() * gpu_threads();
    int64_t first = (int64_t)gpu_block() * gpu_threads() + gpu_thread(), whole = step.elements / 4;
    for (int peer = 0; peer < at.tp; peer++) {
        unsigned char *region = at.region[flags.first_rank + (at.rank + peer) % at.tp];
        float *to = exchange_branch(at, region, flags.sequence, at.rank % at.tp);
        for (int64_t i = first; i < whole; i += stride)
            gpu_store16(to + 4 * i, gpu_load16(step.branch + 4 * i));
        for (int64_t i = 4 * whole + first; i < step.elements; i += stride)
            to[i] = step.branch[i];
    }
    exchange_raise(at, flags, nullptr);
}

GPU_KERNEL void exchange_reduce_wait(pr_gpu_exchange at)
{
    exchange_wait_shared &shared = gpu_shared<exchange_wait_shared>();
    exchange_wait(at, shared, exchange_reduce_flags(at), PR_GPU_EXCHANGE_REDUCE);
}

template <int TP> GPU_FUNCTION float exchange_tree(const float *branch, int64_t piece, int64_t i)
{
    float value[TP];
    GPU_UNROLL
    for (int tp_rank = 0; tp_rank < TP; tp_rank++)
        value[tp_rank] = branch[tp_rank * piece + i];
    GPU_UNROLL
    for (int step = 1; step < TP; step *= 2) {
        GPU_UNROLL
        for (int tp_rank = 0; tp_rank < TP; tp_rank += 2 * step)
            value[tp_rank] = value[tp_rank] + value[tp_rank + step];
    }
    return value[0];
}

template <int TP> GPU_KERNEL void exchange_reduce_add(exchange_reduce_step step)
{
    const pr_gpu_exchange &at = step.at;
    const float *branch = exchange_branch(at, at.own, at.sequence[2], 0);
    int64_t stride = (int64_t)gpu_blocks() * gpu_threads();
    for (int64_t i = (int64_t)gpu_block() * gpu_threads() + gpu_thread(); i < step.elements;
         i += stride)
        step.sum[i] = exchange_tree<TP>(branch, at.layout.piece, i);
}

static exchange_reduce_step exchange_reduce_of(const pr_gpu_exchange_reduce_args *args)
{
    exchange_reduce_step step = {};
    step.at = *args->exchange;
    step.elements = args->elements;
    step.branch = args->branch;
    step.sum = args->sum;
    return step;
}

void pr_gpu_exchange_reduce_send(pr_gpu_stream *stream, const pr_gpu_exchange_reduce_args *args)
{
    gpu_launch(exchange_reduce_count, gpu_grid{1}, 1, 0, stream, args->exchange->sequence + 2);
    gpu_launch(
        exchange_reduce_store, gpu_grid{PR_GPU_EXCHANGE_PARTS}, EXCHANGE_THREADS, 0, stream,
        exchange_reduce_of(args));
}

void pr_gpu_exchange_reduce_receive(pr_gpu_stream *stream, const pr_gpu_exchange_reduce_args *args)
{
    exchange_reduce_step step = exchange_reduce_of(args);
    int64_t blocks = (step.elements + EXCHANGE_THREADS - 1) / EXCHANGE_THREADS, most = 4096;
    gpu_grid grid{(unsigned)(blocks < most ? blocks : most)};
    gpu_launch(
        exchange_reduce_wait, gpu_grid{1}, EXCHANGE_THREADS, sizeof(exchange_wait_shared), stream,
        step.at);
    if (step.at.tp == 2)
        gpu_launch(exchange_reduce_add<2>, grid, EXCHANGE_THREADS, 0, stream, step);
    else if (step.at.tp == 4)
        gpu_launch(exchange_reduce_add<4>, grid, EXCHANGE_THREADS, 0, stream, step);
    else
        gpu_launch(exchange_reduce_add<8>, grid, EXCHANGE_THREADS, 0, stream, step);
}

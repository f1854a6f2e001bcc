// SPDX-License-Identifier: BSD-3-Clause
// Results back to their slots: each row is stored to slot [token][k] of all ranks of the lane it came from, then flags;
// then the wait, after which the slots can be summed (combine.cu, in order of k).
#include "kernels/gpu/operations/exchange_region.cuh"

struct exchange_return_step {
    pr_gpu_exchange at;
    const int32_t *total, *origin;
    const float *results;
    int32_t slots;  // tokens * K
    const float **slot;
};

struct exchange_return_shared {
    float *to[PR_GPU_EXCHANGE_CHOSEN];
};

// Row i goes to ranks first, first + 1, ... of its lane, PR_GPU_EXCHANGE_CHOSEN of them at a time.
GPU_FUNCTION void exchange_return_row(
    const exchange_return_step &step, exchange_return_shared &shared, uint32_t sequence, int32_t i)
{
    const pr_gpu_exchange &at = step.at;
    int32_t source = step.origin[2 * i], slot = step.origin[2 * i + 1];
    bool good = slot >= 0 && slot < at.most_tokens * at.chosen;  // it came from another process
    for (int32_t first = 0; good && first < at.tp; first += PR_GPU_EXCHANGE_CHOSEN) {
        int32_t left = at.tp - first, rank = source / at.tp * at.tp + first;
        int32_t count = left < PR_GPU_EXCHANGE_CHOSEN ? left : PR_GPU_EXCHANGE_CHOSEN;
        if (gpu_thread() < count)
            shared.to[gpu_thread()] =
                exchange_returned(at, at.region[rank + gpu_thread()], sequence, slot);
        gpu_barrier();
        exchange_copy(step.results + (int64_t)i * at.hidden, shared.to, count, at.hidden);
        gpu_barrier();  // the next addresses come where these were
    }
}

GPU_KERNEL void exchange_return(exchange_return_step step)
{
    exchange_return_shared &shared = gpu_shared<exchange_return_shared>();
    const pr_gpu_exchange &at = step.at;
    uint32_t sequence = at.sequence[0];
    int32_t total = at.local_experts > 0 ? *step.total : 0;
    for (int32_t i = gpu_block(); i < total; i += gpu_blocks())
        exchange_return_row(step, shared, sequence, i);
    exchange_raise(at, exchange_return_flags(at), nullptr);
}

GPU_KERNEL void exchange_wait_results(exchange_return_step step)
{
    exchange_wait_shared &shared = gpu_shared<exchange_wait_shared>();
    const pr_gpu_exchange &at = step.at;
    uint32_t sequence = at.sequence[0];
    exchange_wait(at, shared, exchange_return_flags(at), PR_GPU_EXCHANGE_COMBINE);
    for (int32_t i = gpu_thread(); i < step.slots; i += gpu_threads())
        step.slot[i] = exchange_returned(at, at.own, sequence, i);
}

static exchange_return_step exchange_return_of(const pr_gpu_exchange_combine_args *args)
{
    exchange_return_step step = {};
    step.at = *args->exchange;
    step.total = args->total;
    step.origin = args->origin;
    step.results = args->results;
    step.slots = args->tokens * args->exchange->chosen;
    step.slot = args->slot;
    return step;
}

void pr_gpu_exchange_combine_send(pr_gpu_stream *stream, const pr_gpu_exchange_combine_args *args)
{
    gpu_launch(
        exchange_return, gpu_grid{PR_GPU_EXCHANGE_PARTS}, EXCHANGE_THREADS,
        sizeof(exchange_return_shared), stream, exchange_return_of(args));
}

void pr_gpu_exchange_combine_receive(
    pr_gpu_stream *stream, const pr_gpu_exchange_combine_args *args)
{
    gpu_launch(
        exchange_wait_results, gpu_grid{1}, EXCHANGE_THREADS, sizeof(exchange_wait_shared), stream,
        exchange_return_of(args));
}

// SPDX-License-Identifier: BSD-3-Clause
// Softmax over experts and the K largest of it. One warp a token; a lane holds experts lane, lane + GPU_WARP, ... as keys
// that order by (p descending, expert ascending). Sums are the reference's: chosen p in slot order, or all p with e
// ascending, which go through shared memory for that. More than EXPERTS_MOST experts, or more chosen than lanes, are no
// registers' business: then each slot is a pass over the logits.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/language/gpu.cuh"

enum { WARPS = 4, EXPERTS_MOST = 1024 };

GPU_FUNCTION uint64_t key_of(float p, int32_t expert)
{
    return (uint64_t)gpu_bits(p) << 32 | (0xffffffffu - (uint32_t)expert);
}
GPU_FUNCTION float p_of(uint64_t key) { return gpu_from_bits((uint32_t)(key >> 32)); }
GPU_FUNCTION int32_t expert_of(uint64_t key) { return (int32_t)(0xffffffffu - (uint32_t)key); }

// The warp's largest key, which its lane gives up: 0 is below every key.
template <int HELD> GPU_FUNCTION uint64_t take_largest(uint64_t (&key)[HELD])
{
    uint64_t largest = key[0];
    GPU_UNROLL
    for (int i = 1; i < HELD; i++)
        largest = key[i] > largest ? key[i] : largest;
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2) {
        uint64_t other = gpu_shuffle_xor(largest, step);
        largest = other > largest ? other : largest;
    }
    GPU_UNROLL
    for (int i = 0; i < HELD; i++)
        key[i] = key[i] == largest ? 0 : key[i];
    return largest;
}

template <int HELD>
GPU_FUNCTION float maximum_of(const float *logits, int32_t experts, float (&x)[HELD])
{
    float maximum = logits[0];
    GPU_UNROLL
    for (int i = 0; i < HELD; i++) {
        int32_t e = gpu_lane() + i * GPU_WARP;
        x[i] = e < experts ? logits[e] : maximum;
    }
    GPU_UNROLL
    for (int i = 0; i < HELD; i++)
        maximum = x[i] > maximum ? x[i] : maximum;
    GPU_UNROLL
    for (int step = 1; step < GPU_WARP; step *= 2) {
        float other = gpu_shuffle_xor(maximum, step);
        maximum = other > maximum ? other : maximum;
    }
    return maximum;
}

template <int HELD> GPU_KERNEL void topk_tokens(pr_gpu_topk_args args)
{
    float *p = &gpu_shared<float>() + gpu_warp() * args.experts;  // [WARPS][E]
    int64_t t = (int64_t)gpu_block() * WARPS + gpu_warp();
    if (t >= args.tokens)  // a whole warp
        return;
    float x[HELD];
    float maximum = maximum_of<HELD>(args.logits + t * args.experts, args.experts, x);
    uint64_t key[HELD];
    GPU_UNROLL
    for (int i = 0; i < HELD; i++) {
        int32_t e = gpu_lane() + i * GPU_WARP;
        float value = gpu_exp(x[i] - maximum);
        key[i] = e < args.experts ? key_of(value, e) : 0;
        if (!args.renormalise && e < args.experts)
            p[e] = value;
    }
    gpu_warp_barrier();
    float sum = 0;
    for (int32_t e = 0; !args.renormalise && e < args.experts; e++)
        sum += p[e];
    float mine = 0;  // lane k keeps slot k
    for (int32_t k = 0; k < args.chosen; k++) {
        uint64_t largest = take_largest<HELD>(key);
        if (args.renormalise)
            sum += p_of(largest);
        if (gpu_lane() == k) {
            mine = p_of(largest);
            args.expert[t * args.chosen + k] = expert_of(largest);
        }
    }
    if (gpu_lane() < args.chosen)
        args.weight[t * args.chosen + gpu_lane()] = mine / sum;
}

// ---- Any number of experts ----

// The warp's largest key below `below`.
GPU_FUNCTION uint64_t
largest_below(const float *logits, int32_t experts, float maximum, uint64_t below)
{
    uint64_t key[1] = {0};
    for (int32_t e = gpu_lane(); e < experts; e += GPU_WARP) {
        uint64_t own = key_of(gpu_exp(logits[e] - maximum), e);
        key[0] = own < below && own > key[0] ? own : key[0];
    }
    return take_largest<1>(key);
}

GPU_FUNCTION float sum_of_all(const float *logits, int32_t experts, float maximum)
{
    float sum = 0;
    for (int32_t first = 0; first < experts; first += GPU_WARP) {
        int32_t e = first + gpu_lane(), left = experts - first;
        float p = e < experts ? gpu_exp(logits[e] - maximum) : 0;
        for (int lane = 0; lane < GPU_WARP; lane++) {
            float other = gpu_shuffle(p, lane);
            sum = lane < left ? sum + other : sum;
        }
    }
    return sum;
}

GPU_KERNEL void topk_any(pr_gpu_topk_args args)
{
    int64_t t = (int64_t)gpu_block() * WARPS + gpu_warp();
    if (t >= args.tokens)  // a whole warp
        return;
    const float *logits = args.logits + t * args.experts;
    float maximum = logits[0], sum = 0;
    for (int32_t first = 0; first < args.experts; first += GPU_WARP) {
        float x[1], part = maximum_of<1>(logits + first, args.experts - first, x);
        maximum = part > maximum ? part : maximum;
    }
    if (!args.renormalise)
        sum = sum_of_all(logits, args.experts, maximum);
    uint64_t key = ~(uint64_t)0;
    for (int32_t k = 0; k < args.chosen; k++) {
        key = largest_below(logits, args.experts, maximum, key);
        if (args.renormalise)
            sum += p_of(key);
        if (gpu_lane() == 0) {
            args.expert[t * args.chosen + k] = expert_of(key);
            args.weight[t * args.chosen + k] = p_of(key);
        }
    }
    for (int32_t k = 0; gpu_lane() == 0 && k < args.chosen; k++)
        args.weight[t * args.chosen + k] = args.weight[t * args.chosen + k] / sum;
}

// ---- Host ----

void pr_gpu_topk(pr_gpu_stream *stream, const pr_gpu_topk_args *args)
{
    if (args->tokens <= 0)
        return;
    gpu_grid grid = {((unsigned)args->tokens + WARPS - 1) / WARPS};
    unsigned threads = WARPS * GPU_WARP, shared_bytes = WARPS * (unsigned)args->experts * 4;
    if (args->experts > EXPERTS_MOST || args->chosen > GPU_WARP)
        gpu_launch(topk_any, grid, threads, 0, stream, *args);
    else if (args->experts <= 2 * GPU_WARP)
        gpu_launch(topk_tokens<2>, grid, threads, shared_bytes, stream, *args);
    else if (args->experts <= 4 * GPU_WARP)
        gpu_launch(topk_tokens<4>, grid, threads, shared_bytes, stream, *args);
    else if (args->experts <= 8 * GPU_WARP)
        gpu_launch(topk_tokens<8>, grid, threads, shared_bytes, stream, *args);
    else if (args->experts <= 16 * GPU_WARP)
        gpu_launch(topk_tokens<16>, grid, threads, shared_bytes, stream, *args);
    else
        gpu_launch(
            topk_tokens<EXPERTS_MOST / GPU_WARP>, grid, threads, shared_bytes, stream, *args);
}

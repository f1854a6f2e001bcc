// SPDX-License-Identifier: BSD-3-Clause
// Attention on float32 KV: a warp has one query head of one token and goes over its spans, without tensor cores.
//
//   scores    lane j has positions j, j + GPU_WARP, ...; a dot product is fma in ascending order
//   l         16 lanes, p_j to lane j % 16; added as a tree of neighbours at the end
//   o         lane i has elements i, i + GPU_WARP, ...; positions ascending by fma
//
// Numbers: those of docs/kernels.md for float32 KV, from position 0 to the last in one go, so a row has the bits of the CPU
// reference. Cost: K and V of a KV head are read once for each of its query heads; a long sequence takes its time.
#ifndef PR_GPU_ATTENTION_PLAIN_CUH
#define PR_GPU_ATTENTION_PLAIN_CUH

#include "kernels/gpu/attention/attention_part.cuh"

enum { PLAIN_MOST_HEAD = 256, PLAIN_OWN = PLAIN_MOST_HEAD / GPU_WARP, PLAIN_LANES = 16 };

struct plain_shared {
    float q[PLAIN_MOST_HEAD];
    float p[ATTENTION_SPAN];
};

struct plain_state {
    float maximum, sum;  // sum: this lane's part of l
    float o[PLAIN_OWN];
};

GPU_FUNCTION float plain_score(const float *q, const float *k, int d)
{
    float score = 0.0f;
    for (int i = 0; i < d; i++)
        score = gpu_fma(q[i], k[i], score);
    return score;
}

// Scores of the span's n positions go to p, then p = exp(score - m).
GPU_FUNCTION float plain_weigh(
    const pr_gpu_attention_args &args,
    const attention_work &work,
    plain_state &state,
    int first,
    int n)
{
    auto &shared = gpu_shared<plain_shared>();
    const float *pages = (const float *)args.k_pages;
    float larger = state.maximum;
    for (int j = gpu_lane(); j < n; j += GPU_WARP) {
        const float *k = pages + attention_page_at(args, work, first + j);
        shared.p[j] = plain_score(shared.q, k, args.head_size);
        larger = attention_larger(larger, shared.p[j]);
    }
    for (int mask = 1; mask < GPU_WARP; mask *= 2)
        larger = attention_larger(larger, gpu_shuffle_xor(larger, mask));
    float rescale = attention_exp(state.maximum - larger);
    state.maximum = larger;
    for (int j = gpu_lane(); j < n; j += GPU_WARP)
        shared.p[j] = attention_exp(shared.p[j] - larger);
    gpu_warp_barrier();
    return rescale;
}

GPU_FUNCTION void plain_span(
    const pr_gpu_attention_args &args, const attention_work &work, plain_state &state, int first)
{
    auto &shared = gpu_shared<plain_shared>();
    const float *pages = (const float *)args.v_pages;
    int n = work.positions - first < ATTENTION_SPAN ? work.positions - first : ATTENTION_SPAN;
    float rescale = plain_weigh(args, work, state, first, n);
    state.sum = state.sum * rescale;
    if (gpu_lane() < PLAIN_LANES) {
        for (int j = gpu_lane(); j < n; j += PLAIN_LANES)
            state.sum = state.sum + shared.p[j];
    }
    GPU_UNROLL
    for (int i = 0; i < PLAIN_OWN; i++)
        state.o[i] = state.o[i] * rescale;
    for (int j = 0; j < n; j++) {
        const float *v = pages + attention_page_at(args, work, first + j);
        GPU_UNROLL
        for (int i = 0; i < PLAIN_OWN; i++) {
            int e = i * GPU_WARP + gpu_lane();
            if (e < args.head_size)
                state.o[i] = gpu_fma(shared.p[j], v[e], state.o[i]);
        }
    }
    gpu_warp_barrier();
}

// By one warp: the one packed row work.begin.
GPU_FUNCTION void plain_row(const pr_gpu_attention_args &args, const attention_work &work)
{
    auto &shared = gpu_shared<plain_shared>();
    int64_t at = attention_row_at(args, work.kv_head, work.group, work.begin);
    for (int e = gpu_lane(); e < args.head_size; e += GPU_WARP)
        shared.q[e] = args.q[at + e] * args.scale;
    gpu_warp_barrier();
    plain_state state = {attention_nothing(), 0.0f, {}};
    for (int first = 0; first < work.positions; first += ATTENTION_SPAN)
        plain_span(args, work, state, first);
    for (int mask = 1; mask < PLAIN_LANES; mask *= 2)
        state.sum = state.sum + gpu_shuffle_xor(state.sum, mask);
    float inverse = 1.0f / gpu_shuffle(state.sum, 0);
    GPU_UNROLL
    for (int i = 0; i < PLAIN_OWN; i++) {
        int e = i * GPU_WARP + gpu_lane();
        if (e < args.head_size)
            args.out[at + e] = attention_finished(state.o[i], inverse);
    }
}

#endif

// SPDX-License-Identifier: BSD-3-Clause
// Per-head RMSNorm of q and k, rotary embedding, K and V into pages: one pass over what the three projections left.
//
//   16 lanes have one head of one token: they are the 16 strided lanes of the norm (runtime/device.h), then each of them
//   turns 8 pairs (i, i + d/2) at a time and stores 16 bytes of bfloat16, or 32 of float32.
//   heads of a token: | q 0 .. h-1 | k 0 .. g-1 | v 0 .. g-1 |
//
// Numbers: the CPU reference's, bit by bit. Cost: reads 4 (h + 2 g) d bytes a token, writes q and the pages' bytes once.
#include "kernels/gpu/gpu_operations.h"
#include "kernels/gpu/language/gpu.cuh"

enum { ROPE_LANES = 16, ROPE_THREADS = 256, ROPE_RUN = 8 };

// One head of one token.
struct rope_head {
    const float *x;              // [d]
    float *q;                    // [d]: where it goes back to, or NULL
    void *pages;                 // where it is stored, or NULL
    const float *norm;           // [d], or NULL
    const float *cosine, *sine;  // [d/2], or NULL: not turned
    int64_t at;                  // of its first element in the pages
};

GPU_FUNCTION rope_head rope_head_of(const pr_gpu_rope_store_args &args, int64_t unit)
{
    int h = args.query_heads, g = args.kv_heads, d = args.head_size;
    int heads = h + 2 * g;
    int64_t t = unit / heads;
    int i = (int)(unit % heads);
    int position = args.position[t];
    rope_head head = {};
    if (i < h + g) {
        head.cosine = args.cosine + (int64_t)position * (d / 2);
        head.sine = args.sine + (int64_t)position * (d / 2);
    }
    if (i < h) {
        head.x = head.q = args.q + (t * h + i) * d;
        head.norm = args.q_norm;
        return head;
    }
    int kv = (i - h) % g;
    head.x = (i < h + g ? args.k : args.v) + (t * g + kv) * d;
    head.norm = i < h + g ? args.k_norm : nullptr;
    head.pages = i < h + g ? args.k_pages : args.v_pages;
    int64_t row = ((int64_t)args.block[t] * g + kv) * args.block_tokens;
    head.at = (row + position % args.block_tokens) * d;
    return head;
}

// By every lane of the warp; each 16 of them have one head. active: there is one.
GPU_FUNCTION float rope_inverse(const rope_head &head, bool active, int d, float epsilon)
{
    float sum = 0.0f;
    if (active && head.norm != nullptr) {
        for (int i = gpu_lane() % ROPE_LANES; i < d; i += ROPE_LANES)
            sum = gpu_fma(head.x[i], head.x[i], sum);
    }
    for (int mask = 1; mask < ROPE_LANES; mask *= 2)
        sum = sum + gpu_shuffle_xor(sum, mask);
    return 1.0f / gpu_sqrt(sum / (float)d + epsilon);
}

template <int N> GPU_FUNCTION void rope_load(const float *from, float *to)
{
    if constexpr (N == 1) {
        to[0] = from[0];
    } else {
        GPU_UNROLL
        for (int i = 0; i < N; i += 4) {
            gpu_bytes16 v = gpu_load16(from + i);
            for (int j = 0; j < 4; j++)
                to[i + j] = gpu_from_bits(v.word[j]);
        }
    }
}

template <int N> GPU_FUNCTION void rope_store_f32(float *to, const float *x)
{
    if constexpr (N == 1) {
        to[0] = x[0];
    } else {
        GPU_UNROLL
        for (int i = 0; i < N; i += 4) {
            gpu_bytes16 v;
            for (int j = 0; j < 4; j++)
                v.word[j] = gpu_bits(x[i + j]);
            gpu_store16(to + i, v);
        }
    }
}

template <int N, bool BF16> GPU_FUNCTION void rope_put(const rope_head &head, int e, const float *x)
{
    if (head.q != nullptr) {
        rope_store_f32<N>(head.q + e, x);
    } else if constexpr (!BF16) {
        rope_store_f32<N>((float *)head.pages + head.at + e, x);
    } else if constexpr (N == 1) {
        ((gpu_bf16 *)head.pages)[head.at + e] = gpu_to_bf16(x[0]);
    } else {
        gpu_bytes16 v;
        GPU_UNROLL
        for (int i = 0; i < N; i += 2)
            v.word[i / 2] = gpu_to_bf16_pair(x[i], x[i + 1]);
        gpu_store16((gpu_bf16 *)head.pages + head.at + e, v);
    }
}

// Elements e..e+N-1 as the norm leaves them.
template <int N>
GPU_FUNCTION void rope_normed(const rope_head &head, float inverse, int e, float *x)
{
    rope_load<N>(head.x + e, x);
    if (head.norm == nullptr)
        return;
    float weight[N];
    rope_load<N>(head.norm + e, weight);
    for (int i = 0; i < N; i++)
        x[i] = x[i] * inverse * weight[i];
}

template <int N, bool BF16>
GPU_FUNCTION void rope_run(const rope_head &head, float inverse, int d, int e)
{
    float low[N], high[N];
    rope_normed<N>(head, inverse, e, low);
    rope_normed<N>(head, inverse, e + d / 2, high);
    if (head.cosine != nullptr) {
        float c[N], s[N];
        rope_load<N>(head.cosine + e, c);
        rope_load<N>(head.sine + e, s);
        for (int i = 0; i < N; i++) {
            float x = low[i], y = high[i];
            low[i] = x * c[i] - y * s[i];
            high[i] = y * c[i] + x * s[i];
        }
    }
    rope_put<N, BF16>(head, e, low);
    rope_put<N, BF16>(head, e + d / 2, high);
}

template <int N, bool BF16> GPU_KERNEL void rope_store(pr_gpu_rope_store_args args)
{
    int d = args.head_size, group = gpu_thread() / ROPE_LANES;
    int64_t unit = (int64_t)gpu_block() * (ROPE_THREADS / ROPE_LANES) + group;
    int64_t units = (int64_t)args.tokens * (args.query_heads + 2 * args.kv_heads);
    bool active = unit < units;
    rope_head head = {};
    if (active)
        head = rope_head_of(args, unit);
    float inverse = rope_inverse(head, active, d, args.epsilon);
    if (!active)
        return;
    for (int e = gpu_lane() % ROPE_LANES * N; e < d / 2; e += ROPE_LANES * N)
        rope_run<N, BF16>(head, inverse, d, e);
}

void pr_gpu_rope_store(pr_gpu_stream *stream, const pr_gpu_rope_store_args *args)
{
    int64_t units = (int64_t)args->tokens * (args->query_heads + 2 * args->kv_heads);
    int64_t per_block = ROPE_THREADS / ROPE_LANES;
    gpu_grid grid = {(unsigned)((units + per_block - 1) / per_block), 1, 1};
    if (units == 0)
        return;
    bool runs = args->head_size / 2 % ROPE_RUN == 0;
    if (args->kv_is_bf16)
        gpu_launch(
            runs ? rope_store<ROPE_RUN, true> : rope_store<1, true>, grid, ROPE_THREADS, 0, stream,
            *args);
    else
        gpu_launch(
            runs ? rope_store<ROPE_RUN, false> : rope_store<1, false>, grid, ROPE_THREADS, 0,
            stream, *args);
}

// SPDX-License-Identifier: BSD-3-Clause
// The specification: every kernel but matmul and attention (*_reference.c) in plain C, in the order that
// docs/kernels.md states. A faster kernel is right when it gives these bits. Each fmaf is one rounding; nothing else is fused.
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/cpu_matrix.h"
#include "kernels/cpu/quantized.h"
#include "runtime/base/elementary.h"

// Sum of squares in 16 lanes, then neighbours in pairs: the order of a 16-wide vector.
static float sum_of_squares(const float *x, int32_t n)
{
    float lane[16] = {0};
    for (int32_t i = 0; i < n; i++)
        lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    for (int step = 1; step < 16; step *= 2) {
        for (int j = 0; j < 16; j += 2 * step)
            lane[j] = lane[j] + lane[j + step];
    }
    return lane[0];
}

static void rmsnorm(const pr_rmsnorm_args *args)
{
    int32_t n = args->hidden;
    for (int32_t t = 0; t < args->tokens; t++) {
        float *x = args->x + (size_t)t * (size_t)n;
        float *y = args->y + (size_t)t * (size_t)n;
        for (int32_t i = 0; args->addend != NULL && i < n; i++)
            x[i] = x[i] + args->addend[(size_t)t * (size_t)n + (size_t)i];
        float inverse = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + args->epsilon);
        for (int32_t i = 0; i < n; i++)
            y[i] = x[i] * inverse * args->weight[i];
    }
}

static void rotate(float *x, int32_t d, const float *cosine, const float *sine)
{
    for (int32_t i = 0; i < d / 2; i++) {
        float low = x[i], high = x[i + d / 2];
        x[i] = low * cosine[i] - high * sine[i];
        x[i + d / 2] = high * cosine[i] + low * sine[i];
    }
}

static void store(pr_dtype dtype, void *page, size_t i, float value)
{
    if (dtype == PR_F32)
        ((float *)page)[i] = value;
    else
        ((uint16_t *)page)[i] = pr_f32_to_bf16(value);
}

// Writes one token's K and V of all heads into its page.
static void store_token(const pr_rope_store_args *args, int32_t t)
{
    int32_t g = args->kv_heads, d = args->head_size;
    int32_t slot = args->position[t] % args->block_tokens;
    size_t page = (size_t)args->block[t] * (size_t)g * (size_t)args->block_tokens * (size_t)d;
    for (int32_t head = 0; head < g; head++) {
        const float *k = args->k + ((size_t)t * (size_t)g + (size_t)head) * (size_t)d;
        const float *v = args->v + ((size_t)t * (size_t)g + (size_t)head) * (size_t)d;
        size_t tile = page + pr_tile_offset(slot / PR_TILE, head, d, args->block_tokens);
        int32_t lane = slot % PR_TILE;
        for (int32_t i = 0; i < d; i++) {
            store(args->kv_dtype, args->k_pages, tile + pr_k_place(args->kv_dtype, lane, i), k[i]);
            store(
                args->kv_dtype, args->v_pages, tile + pr_v_place(args->kv_dtype, lane, i, d), v[i]);
        }
    }
}

static void norm_heads(
    const pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t heads,
    float *x,
    const float *weight)
{
    if (weight == NULL)
        return;
    pr_rmsnorm_args norm = {
        .tokens = heads,
        .hidden = args->head_size,
        .x = x,
        .weight = weight,
        .epsilon = args->epsilon,
        .y = x,
    };
    kernels->rmsnorm(&norm);
}

static void rope_store(
    const pr_cpu_kernels *kernels,
    const pr_rope_store_args *args,
    int32_t token_begin,
    int32_t token_end)
{
    int32_t h = args->query_heads, g = args->kv_heads, d = args->head_size;
    for (int32_t t = token_begin; t < token_end; t++) {
        const float *cosine = args->cosine + (size_t)args->position[t] * (size_t)(d / 2);
        const float *sine = args->sine + (size_t)args->position[t] * (size_t)(d / 2);
        float *q = args->q + (size_t)t * (size_t)h * (size_t)d;
        float *k = args->k + (size_t)t * (size_t)g * (size_t)d;
        norm_heads(kernels, args, h, q, args->q_norm);
        norm_heads(kernels, args, g, k, args->k_norm);
        for (int32_t head = 0; head < h; head++)
            rotate(q + (size_t)head * (size_t)d, d, cosine, sine);
        for (int32_t head = 0; head < g; head++)
            rotate(k + (size_t)head * (size_t)d, d, cosine, sine);
        store_token(args, t);
    }
}

static void swiglu(float *gate, const float *up, int64_t elements)
{
    for (int64_t i = 0; i < elements; i++)
        gate[i] = pr_silu(gate[i]) * up[i];
}

static void exponentials(const float *x, float shift, int32_t n, float *y)
{
    for (int32_t i = 0; i < n; i++)
        y[i] = pr_exp(x[i] - shift);
}

static void combine(const pr_combine_args *args)
{
    size_t hidden = (size_t)args->hidden, chosen = (size_t)args->chosen;
    for (size_t t = 0; t < (size_t)args->tokens; t++) {
        for (size_t i = 0; i < hidden; i++) {
            float y = 0.0f;
            for (size_t k = 0; k < chosen; k++) {
                size_t slot = t * chosen + k;
                y = fmaf(args->weight[slot], args->row[slot][i], y);
            }
            args->y[t * hidden + i] = y;
        }
    }
}

void pr_cpu_reference_kernels(pr_cpu_kernels *kernels)
{
    *kernels = (pr_cpu_kernels){
        .matmul =
            {
                [PR_PACKED_F32] = &pr_matmul_float_reference,
                [PR_PACKED_BF16] = &pr_matmul_float_reference,
                [PR_PACKED_F16] = &pr_matmul_float_reference,
                [PR_PACKED_INT8] = &pr_matmul_quantized_reference,
                [PR_PACKED_INT4] = &pr_matmul_quantized_reference,
            },
        .pack =
            {
                [PR_PACKED_F32] = pr_pack_f32_reference,
                [PR_PACKED_BF16] = pr_pack_bf16_reference,
                [PR_PACKED_F16] = pr_pack_f16_reference,
                [PR_PACKED_INT8] = pr_quantized_pack_int8,
                [PR_PACKED_INT4] = pr_quantized_pack_int4,
            },
        .rmsnorm = rmsnorm,
        .combine = combine,
        .swiglu = swiglu,
        .exponentials = exponentials,
        .attend = pr_attend_reference,
        .rope_store = rope_store,
    };
}
